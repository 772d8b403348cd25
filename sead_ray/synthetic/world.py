"""Generation of the whole data set: one folder, restartable by scene, the same bytes for one setting."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2

from sead_ray.config import WorldConfig
from sead_ray.cpus import usable_cpus
from sead_ray.errors import InputError
from sead_ray.storage import Store
from sead_ray.synthetic.map_files import map_expansion, mask_png
from sead_ray.synthetic.plan import ScenePlan, plan_world
from sead_ray.synthetic.rehearsal import compile_kernels
from sead_ray.synthetic.scene_files import write_scene
from sead_ray.synthetic.tables import VERSION, fixed_tables
from sead_ray.synthetic.town import build_town

GENERATOR_VERSION = 3
RECORD = "world.json"
PARTS = ".generating"
TRUTH = "world_truth.json"  # beside the data set: what really happens in each scene; for people, read by no stage
_GROWING = ("scene", "sample", "sample_data", "ego_pose", "instance", "sample_annotation")


def world_name(world: WorldConfig) -> str:
    """A name for people; together with `settings_sha256` it fixes every byte."""
    size = f"{world.image_width}x{world.image_height}"
    return f"sead-ray-world-v{GENERATOR_VERSION}-{world.scenes}x{world.frames}-{size}-seed{world.seed}"


def settings_hash(world: WorldConfig) -> str:
    """SHA-256 of the settings that the bytes depend on, and of the generator's version."""
    settings = world.model_dump(exclude={"generate"})
    text = json.dumps({"generator": GENERATOR_VERSION, "settings": settings}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


SceneJob = tuple[ScenePlan, WorldConfig, str]
Runner = Callable[[Sequence[SceneJob]], Iterable[object]]


def generate_world(
    world: WorldConfig,
    root: str,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    runner: Runner | None = None,
) -> None:
    """Writes the driving world as a nuScenes v1.0 folder (`v1.0-trainval`) below `root`.

    Nothing is done where the same world is complete; an interrupted one goes on with the scenes it lacks.

    Args:
        processes: worker processes; None: one per CPU of this process. The bytes do not depend on it.
        progress: called with (scenes done, scenes in all).
        runner: runs `generate_scene` on all jobs somewhere else, such as on a cluster that shares `root`, and yields
            something after each; None: worker processes here.

    Raises:
        InputError: `root` holds a world of other settings, or another data set.
    """
    digest = settings_hash(world)
    if _is_complete(root, digest):
        return
    store = Store(root)
    plans = plan_world(world)
    store.write_json(f"{PARTS}/{RECORD}", {"settings_sha256": digest})
    missing = [plan for plan in plans if not store.exists(_part(plan))]
    if progress:
        progress(len(plans) - len(missing), len(plans))
    # Scenes of one town next to each other: a worker keeps the painted ground of one town.
    order = sorted(missing, key=lambda plan: (plan.log.location, plan.number))
    jobs = [(plan, world, store.root) for plan in order]
    done = len(plans) - len(missing)
    for _ in runner(jobs) if runner else _run(jobs, processes or usable_cpus()):
        done += 1
        if progress:
            progress(done, len(plans))
    _write_maps(store, world, plans)
    _write_tables(store, world, plans)
    truth = {plan.name: store.read_json(_part(plan))["truth"] for plan in plans}
    store.write_json(TRUTH, {"world": world_name(world), "scenes": truth})
    store.write_json(
        RECORD,
        {
            "name": world_name(world),
            "generator_version": GENERATOR_VERSION,
            "settings": world.model_dump(exclude={"generate"}),
            "settings_sha256": digest,
        },
    )
    shutil.rmtree(Path(store.root) / PARTS)


def _is_complete(root: str, digest: str) -> bool:
    """Whether this very world is there; refuses a folder that holds anything else."""
    for name in (RECORD, f"{PARTS}/{RECORD}"):
        path = Path(root) / name
        if path.exists():
            if json.loads(path.read_text()).get("settings_sha256") != digest:
                raise InputError(
                    f"{path} is of a world with other settings: choose another data.root or remove {root}."
                )
            return name == RECORD
    if (Path(root) / VERSION).exists():
        raise InputError(
            f"{root} holds a data set ({VERSION}) that is not a generated world: choose another data.root."
        )
    return False


def _part(plan: ScenePlan) -> str:
    return f"{PARTS}/{plan.name}.json"


def generate_scene(job: SceneJob) -> None:
    """Runs in a worker process: the part file appears only once all files of the scene are there."""
    plan, world, root = job
    cv2.setNumThreads(1)
    compile_kernels()
    rows = write_scene(plan, world, Path(root))
    Store(root).write_bytes(_part(plan), json.dumps(rows).encode())


def _run(jobs: Sequence[SceneJob], processes: int) -> Iterator[object]:
    processes = min(processes, len(jobs))
    if processes <= 1:
        yield from map(generate_scene, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(generate_scene, jobs, chunksize=1)


def _write_maps(store: Store, world: WorldConfig, plans: list[ScenePlan]) -> None:
    tables = fixed_tables(world.seed, _logs(plans), (world.image_width, world.image_height))
    locations = sorted({plan.log.location for plan in plans})
    for location, row in zip(locations, tables["map"]):
        expansion, mask = _map_bytes(location, world.seed)
        store.write_bytes(f"maps/expansion/{location}.json", expansion)
        store.write_bytes(row["filename"], mask)


@lru_cache(maxsize=4)
def _map_bytes(location: str, seed: int) -> tuple[bytes, bytes]:
    town = build_town(location, seed)
    return json.dumps(map_expansion(town)).encode(), mask_png(town)


def _logs(plans: list[ScenePlan]) -> list[Any]:
    return list({plan.log.number: plan.log for plan in plans}.values())


def _write_tables(store: Store, world: WorldConfig, plans: list[ScenePlan]) -> None:
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in _GROWING}
    for plan in plans:
        part = store.read_json(_part(plan))
        for name in _GROWING:
            tables[name] += part[name]
    tables |= fixed_tables(world.seed, _logs(plans), (world.image_width, world.image_height))
    for name, rows in tables.items():
        store.write_bytes(f"{VERSION}/{name}.json", json.dumps(rows).encode())
    splits = {split: [plan.name for plan in plans if plan.log.split == split] for split in ("train", "val")}
    store.write_json("splits.json", splits)
