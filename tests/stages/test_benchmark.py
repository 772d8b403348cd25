"""The benchmark: cells, what they share, restart, tables; and the ablation of the feature shift. On the loop's run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sead_ray.config import RunConfig, ScoreConfig, SelectConfig, TrainConfig
from sead_ray.errors import InputError
from sead_ray.scoring.ablation import reductions
from sead_ray.stages import benchmark_cells, layout
from sead_ray.stages.ablate_shift import ablate_shift
from sead_ray.stages.benchmark import arms_of, run_benchmark, with_share_of_gpus
from sead_ray.stages.benchmark_cells import Cell, cell_config, may_start, start_config
from sead_ray.storage import Store


def _link(source: Store, target: Store, *keys: str) -> None:
    for key in keys:
        shutil.copytree(source.path(key), target.path(key), copy_function=lambda a, b: Path(b).hardlink_to(a))


def test_arms() -> None:
    assert arms_of("random, coreset") == ["random", "coreset"]
    assert arms_of("random_frames") == ["sead", "random_frames"]  # whose frames it matches comes first
    assert {"complete", "vaal", "activead", "sead_bev", "weighted"} <= set(arms_of("all"))
    assert arms_of("all")[-1] == "random_frames"
    with pytest.raises(InputError, match="'magic' is none of complete, random"):
        arms_of("random,magic")


def test_cells_differ_in_arm_and_seed_alone() -> None:
    config, root = RunConfig(seed=5, select=SelectConfig(without_key_frame="keep_clip")), Store("/bench")
    mine = cell_config(root, config, Cell("sead_bev", 2))
    assert (mine.run_dir, mine.seed) == ("/bench/cells/sead_bev/seed-2", 7)
    assert (mine.select.shift, mine.select.without_key_frame) == ("bev", "keep_clip")
    assert mine.model_copy(update={"run_dir": "", "seed": 5, "select": config.select}) == config.model_copy(
        update={"run_dir": ""}
    )
    assert cell_config(root, config, Cell("complete", 0)).select.rounds == [1.0]
    assert cell_config(root, config, Cell("random_frames", 1)).select.match_run == "/bench/cells/sead/seed-1"
    starts = {arm: start_config(root, cell_config(root, config, Cell(arm, 0))).run_dir for arm in arms_of("all")}
    assert starts["random"] == starts["coreset"] == starts["vaal"] == "/bench/starts/random/seed-5"
    assert starts["sead"] == starts["stratified_random"] == starts["sead_maps"] != starts["random"]


@pytest.fixture
def begun(loop_run: Store, loop_config: RunConfig, tmp_path: Path) -> tuple[Store, RunConfig]:
    """A benchmark whose only cell lacks nothing but its last evaluation."""
    root = Store(str(tmp_path / "bench"))
    cell = root.below(Cell("sead", 0).folder)
    folders = [layout.CLIPS, layout.LABELS, layout.scores(1), layout.evaluation(0)]
    folders += [folder(number) for number in (0, 1) for folder in (layout.selection, layout.model)]
    _link(loop_run, cell, *folders)
    return root, loop_config.model_copy(update={"run_dir": root.root})


def test_a_stopped_cell_goes_on_and_the_tables_are_written(
    begun: tuple[Store, RunConfig], loop_run: Store, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, config = begun
    answer = run_benchmark(config, ["sead"], 1)
    cell = root.below(Cell("sead", 0).folder)
    again = cell.read_json(f"{layout.evaluation(1)}/evaluation.json")
    before = loop_run.read_json(f"{layout.evaluation(1)}/evaluation.json")
    assert again["planner"]["l2_m"]["avg"] == pytest.approx(before["planner"]["l2_m"]["avg"], rel=1e-4)
    assert "| vad_nano | 50 % | SEAD |" in answer
    for name in ("table_1", "table_2", "table_3", "figure_5"):
        for suffix in ("parquet", "md", "svg"):
            assert root.exists(f"tables/{name}.{suffix}")
    rows = pq.read_table(root.path("tables/table_1.parquet")).to_pylist()
    assert [(row["percent"], row["method"], row["n_seeds"]) for row in rows] == [(25, "SEAD", 1), (50, "SEAD", 1)]
    assert rows[1]["l2_m_avg"] == again["planner"]["l2_m"]["avg"]
    assert rows[1]["frames_percent"] > rows[0]["frames_percent"] > 0

    monkeypatch.setattr(benchmark_cells, "run_rounds", lambda _: pytest.fail("a finished cell was run again"))
    assert run_benchmark(config, ["sead"], 1) == answer


def test_two_cells_at_once(begun: tuple[Store, RunConfig], ray_cluster: None) -> None:
    root, config = begun
    shutil.copytree(root.path(Cell("sead", 0).folder), root.path(Cell("sead_whole_clips", 0).folder))
    answer = run_benchmark(config, ["sead", "sead_whole_clips"], 1, at_once=2)
    assert "| vad_nano | 50 % | SEAD |" in answer
    for arm in ("sead", "sead_whole_clips"):
        cell = root.below(Cell(arm, 0).folder)
        assert cell.is_published(layout.evaluation(1))
        assert "evaluate round 1: " in cell.read_bytes("log.txt").decode()


def test_a_run_waits_for_the_first_round_and_the_frames_that_it_shares(tmp_path: Path) -> None:
    root, config = Store(str(tmp_path)), RunConfig(run_dir=str(tmp_path))
    sead, whole, frames, other = (Cell(arm, 0) for arm in ("sead", "sead_whole_clips", "random_frames", "random"))
    everything = Cell("complete", 0)

    def may(cell: Cell, *under_way: Cell, waiting: Sequence[Cell] = ()) -> bool:
        return may_start(root, config, cell, under_way, waiting)

    assert may(whole)
    assert not may(whole, sead)  # which makes their first round
    assert may(other, sead)
    assert may(Cell("sead_whole_clips", 1), sead)
    assert may(everything, sead, other)
    assert not may(frames, sead)
    assert not may(frames, waiting=[sead, frames])
    assert may(frames, waiting=[frames])
    start = Store(start_config(root, cell_config(root, config, sead)).run_dir)
    start.publish(layout.evaluation(0), {})
    assert may(whole, sead)


@pytest.mark.parametrize(
    ("n_gpus", "at_once", "gpus_each", "actors"), [(0, 4, None, None), (1, 4, 0.25, 1), (4, 2, 1.0, 2), (4, 4, 1.0, 1)]
)
def test_runs_at_once_share_the_gpus(n_gpus: float, at_once: int, gpus_each: float | None, actors: int | None) -> None:
    shared = with_share_of_gpus(RunConfig(), n_gpus, at_once)
    assert (shared.train.gpus_per_worker, shared.score.gpus_per_actor) == (gpus_each, gpus_each)
    assert shared.score.max_actors == actors
    own = RunConfig(train=TrainConfig(gpus_per_worker=0.5), score=ScoreConfig(gpus_per_actor=0.5, max_actors=3))
    assert with_share_of_gpus(own, n_gpus, at_once) == own


def test_a_cell_that_fails_is_named_and_does_not_stop_the_others(
    begun: tuple[Store, RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, config = begun

    def fail(changed: RunConfig) -> None:
        raise InputError(f"No luck in {changed.run_dir.rsplit('/', 2)[1]}.")

    monkeypatch.setattr(benchmark_cells, "run_rounds", fail)
    answer = run_benchmark(config, ["random", "sead"], 1)
    assert "cells/random/seed-0: No luck in random." in answer
    assert "cells/sead/seed-0: No luck in sead." in answer
    assert "| vad_nano | 25 % | SEAD |" in answer


def test_cells_share_the_prepared_clips_and_the_first_round(
    begun: tuple[Store, RunConfig], loop_run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, config = begun
    runs: list[str] = []

    def pretend(changed: RunConfig) -> None:
        runs.append(Store(changed.run_dir).path().removeprefix(f"{root.root}/"))
        if runs[-1].startswith("starts/"):
            _link(loop_run, Store(changed.run_dir), layout.selection(0), layout.model(0), layout.evaluation(0))

    monkeypatch.setattr(benchmark_cells, "run_rounds", pretend)
    run_benchmark(config, ["random", "coreset"], 1)
    start = f"starts/random/seed-{config.seed}"
    assert runs == [start, "cells/random/seed-0", "cells/coreset/seed-0"]
    first = root.path(f"{start}/{layout.model(0)}/weights.safetensors")
    for arm in ("random", "coreset"):
        shared = Path(root.path(f"cells/{arm}/seed-0/{layout.model(0)}/weights.safetensors"))
        assert shared.samefile(first)
        assert Path(root.path(f"cells/{arm}/seed-0/{layout.CLIPS_FILE}")).samefile(
            root.path(f"shared/{layout.CLIPS_FILE}")
        )


def test_a_benchmark_needs_the_data_sets_own_labels(loop_config: RunConfig, tmp_path: Path) -> None:
    labels = loop_config.labels.model_copy(update={"mode": "wait"})
    config = loop_config.model_copy(update={"run_dir": str(tmp_path), "labels": labels})
    with pytest.raises(InputError, match=r"labels\.mode oracle"):
        run_benchmark(config, ["random"], 1)


def test_a_benchmark_needs_a_val_split(loop_config: RunConfig, tmp_path: Path) -> None:
    data = loop_config.data.model_copy(update={"val_split": None})
    with pytest.raises(InputError, match=r"data\.val_split is null"):
        run_benchmark(loop_config.model_copy(update={"run_dir": str(tmp_path), "data": data}), ["random"], 1)


def test_the_ablation_of_the_shift(loop_run: Store, loop_config: RunConfig, tmp_path: Path, ray_cluster: None) -> None:
    run = Store(str(tmp_path / "run"))
    _link(loop_run, run, layout.CLIPS, layout.LABELS, layout.model(0))
    config = loop_config.model_copy(update={"run_dir": run.root})
    answer = ablate_shift(config, 4)
    rows = pq.read_table(run.path("ablation/shift.parquet")).to_pylist()
    assert [row["reduction"] for row in rows] == [item.name for item in reductions(32)]
    assert {row["n_clips"] for row in rows} == {4}
    assert rows[0]["spearman"] == pytest.approx(1)
    assert all(row["ms_per_frame"] > 0 for row in rows)
    assert "provisional" in answer
    assert answer.startswith("| reduction |")
    parts = set(Path(run.path("ablation/parts")).rglob("*.parquet"))
    ablate_shift(config, None)
    new = set(Path(run.path("ablation/parts")).rglob("*.parquet")) - parts
    assert sum(pq.read_metadata(part).num_rows for part in new) == 5  # four were done
