"""The paper's benchmark: every arm with every seed, each a run of its own, and the tables over all of them.

Below the benchmark's folder: `shared/` holds the prepared clips and labels; `starts/<strategy>/seed-N/` the first round
of each initial strategy, which all arms that begin with it share, as in the paper; `cells/<arm>/seed-N/` the runs;
`tables/` what comes out. A cell that is finished is skipped on a restart; one that was stopped goes on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import partial

import ray

from sead_ray.config import SELECT_PRESETS, RunConfig
from sead_ray.errors import InputError
from sead_ray.report.benchmark_text import markdown
from sead_ray.stages.benchmark_cells import COMPLETE, Cell, is_done, may_start, run_cell
from sead_ray.stages.benchmark_tables import write_tables
from sead_ray.stages.cluster import connect
from sead_ray.stages.lock import driver_lock
from sead_ray.stages.prepare import ensure_world, prepare
from sead_ray.stages.progress import Progress, say
from sead_ray.stages.rounds import located
from sead_ray.stages.side_by_side import side_by_side
from sead_ray.storage import Store

ARMS = (COMPLETE, *SELECT_PRESETS)


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
        done = [cell for cell in cells if is_done(root, config, cell)]
        with Progress("benchmark", len(cells), "run", done=len(done), every_s=0) as progress:
            for cell, fault in _run_cells(root, config, [cell for cell in cells if cell not in done], at_once):
                if fault:
                    failures.append(f"{cell.folder}: {fault}")
                    say(failures[-1])
                progress.advance(note=cell.folder)
        tables = write_tables(root, config, cells)
    lines = [markdown("table_1", tables["table_1"], config.model.preset), *failures, root.path("tables")]
    return "\n".join(lines)


def _run_cells(root: Store, config: RunConfig, cells: Sequence[Cell], at_once: int) -> Iterator[tuple[Cell, str]]:
    """Each with why it could not be run, empty where it was."""
    if at_once == 1:
        for cell in cells:
            try:
                run_cell(root, config, cell)
                yield cell, ""
            except InputError as error:
                yield cell, str(error)
        return
    connect()
    alone = config.model_copy(update={"overlap": False})  # runs that share GPUs would wait for each other's workers
    shared = with_share_of_gpus(alone, ray.cluster_resources().get("GPU", 0), at_once)
    with tempfile.TemporaryDirectory() as elsewhere:
        logs = Store(root.root if root.is_local else elsewhere)
        yield from side_by_side(
            cells,
            partial(run_cell, root, shared),
            lambda cell: logs.path(f"{cell.folder}/log.txt"),
            partial(may_start, root, config),
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
