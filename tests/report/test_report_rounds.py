from __future__ import annotations

import pytest

from sead_ray.report import format_table, rounds_table
from sead_ray.storage import Store


def test_counts_are_cumulative_and_shares_are_of_the_pool_alone(make_run):
    run, _ = make_run(3)
    rows = rounds_table(run)
    assert [(row.n_clips, row.n_frames) for row in rows] == [(2, 16), (4, 19), (6, 22)]  # 3 key frames a later round
    assert [row.frames_share for row in rows] == [16 / 80, 19 / 80, 22 / 80]  # 10 pool clips of 8; val not counted
    assert [row.clips_share for row in rows] == [0.2, 0.4, 0.6]
    assert rows[1].gain == pytest.approx(1 / rows[1].l2_m["avg"] / (19 / 80))
    assert [row.n_without_key_frame for row in rows] == [None, 1, 1]


def test_seconds_add_up_over_the_stages_of_a_round(make_run):
    run, _ = make_run(2)
    first, second = rounds_table(run)
    assert first.seconds == {"selection": 0.5, "model": 33.5, "evaluation": 2.5}
    assert second.seconds_total == pytest.approx(first.seconds_total + 4.25)


def test_a_round_counts_only_once_its_selection_is_published(make_run):
    run, _ = make_run(2)
    run.remove("rounds/01/selection/manifest.json")
    assert [row.round for row in rounds_table(run)] == [0]


def test_an_evaluation_without_its_manifest_is_not_read(make_run):
    run, _ = make_run(2)
    run.remove("rounds/01/evaluation/manifest.json")
    row = rounds_table(run)[1]
    assert row.l2_m == {}
    assert row.gain is None
    assert "evaluation" not in row.seconds


def test_an_empty_run_has_no_rows(tmp_path):
    rows = rounds_table(Store(str(tmp_path)))
    assert rows == []
    assert format_table(rows).splitlines()[0].startswith("round  clips  frames")


def test_the_printed_table_is_aligned_and_holds_the_numbers(make_run):
    run, _ = make_run(3, last_stage="selection")
    lines = format_table(rounds_table(run)).splitlines()
    assert len(lines) == 5
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split() == ["0", "2", "16", "20.0", "%", "0.80", "0.30", "36.5"]
    assert lines[3].split() == ["1", "4", "19", "23.8", "%", "0.64", "0.24", "40.8"]
    assert lines[4].split() == ["2", "6", "22", "27.5", "%", "–", "–", "4.8"]  # only scored and selected so far
