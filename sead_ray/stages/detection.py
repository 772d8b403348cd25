"""nuScenes' detection metrics of a whole split: one Ray task for each class and choice of what counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray

from sead_ray.evaluation.detection import PROTOCOLS, class_curves, summarise_detection
from sead_ray.evaluation.detection_frames import FrameDetections
from sead_ray.records import AGENT_CLASSES
from sead_ray.stages.progress import Progress


def detection_report(frames: Sequence[FrameDetections]) -> dict[str, Any]:
    """{protocol: `summarise_detection`} for each of `PROTOCOLS`. The devkit matches in Python: minutes for a core on
    nuScenes' val split, of which cars take half, so classes are shared out."""
    shared = ray.put(list(frames))
    task: Any = ray.remote(num_cpus=1)(class_curves)  # Any: Ray's stubs type no remote function made from a plain one
    keys = [(protocol, name) for protocol in PROTOCOLS for name in AGENT_CLASSES]
    waiting = {task.remote(shared, name, protocol): (protocol, name) for protocol, name in keys}
    curves: dict[tuple[str, str], list[Any]] = {}
    with Progress("detection metrics", len(keys), "task") as progress:
        while waiting:
            (done,), _ = ray.wait(list(waiting))
            curves[waiting.pop(done)] = ray.get(done)
            progress.advance()
    return {
        protocol: summarise_detection({name: curves[protocol, name] for name in AGENT_CLASSES})
        for protocol in PROTOCOLS
    }
