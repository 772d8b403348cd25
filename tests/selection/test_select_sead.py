from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from sead_ray.config import SelectConfig
from sead_ray.errors import InputError
from sead_ray.records import ClipScore, Selection
from sead_ray.selection import Budget, Pool, PoolClip
from sead_ray.selection.ranking import _Best, top_n
from sead_ray.selection.sead import select

RNG = np.random.default_rng(0)


def clip(token: str) -> PoolClip:
    return PoolClip(token, 10, False, False, 0.0, 0.0, "can", "straight", "DS-N")


def score(token: str, shift: float, key: tuple[int, int] = (0, 0), status: str = "ok", mean: float = 0.0) -> ClipScore:
    return ClipScore(
        token, "v1", status, n_frames=10, shift_sum=shift, shift_mean=mean, key_start=key[0], key_length=key[1]
    )


# Ranked by the sum: c (no key frame), a, e (tie with a, larger token), d (no key frame), b; f failed with a huge shift
POOL = [clip(token) for token in "abcdef"]
SCORES = {
    "a": score("a", 5.0, (3, 4), mean=0.1),
    "b": score("b", 1.0, (0, 10), mean=0.9),
    "c": score("c", 9.0, mean=0.5),
    "d": score("d", 2.0, mean=0.2),
    "e": score("e", 5.0, (9, 1), mean=0.3),
    "f": score("f", 99.0, (0, 5), status="failed"),
}


def brief(rows: list[Selection]) -> list[tuple[str, int, int, int, int]]:
    return [(row.clip_token, row.frame_start, row.frame_stop, row.n_frames_bought, row.rank) for row in rows]


def run(n_clips: int, rank_by="sum", scores=SCORES, pool=POOL, **settings) -> list[Selection]:
    return select(
        Pool.from_clips(pool, scores, round=1, rank_by=rank_by), Budget(clips=n_clips), RNG, SelectConfig(**settings)
    )


def test_drop_buys_no_frame_of_a_clip_without_key_frames() -> None:
    rows = run(4)
    assert brief(rows) == [("c", 0, 0, 0, 1), ("a", 3, 7, 4, 2), ("e", 9, 10, 1, 3), ("d", 0, 0, 0, 4)]
    assert [row.score for row in rows] == [9.0, 5.0, 5.0, 2.0]
    assert {row.stratum for row in rows} == {"DS-N"}
    assert rows[1].reason == (
        "Feature shift of agents and maps (sum) 5 ranks 2 of 5; frames 3 to 6 of 10 are its longest run of key frames."
    )
    assert "adds none (drop)" in rows[0].reason


def test_keep_clip_buys_it_whole() -> None:
    assert brief(run(2, without_key_frame="keep_clip")) == [("c", 0, 10, 10, 1), ("a", 3, 7, 4, 2)]


def test_next_ranked_gives_the_place_away() -> None:
    rows = run(3, without_key_frame="next_ranked")
    assert brief(rows) == [("a", 3, 7, 4, 1), ("e", 9, 10, 1, 2), ("b", 0, 10, 10, 3)]


def test_next_ranked_with_too_few_key_clips_is_an_input_error() -> None:
    with pytest.raises(InputError, match="4 clips, but only 3 of 5 scored clips have a key frame"):
        run(4, without_key_frame="next_ranked")


@pytest.mark.parametrize("mode", ["drop", "keep_clip", "next_ranked"])
def test_without_key_frames_whole_clips_are_bought(mode: str) -> None:
    rows = run(2, key_frames=False, without_key_frame=mode)
    assert brief(rows) == [("c", 0, 10, 10, 1), ("a", 0, 10, 10, 2)]


def test_rank_by_mean() -> None:
    rows = run(5, rank_by="mean")
    assert [row.clip_token for row in rows] == ["b", "c", "e", "d", "a"]
    assert [row.score for row in rows] == [0.9, 0.5, 0.3, 0.2, 0.1]


def test_failed_clips_are_never_selected() -> None:
    assert "f" not in {row.clip_token for row in run(5)}
    with pytest.raises(InputError, match=r"6 clips, but only 5 of 6 clips .*\(1 failed"):
        run(6)


def test_scores_of_different_models_do_not_mix() -> None:
    mixed = {**SCORES, "b": replace(SCORES["b"], model_version="v2")}
    with pytest.raises(InputError, match=r"different models \(v1, v2\)"):
        run(2, scores=mixed)
    assert len(run(2, scores=mixed, pool=[c for c in POOL if c.clip_token != "b"])) == 2


def test_no_scores() -> None:
    with pytest.raises(InputError, match=r"needs .*shift_sum.* score the pool first"):
        run(2, scores=None)


def test_a_clip_without_a_score_is_named() -> None:
    with pytest.raises(InputError, match="Clip d of the pool has no score"):
        run(2, scores={token: value for token, value in SCORES.items() if token != "d"})


def test_a_score_of_other_frames_is_refused() -> None:
    with pytest.raises(InputError, match="Clip a has 10 frames, but its score is of 12"):
        run(2, scores={**SCORES, "a": replace(SCORES["a"], n_frames=12)})


def test_uses_no_randomness() -> None:
    generator = np.random.default_rng(5)
    select(Pool.from_clips(POOL, SCORES), Budget(clips=3), generator)
    assert generator.random() == np.random.default_rng(5).random()


@pytest.mark.parametrize(
    ("shift", "column", "order"),
    [
        ("agents_and_maps", "shift_sum", "abc"),
        ("agents", "shift_agents_sum", "bca"),
        ("maps", "shift_map_sum", "cab"),
        ("bev", "shift_bev_sum", "bac"),
    ],
)
def test_whose_shift_ranks(shift: str, column: str, order: str) -> None:
    scores = {
        token: replace(score(token, 9.0 - index), shift_agents_sum=agents, shift_map_sum=maps, shift_bev_sum=bev)
        for index, (token, agents, maps, bev) in enumerate([("a", 1, 2, 2), ("b", 3, 1, 3), ("c", 2, 3, 1)])
    }
    rows = run(3, scores=scores, pool=POOL[:3], shift=shift)
    assert "".join(row.clip_token for row in rows) == order
    assert rows[0].score == getattr(scores[order[0]], column)


def test_the_mean_of_one_shift_is_over_the_transitions() -> None:
    scores = {
        "a": replace(score("a", 0.0), shift_agents_sum=6.0, n_transitions=3),
        "b": replace(score("b", 0.0), shift_agents_sum=5.0, n_transitions=2),
    }
    rows = run(2, rank_by="mean", scores=scores, pool=POOL[:2], shift="agents")
    assert [(row.clip_token, row.score) for row in rows] == [("b", 2.5), ("a", 2.0)]


def test_a_bev_shift_that_was_not_scored_is_asked_for() -> None:
    with pytest.raises(InputError, match=r"whole BEV: score the pool again with score\.bev_shift"):
        run(2, shift="bev")


def test_a_shift_that_is_not_a_number_names_its_clip() -> None:
    with pytest.raises(InputError, match="Clip b has a score that is not a number"):
        run(2, scores={**SCORES, "b": score("b", float("nan"))})


def test_the_running_best_equals_a_full_sort() -> None:
    """Many batches, many ties, pruned on the way."""
    rng = np.random.default_rng(1)
    tokens = [f"t{i:05d}" for i in rng.permutation(9000)]
    values = rng.integers(0, 50, 9000).astype(float)
    table = pa.table({"clip_token": tokens, "x": values})

    def read(columns):
        yield from table.select(columns).to_batches(max_chunksize=100)

    pool = Pool(read, frozenset(table.column_names))
    for n in (1, 37, 3000):
        best = _Best(n)
        for batch in pool.batches(["x"]):
            best.add(batch, batch.column("x").to_numpy())
            best._prune()
        expected = sorted(zip(-values, tokens))[:n]
        got = best.table()
        assert list(zip((-got.column("value").to_numpy()).tolist(), got.column("clip_token").to_pylist())) == expected
        streamed = top_n(pool, n, ["x"], lambda batch: batch.column("x").to_numpy())
        assert streamed.table.column("clip_token").to_pylist() == [token for _, token in expected]
        assert (streamed.n_selectable, streamed.n_ranked) == (9000, 9000)
