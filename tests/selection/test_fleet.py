"""Selection from Parquet files, in streams; and the bench that measures it at the size of a fleet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.bench_selection import job
from sead_ray.schemas import SCORE_SCHEMA, SELECTION_SCHEMA
from sead_ray.selection import NEEDS_SCORES, STRATEGIES, Budget, Pool
from sead_ray.selection.bench import SelectionBench
from sead_ray.storage import Store
from tests.selection.pools import QUICK, make_clips, make_scores

CLIPS = make_clips(50)
SCORES = make_scores(CLIPS, [clip.clip_token for clip in CLIPS[45:]])


@pytest.fixture
def files(tmp_path: Path) -> tuple[Store, list[str]]:
    """The scores in shuffled order over five files."""
    store, order = Store(str(tmp_path)), np.random.default_rng(0).permutation(list(SCORES))
    names = [f"scores/part-{number}.parquet" for number in range(5)]
    for number, name in enumerate(names):
        rows = [replace(SCORES[token]).to_row() for token in order[number::5]]
        store.write_table(name, rows, SCORE_SCHEMA, group=3)
    return store, names


@pytest.mark.parametrize("name", sorted(NEEDS_SCORES))
@pytest.mark.parametrize("budget", [Budget(clips=11), Budget(frames=30)], ids=str)
def test_from_files_as_from_memory(files: tuple[Store, list[str]], name: str, budget: Budget) -> None:
    store, names = files
    on_disk = Pool.from_dataset(store.dataset(names, SCORE_SCHEMA), round=1)
    in_memory = Pool.from_clips(CLIPS, SCORES, round=1)

    def rows(pool: Pool):
        return [replace(row, stratum="") for row in STRATEGIES[name](pool, budget, np.random.default_rng(2), QUICK)]

    assert rows(on_disk) == rows(in_memory)


def test_the_bench_in_small(tmp_path: Path) -> None:
    bench = SelectionBench(
        folder=str(tmp_path),
        clips=3000,
        embeddings=400,
        channels=8,
        picks=20,
        baseline_embeddings=100,
        baseline_picks=5,
    )
    answer = job(bench)
    lines = answer.splitlines()
    assert lines[1].split()[:3] == ["sead,", "streamed", "scores"]
    assert " 30 " in lines[1]
    assert lines[2].startswith("coreset")
    assert "scikit-activeml" in answer
    rows = list(Store(str(tmp_path)).iter_rows("selection.parquet", SELECTION_SCHEMA))
    assert len(rows) == 30
    scores = [
        row
        for part in Store(str(tmp_path)).list("scores-3000-0", suffix=".parquet")
        for row in Store(str(tmp_path)).iter_rows(f"scores-3000-0/{part}", SCORE_SCHEMA)
    ]
    good = [row for row in scores if row["selectable"] and row["status"] == "ok"]
    best = sorted(good, key=lambda row: (-row["shift_sum"], row["clip_token"]))[:30]
    assert [row["clip_token"] for row in rows] == [row["clip_token"] for row in best]
