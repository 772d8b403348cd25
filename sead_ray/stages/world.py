"""Generation of the embedded world: one Ray task a scene, on as many CPUs as the cluster has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ray

from sead_ray.config import WorldConfig
from sead_ray.stages.cluster import connect
from sead_ray.stages.progress import Progress
from sead_ray.synthetic import generate_world
from sead_ray.synthetic.world import SceneJob, generate_scene


def generate(world: WorldConfig, root: str) -> None:
    """Writes the embedded world, with progress. Resumes by scene; the bytes do not depend on the number of CPUs.

    On several machines `root` must be a folder that they share.
    """
    with Progress("generate world", world.scenes, "scene") as progress:
        generate_world(world, root, None, lambda done, _total: progress.advance(done - progress.done), _on_ray)


def _on_ray(jobs: Sequence[SceneJob]) -> Iterator[None]:
    if not jobs:
        return
    connect()
    task = ray.remote(num_cpus=1)(generate_scene)
    waiting = list(jobs)[::-1]
    # A little more than there are CPUs: scenes of one town stay together, and a stop leaves few of them half done.
    most = int(ray.cluster_resources().get("CPU", 1)) * 2
    running: list[ray.ObjectRef] = []
    try:
        while waiting or running:
            while waiting and len(running) < most:
                running.append(task.remote(waiting.pop()))
            done, running = ray.wait(running)
            ray.get(done)
            yield None
    finally:
        for reference in running:
            ray.cancel(reference)
