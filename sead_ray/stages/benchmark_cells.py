"""A cell of the benchmark: one arm with one seed, a run of its own that shares what it can with others."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from sead_ray.config import RunConfig, SelectConfig
from sead_ray.stages import layout
from sead_ray.stages.rounds import run_rounds
from sead_ray.storage import MANIFEST, Store

COMPLETE = "complete"  # everything labelled: the paper's 100 %


@dataclass(frozen=True)
class Cell:
    arm: str
    seed: int

    @property
    def folder(self) -> str:
        return f"cells/{self.arm}/seed-{self.seed}"


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


def is_done(root: Store, config: RunConfig, cell: Cell) -> bool:
    rounds = cell_config(root, config, cell).select.rounds
    return root.below(cell.folder).is_published(layout.evaluation(len(rounds) - 1))


def may_start(root: Store, config: RunConfig, cell: Cell, under_way: Sequence[Cell], waiting: Sequence[Cell]) -> bool:
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


def run_cell(root: Store, config: RunConfig, cell: Cell) -> None:
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
