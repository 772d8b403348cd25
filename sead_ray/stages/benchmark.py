"""The paper's benchmark: every arm with every seed, each a run of its own, and the tables over all of them.

Below the benchmark's folder: `shared/` holds the prepared clips and labels; `starts/<strategy>/seed-N/` the first round
of each initial strategy, which all arms that begin with it share, as in the paper; `cells/<arm>/seed-N/` the runs;
`tables/` what comes out. A cell that is finished is skipped on a restart; one that was stopped goes on.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from sead_ray.config import SELECT_PRESETS, RunConfig, SelectConfig
from sead_ray.errors import InputError
from sead_ray.report.benchmark import CellRound, Row, figure_5, table_1, table_2, table_3
from sead_ray.report.benchmark_plots import figure
from sead_ray.report.benchmark_text import TITLES, markdown
from sead_ray.report.rounds import evaluation_of, rounds_table
from sead_ray.stages import layout
from sead_ray.stages.cluster import connect
from sead_ray.stages.lock import driver_lock
from sead_ray.stages.prepare import ensure_world, prepare
from sead_ray.stages.progress import Progress, say
from sead_ray.stages.rounds import located, run_rounds
from sead_ray.stages.side_by_side import side_by_side
from sead_ray.storage import MANIFEST, Store

COMPLETE = "complete"  # everything labelled: the paper's 100 %
ARMS = (COMPLETE, *SELECT_PRESETS)


@dataclass(frozen=True)
class Cell:
    arm: str
    seed: int

    @property
    def folder(self) -> str:
        return f"cells/{self.arm}/seed-{self.seed}"


def arms_of(strategies: str) -> list[str]:
    """ "all", or names separated by commas; `random_frames` brings `sead` along, whose frames it matches.

    Raises:
        InputError: an unknown name.
    """
    names = list(ARMS) if strategies.strip() == "all" else [name.strip() for name in strategies.split(",")]
    for name in names:
        if name not in ARMS:
            raise InputError(f"strategies: {name!r} is none of {', '.join(ARMS)}, all.")
    if "random_frames" in names and "sead" not in names:
        names.append("sead")
    return sorted(set(names), key=lambda name: (name == "random_frames", ARMS.index(name)))


def run_benchmark(config: RunConfig, arms: Sequence[str], seeds: int, at_once: int = 1) -> str:
    """Runs what is not there yet and writes the tables; one that fails is named and does not stop the others.

    Args:
        at_once: runs at the same time, in processes of their own, which share the cluster's GPUs.

    Returns:
        Table 1, the failures, and the folder of the tables.

    Raises:
        InputError: bad data or settings.
    """
    config = located(config)
    if config.labels.mode != "oracle":
        raise InputError(
            "A benchmark trains on many selections and needs the data set's own labels: labels.mode oracle."
        )
    if config.data.val_split is None:
        raise InputError("A benchmark compares strategies on a val split: data.val_split is null.")
    root = Store(config.run_dir)
    cells = [Cell(arm, seed) for seed in range(seeds) for arm in arms]
    failures: list[str] = []
    with driver_lock(root):
        ensure_world(config)
        prepare(root.below("shared"), config)
        done = [cell for cell in cells if _is_done(root, config, cell)]
        with Progress("benchmark", len(cells), "run", done=len(done), every_s=0) as progress:
            for cell, fault in _run_cells(root, config, [cell for cell in cells if cell not in done], at_once):
                if fault:
                    failures.append(f"{cell.folder}: {fault}")
                    say(failures[-1])
                progress.advance(note=cell.folder)
        tables = write_tables(root, config, cells)
    lines = [markdown("table_1", tables["table_1"], config.model.preset), *failures, root.path("tables")]
    return "\n".join(lines)


def cell_config(root: Store, config: RunConfig, cell: Cell) -> RunConfig:
    """The configuration of one cell's run."""
    select = config.select.model_dump()
    if cell.arm == COMPLETE:
        select |= {"preset": "random", "rounds": [1.0], "amounts": "share", "budget_in": "clips"}
    else:
        select["preset"] = cell.arm
    if cell.arm == "random_frames":
        select["match_run"] = root.path(Cell("sead", cell.seed).folder)
    changes = {
        "run_dir": root.path(cell.folder),
        "seed": config.seed + cell.seed,
        "select": SelectConfig.model_validate(select),
    }
    return config.model_copy(update=changes)


def start_config(root: Store, config: RunConfig) -> RunConfig:
    """The run of a cell's first round alone, which other cells share."""
    select = config.select
    first = select.model_copy(
        update={"rounds": select.rounds[:1], "preset": None, "incremental": "random", "match_run": None}
    )
    folder = f"starts/{select.initial}/seed-{config.seed}"
    return config.model_copy(update={"run_dir": root.path(folder), "select": first})


def write_tables(root: Store, config: RunConfig, cells: Sequence[Cell]) -> dict[str, list[Row]]:
    """Parquet, Markdown and SVG of every table, from the rounds that are evaluated so far."""
    found = [row for cell in cells for row in cell_rounds(root, config, cell)]
    tables = {
        "table_1": table_1(found),
        "table_2": table_2(found),
        "table_3": table_3(found),
        "figure_5": figure_5(found),
    }
    root.write_bytes("tables/rounds.parquet", _parquet([_flat(row) for row in found]))
    for name, rows in tables.items():
        root.write_bytes(f"tables/{name}.parquet", _parquet(rows))
        root.write_bytes(f"tables/{name}.md", markdown(name, rows, config.model.preset).encode())
        root.write_bytes(f"tables/{name}.svg", figure(name, rows).encode())
    assert set(tables) == set(TITLES)
    return tables


def cell_rounds(root: Store, config: RunConfig, cell: Cell) -> list[CellRound]:
    """The evaluated rounds of a cell."""
    run, mine = root.below(cell.folder), cell_config(root, config, cell)
    if not run.is_published(layout.CLIPS):
        return []
    found = []
    for row in rounds_table(run):
        report = evaluation_of(run, row.round)
        if report is not None and row.round < len(mine.select.rounds):
            percent = _percent(mine.select, row.round, run)
            found.append(
                CellRound(
                    cell.arm, mine.seed, row.round, percent, 100 * row.frames_share, row.l2_m, row.collision_percent,
                    report["slices"],
                )
            )  # fmt: skip
    return found


def _percent(select: SelectConfig, number: int, run: Store) -> float:
    """The budget after a round, in percent of the pool, as it was set (not as rounding made it)."""
    amount = select.rounds[number]
    if select.amounts == "count":
        facts = run.manifest(layout.CLIPS)
        return round(100 * amount / facts["pool_clips" if select.budget_in == "clips" else "pool_frames"], 2)
    return round(amount * (100 if select.amounts == "share" else 1), 6)


def _is_done(root: Store, config: RunConfig, cell: Cell) -> bool:
    rounds = cell_config(root, config, cell).select.rounds
    return root.below(cell.folder).is_published(layout.evaluation(len(rounds) - 1))


def _run_cells(root: Store, config: RunConfig, cells: Sequence[Cell], at_once: int) -> Iterator[tuple[Cell, str]]:
    """Each with why it could not be run, empty where it was."""
    if at_once == 1:
        for cell in cells:
            try:
                _run_cell(root, config, cell)
                yield cell, ""
            except InputError as error:
                yield cell, str(error)
        return
    connect()
    shared = with_share_of_gpus(config, ray.cluster_resources().get("GPU", 0), at_once)
    with tempfile.TemporaryDirectory() as elsewhere:
        logs = Store(root.root if root.is_local else elsewhere)
        yield from side_by_side(
            cells,
            partial(_run_cell, root, shared),
            lambda cell: logs.path(f"{cell.folder}/log.txt"),
            partial(_may_start, root, config),
            at_once,
        )


def with_share_of_gpus(config: RunConfig, n_gpus: float, at_once: int) -> RunConfig:
    """What each of `at_once` runs takes of the GPUs, where the configuration leaves it open."""
    if not n_gpus:
        return config
    share = n_gpus / at_once
    train, score = config.train, config.score
    if train.gpus_per_worker is None:
        train = train.model_copy(update={"gpus_per_worker": min(1.0, share)})
    if score.gpus_per_actor is None:
        actors = score.max_actors or max(1, int(share))
        score = score.model_copy(update={"gpus_per_actor": min(1.0, share), "max_actors": actors})
    return config.model_copy(update={"train": train, "score": score})


def _may_start(root: Store, config: RunConfig, cell: Cell, under_way: Sequence[Cell], waiting: Sequence[Cell]) -> bool:
    """Not while another makes the first round that both share, nor before the run whose frames it matches."""
    if cell.arm == "random_frames" and Cell("sead", cell.seed) in [*under_way, *waiting]:
        return False
    start = _start_of(root, config, cell)
    if start is None or Store(start).is_published(layout.evaluation(0)):
        return True
    return all(_start_of(root, config, other) != start for other in under_way)


def _start_of(root: Store, config: RunConfig, cell: Cell) -> str | None:
    """Folder of the first round that the cell shares; None: it shares none."""
    return None if cell.arm == COMPLETE else start_config(root, cell_config(root, config, cell)).run_dir


def _run_cell(root: Store, config: RunConfig, cell: Cell) -> None:
    mine = cell_config(root, config, cell)
    run, shared = Store(mine.run_dir), root.below("shared")
    if cell.arm != COMPLETE and not run.is_published(layout.evaluation(0)):
        start = start_config(root, mine)
        first = Store(start.run_dir)
        _share(shared, first, (layout.CLIPS, layout.LABELS))
        if not first.is_published(layout.evaluation(0)):
            run_rounds(start)
        _share(first, run, (layout.FEATURES, layout.selection(0), layout.model(0), layout.evaluation(0)))
    _share(shared, run, (layout.CLIPS, layout.LABELS))
    run_rounds(mine)


def _share(source: Store, target: Store, folders: Sequence[str]) -> None:
    """Published folders of one run for another: hard links where both are local, the manifest last."""
    for folder in folders:
        if target.is_published(folder) or not source.is_published(folder):
            continue
        names = [name for name in source.list(folder) if name != MANIFEST]
        for name in [*names, MANIFEST]:
            _share_file(source, target, f"{folder}/{name}")


def _share_file(source: Store, target: Store, key: str) -> None:
    if not (source.is_local and target.is_local):
        target.write_bytes(key, source.read_bytes(key))
        return
    path = target.path(key)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        os.link(source.path(key), temporary)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source.path(key), temporary)
    os.replace(temporary, path)


def _flat(row: CellRound) -> dict[str, Any]:
    flat: dict[str, Any] = {name: getattr(row, name) for name in ("arm", "seed", "round", "percent", "frames_percent")}
    for metric in ("l2_m", "collision_percent"):
        flat |= {f"{metric}_{horizon}": value for horizon, value in getattr(row, metric).items()}
    for column, values in row.slices.items():
        flat |= {f"{column.lower().replace(' ', '_')}_{name}": value for name, value in values.items()}
    return flat


def _parquet(rows: Sequence[Row]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink, compression="zstd")
    return sink.getvalue().to_pybytes()
