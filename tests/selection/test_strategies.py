"""What every strategy keeps, whatever it prefers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest

from sead_ray.config import SELECT_PRESETS, IncrementalStrategy, InitialStrategy, SelectConfig
from sead_ray.errors import InputError
from sead_ray.schemas import SELECTION_SCHEMA
from sead_ray.selection import INCREMENTAL, INITIAL, STRATEGIES, Budget, Pool, needs, strategy
from sead_ray.selection.strata import STRATA
from tests.selection.pools import QUICK, make_clips, make_scores

CLIPS = make_clips(46)
LABELLED = tuple(clip.clip_token for clip in CLIPS[40:])
SCORES = make_scores(CLIPS, LABELLED)
FREE = {clip.clip_token: clip for clip in CLIPS[:40]}
POOL = Pool.from_clips(CLIPS, SCORES, round=2)
SEEDED = {"random", "random_frames", "stratified", "activeft", "vaal"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that takes a `name` runs for all strategies, or for those of the option `--strategy`."""
    names = metafunc.config.getoption("strategy") or sorted(STRATEGIES)
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", names)
    if "by_score" in metafunc.fixturenames:
        metafunc.parametrize("by_score", [name for name in names if "scores" in needs(name)])


def run(name: str, budget: Budget, pool: Pool = POOL, seed: int = 3, config: SelectConfig = QUICK):
    return strategy(name)(pool, budget, np.random.default_rng(seed), config)


def test_the_registry_is_what_the_configuration_offers() -> None:
    assert set(INITIAL) == set(get_args(InitialStrategy))
    assert set(INCREMENTAL) == set(get_args(IncrementalStrategy))
    assert set(STRATEGIES) == set(INITIAL) | set(INCREMENTAL)


@pytest.mark.parametrize("preset", SELECT_PRESETS)
def test_presets_set_the_arms(preset: str) -> None:
    config = SelectConfig(preset=preset)
    assert {key: getattr(config, key) for key in SELECT_PRESETS[preset]} == SELECT_PRESETS[preset]
    assert SelectConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize("n_clips", [1, 13, 40])
def test_size_ranks_no_duplicates_and_nothing_labelled(name: str, n_clips: int) -> None:
    rows = run(name, Budget(clips=n_clips))
    tokens = {row.clip_token for row in rows}
    assert len(rows) == len(tokens) == n_clips
    assert not tokens & set(LABELLED)
    assert [row.rank for row in rows] == list(range(1, n_clips + 1))
    assert {row.round for row in rows} == {2}
    for row in rows:
        assert 0 <= row.frame_start <= row.frame_stop <= FREE[row.clip_token].n_frames
        assert row.n_frames_bought == row.frame_stop - row.frame_start
        assert row.stratum in STRATA
        assert row.reason.endswith(".")


@pytest.mark.parametrize("n_frames", [1, 60])
def test_a_budget_in_frames_is_met_exactly(name: str, n_frames: int) -> None:
    rows = run(name, Budget(frames=n_frames))
    assert sum(row.n_frames_bought for row in rows) == n_frames
    assert len({row.clip_token for row in rows}) == len(rows)
    assert not {row.clip_token for row in rows} & set(LABELLED)
    assert rows == run(name, Budget(frames=n_frames))


def test_the_order_of_the_pool_does_not_matter(name: str) -> None:
    rows = run(name, Budget(clips=9))
    shuffled = [CLIPS[i] for i in np.random.default_rng(5).permutation(len(CLIPS))]
    assert run(name, Budget(clips=9), Pool.from_clips(shuffled, SCORES, round=2)) == rows


def test_batches_do_not_matter(name: str) -> None:
    def in_pieces(columns):
        for batch in POOL.read(columns):
            yield from (batch.slice(start, 7) for start in range(0, len(batch), 7))

    assert run(name, Budget(clips=9), replace(POOL, read=in_pieces)) == run(name, Budget(clips=9))


def test_the_seed_decides(name: str) -> None:
    assert run(name, Budget(clips=9)) == run(name, Budget(clips=9))
    choices = {tuple(row.clip_token for row in run(name, Budget(clips=9), seed=s)) for s in range(4)}
    if name in STRATEGIES:
        assert (len(choices) > 1) == (name in SEEDED)


def test_labelled_and_excluded_clips_never_return(name: str) -> None:
    """Whether the scores mark a bought clip or the round's own ledger does, and whoever took a clip out."""
    late, never = frozenset(list(FREE)[:5]), frozenset(list(FREE)[5:20])
    pool = replace(POOL, labelled=late, excluded=never)
    tokens = {row.clip_token for row in run(name, Budget(clips=20), pool)}
    assert tokens == set(FREE) - late - never
    with pytest.raises(InputError, match="21 clips, but only 20"):
        run(name, Budget(clips=21), pool)


def test_empty_pool(name: str) -> None:
    nothing = Pool.from_clips([], {})
    everything_bought = replace(POOL, labelled=frozenset(FREE))
    for pool in (nothing, everything_bought):
        for budget in (Budget(clips=1), Budget(frames=1)):
            with pytest.raises(InputError, match="pool is empty"):
                run(name, budget, pool)


def test_a_budget_beyond_the_pool(name: str) -> None:
    with pytest.raises(InputError, match="41 clips, but only 40"):
        run(name, Budget(clips=41))
    with pytest.raises(InputError, match="100000 frames, but only"):
        run(name, Budget(frames=100_000))


def test_nothing_asked_for(name: str) -> None:
    with pytest.raises(InputError, match="at least 1 clip, but 0 were asked"):
        run(name, Budget(clips=0))
    with pytest.raises(InputError, match="at least 1 frame, but 0 were asked"):
        run(name, Budget(frames=0))


def test_a_clip_twice(name: str) -> None:
    with pytest.raises(InputError, match=r"clip-\d\d is in the pool twice"):
        run(name, Budget(clips=40), Pool.from_clips([*CLIPS, *CLIPS[:3]], SCORES))


def test_rows_fit_their_parquet_schema(name: str) -> None:
    rows = [row.to_row() for row in run(name, Budget(clips=5))]
    assert pa.Table.from_pylist(rows, schema=SELECTION_SCHEMA).num_rows == 5


def test_failed_clips_are_never_selected_and_models_do_not_mix(by_score: str) -> None:
    failed = {token: replace(SCORES[token], status="failed", embedding=[]) for token in list(FREE)[:3]}
    pool = Pool.from_clips(CLIPS, {**SCORES, **failed})
    assert not {row.clip_token for row in run(by_score, Budget(clips=37), pool)} & set(failed)
    with pytest.raises(InputError, match="38 clips, but only 37 of 40"):
        run(by_score, Budget(clips=38), pool)
    mixed = Pool.from_clips(CLIPS, {**SCORES, "clip-05": replace(SCORES["clip-05"], model_version="other")})
    with pytest.raises(InputError, match=r"different models \(model, other\)"):
        run(by_score, Budget(clips=3), mixed)


def test_without_scores_the_strategy_says_so(by_score: str) -> None:
    with pytest.raises(InputError, match="score the pool first"):
        run(by_score, Budget(clips=3), Pool.from_clips(CLIPS))


@pytest.mark.parametrize("ours", sorted(set(INITIAL) - {"activeft"}))
def test_initial_strategies_need_no_scores_and_buy_whole_clips(ours: str) -> None:
    rows = run(ours, Budget(clips=8), Pool.from_clips(CLIPS))
    assert all((row.frame_start, row.frame_stop) == (0, dict_frames(row.clip_token)) for row in rows)
    assert all(row.score is None for row in rows)


def dict_frames(token: str) -> int:
    return next(clip.n_frames for clip in CLIPS if clip.clip_token == token)


@pytest.mark.parametrize("ours", ["coreset", "vaal", "sead_diverse", "activeft"])
def test_a_pool_beyond_the_limit_is_sampled(ours: str) -> None:
    config = QUICK.model_copy(update={"max_candidates": 12})
    rows = run(ours, Budget(clips=12), config=config)
    assert len({row.clip_token for row in rows}) == 12
    shuffled = Pool.from_clips(CLIPS[::-1], SCORES, round=2)
    assert run(ours, Budget(clips=12), shuffled, config=config) == rows


def test_a_strategy_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of docs/strategies.md, as its reader would write it."""
    page = (Path(__file__).parents[2] / "docs/strategies.md").read_text()
    code = page.split("```python\n", 1)[1].split("```", 1)[0]
    assert len(code.splitlines()) < 40
    (tmp_path / "unsure_at_night.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = SelectConfig(incremental="unsure_at_night:select")
    assert needs(config.incremental) == {"scores"}
    rows = run(config.incremental, Budget(clips=5))
    unsure = {token: SCORES[token].agent_uncertainty * (1 + FREE[token].is_night) for token in FREE}
    assert [row.clip_token for row in rows] == sorted(FREE, key=lambda token: -unsure[token])[:5]


@pytest.mark.parametrize("wrong", ["not_there:select", "json:not_there", "math:pi"])
def test_a_strategy_that_cannot_be_used(wrong: str) -> None:
    with pytest.raises(InputError, match=f"The strategy {wrong} "):
        strategy(wrong)


def test_a_strategy_without_a_module_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(ValueError, match=r"'seed' is none of sead, random, .* nor module:function"):
        SelectConfig(incremental="seed")
