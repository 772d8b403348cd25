"""What the tables of all clips, of kinds of clips and of two runs say."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from sead_ray.config import RunConfig
from sead_ray.report.clip_table import TableRow, as_script_data, choices, table_rows
from sead_ray.report.compare import overlap, round_pairs, settings_that_differ
from sead_ray.report.evaluations import tiles
from sead_ray.report.plots import metric_curve
from sead_ray.report.read import quarantined, score_table
from sead_ray.report.rounds import evaluation_of, rounds_table, selection_rows
from sead_ray.report.scored import ScoredRound
from sead_ray.report.strata import kinds_of, stratum_of
from sead_ray.report.tables import clip_facts, smallest_of_lists
from sead_ray.storage import Store

CONFIG = RunConfig()


def scored_rounds(run: Store, config: RunConfig = CONFIG, n_rounds: int = 3) -> list[ScoredRound]:
    return [
        ScoredRound(
            index, "sead" if index else "stratified", score_table(run, index), selection_rows(run, index), config
        )
        for index in range(n_rounds)
    ]


def rows_of(run: Store, excluded: set[str] = frozenset()) -> dict[str, TableRow]:
    pool = clip_facts(run, "pool")
    strata = stratum_of(pool, CONFIG.select.valuable_ratio)
    rows = table_rows(pool, strata, scored_rounds(run), quarantined(run), set(excluded), {"clip02": "card-1-0"})
    return {row.token: row for row in rows}


def test_every_pool_clip_has_a_row_bought_ones_first(finished_run):
    rows = rows_of(finished_run[0])
    assert list(rows)[:6] == [f"clip{number:02d}" for number in range(6)]
    assert sorted(rows) == [f"clip{number:02d}" for number in range(10)]  # none of val
    assert [row.state for row in rows.values()] == ["round 0"] * 2 + ["round 1"] * 2 + ["round 2"] * 2 + [
        "not bought"
    ] * 3 + ["failed"]


def test_a_row_says_why(finished_run):
    rows = rows_of(finished_run[0])
    assert rows["clip02"].reason == "largest shift 0"
    assert rows["clip02"].frames_bought == "2–4"
    assert rows["clip02"].anchor == "card-1-0"
    assert rows["clip02"].history == [[1, 9.0, 1, 7]]  # the first of the seven that round 1 scored
    # in round 2 the clips 4 to 8 have shifts 9, 8, 7, …, and 9 and 8 were taken (their purchases say 9 and 8)
    assert rows["clip06"].reason.startswith("Ranks 3 of 5 with a feature shift of agents and maps (sum) of 7; ")
    assert "the last of 2 taken has 8" in rows["clip06"].reason
    assert rows["clip09"].reason == "Could not be scored: samples/x.jpg is truncated"
    assert (rows["clip09"].score, rows["clip09"].history[-1]) == (None, [2, None, None, 5])


def test_clips_that_may_not_be_bought_say_so(make_run):
    run, _ = make_run(2)
    run.write_json("quarantine.json", {"clip07": "three workers died on it"})
    rows = rows_now(run, excluded={"clip08"})
    assert (rows["clip07"].state, rows["clip07"].reason) == ("quarantined", "three workers died on it")
    assert rows["clip08"].state == "excluded"


def rows_now(run: Store, excluded: set[str]) -> dict[str, TableRow]:
    pool = clip_facts(run, "pool")
    strata = stratum_of(pool, CONFIG.select.valuable_ratio)
    rounds = scored_rounds(run, n_rounds=len(rounds_table(run)))
    rows = table_rows(pool, strata, rounds, quarantined(run), excluded, {})
    return {row.token: row for row in rows}


def test_by_mean_the_ranking_divides_by_the_transitions(finished_run):
    config = RunConfig.model_validate({"score": {"rank_by": "mean"}})
    by_sum, by_mean = (scored_rounds(finished_run[0], chosen)[1] for chosen in (CONFIG, config))
    known = np.isfinite(by_sum.values)
    assert by_mean.values[known] == pytest.approx(by_sum.values[known] / 7)
    assert (by_mean.ranks == by_sum.ranks).all()


def test_the_script_data_ends_no_script_and_comes_back_whole(finished_run):
    row = next(iter(rows_of(finished_run[0]).values()))
    nasty = "</script><!-- <script>\u2028 & 'ü"
    text = as_script_data([TableRow(**{**vars(row), "description": nasty, "nearest_m": None})])
    assert not {"<", ">", "&", "\u2028"} & set(text)
    content = json.loads(text)
    assert dict(zip(content["columns"], content["rows"][0]))["description"] == nasty


def test_choices_are_those_of_the_rows(finished_run):
    found = choices(list(rows_of(finished_run[0]).values()))
    assert found["state"] == ["failed", "not bought", "round 0", "round 1", "round 2"]
    assert found["light"] == ["day", "night"]


def test_kinds_hold_shares_before_and_after(finished_run):
    pool = clip_facts(finished_run[0], "pool")
    strata = stratum_of(pool, 1 / 3)
    kinds = {(kind.group, kind.name): kind for kind in kinds_of(pool, strata, [{"clip00", "clip03"}, {"clip00"}])}
    night = kinds["Light", "night"]  # clips 0, 3, 6 and 9 of 10
    assert (night.n_pool, night.pool_share, night.bought, night.shares) == (4, 0.4, [2, 1], [1.0, 1.0])
    assert night.ratio == pytest.approx(2.5)
    assert kinds["Light", "day"].ratio == 0
    for group in ("Stratum", "Light", "Weather", "Behaviour", "Location"):
        assert sum(kind.pool_share for (found, _), kind in kinds.items() if found == group) == pytest.approx(1)


def test_clips_without_dynamics_have_no_stratum_and_the_other_kinds_stay(finished_run):
    pool = clip_facts(finished_run[0], "pool")
    lost = pool.set_column(
        pool.column_names.index("acc_std_mps2"), "acc_std_mps2", pa.array([float("nan")] * len(pool))
    )
    strata = stratum_of(lost, 1 / 3)
    assert set(strata) == {""}
    assert {kind.group for kind in kinds_of(lost, strata, [])} == {"Light", "Weather", "Behaviour", "Location"}


def test_long_texts_are_cut(make_run):
    run, _ = make_run(1, description="x" * 5000)
    assert len(next(iter(rows_now(run, set()).values())).description) == 400


def test_tiles_show_the_last_evaluated_round_with_its_interval(finished_run):
    run = finished_run[0]
    found = {tile["label"]: tile for tile in tiles(rounds_table(run), evaluation_of(run, 2))}
    assert found["Average L2"]["value"] == "0.48 m"
    assert found["Average L2"]["note"].startswith("95 % interval ")
    assert found["Labelled frames"]["value"] == "22"
    assert tiles([], None) == []


def test_the_curve_over_seeds_shows_their_mean(finished_run):
    rows = rounds_table(finished_run[0])
    one, several = (metric_curve(rows, None, "l2_m", "L2 (m)", seeds) for seeds in ((), [rows, rows]))
    assert one is not None
    assert several is not None
    assert "mean of 3 seeds" in several
    assert "mean of" not in one
    nothing_shared = metric_curve(rows, None, "l2_m", "L2 (m)", [[]])
    assert nothing_shared is not None
    assert "mean of" not in nothing_shared


def test_two_runs_are_paired_by_round(make_run, finished_run):
    run, _ = make_run(2)
    rows = rounds_table(finished_run[0]), rounds_table(run)
    pairs = round_pairs(finished_run[0], run, rows)
    assert [(pair.first is None, pair.second is None) for pair in pairs] == [(False, False)] * 2 + [(False, True)]
    assert pairs[0].difference == {"l2_m": 0.0, "collision_percent": 0.0}
    assert pairs[0].verdict("l2_m") == "no clear difference"
    found = overlap(finished_run[0], run, rows)
    assert (found.n_both, found.n_first, found.n_second, found.jaccard) == (4, 6, 4, pytest.approx(2 / 3))


def test_settings_that_differ_are_named_by_dotted_keys():
    first = RunConfig.model_validate({"seed": 1}).model_dump(mode="json")
    second = RunConfig.model_validate({"seed": 2, "train": {"epochs": 3}}).model_dump(mode="json")
    assert settings_that_differ(first, second) == [("seed", 1, 2), ("train.epochs", 20, 3)]


def test_the_smallest_of_each_list_and_infinity_for_none():
    lists = pa.chunked_array([[[3.0, 1.0], []], [[], [2.0]], [[]]])
    assert smallest_of_lists(lists).tolist() == [1.0, float("inf"), float("inf"), 2.0, float("inf")]
