"""Scoring on a cluster that starts without a GPU: Ray's autoscaler brings four GPU nodes, one is preempted on the way,
the scores are those of an undisturbed run on one node, and the cluster shrinks to its head.

    python -m tests.cluster.autoscale_scoring

The nodes are processes of this machine and their GPUs are logical. The pipeline is the real one; its decoder and model
are stand-ins, the model one that takes `STEP_S` for a frame, so that there is time to grow. It takes minutes and some
5 GB of memory, so it is no part of the test suite.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from sead_ray.config import DataConfig, RunConfig, ScoreConfig
from sead_ray.schemas import SCORE_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.clip_pipeline import Parts
from sead_ray.stages.score import score_pool
from sead_ray.stages.simulate_pool import STAND_INS
from sead_ray.stages.stand_ins import MODEL, decode_at_once, model_at_once, write_pool
from sead_ray.storage import Store
from tests.cluster.fake_cloud import FakeCloud

CLIPS, STEP_S = int(os.environ.get("CLIPS", "800")), float(os.environ.get("STEP_S", "0.5"))
GPU_NODES = 4
GPU_NODE = {"resources": {"CPU": 1, "GPU": 1, "object_store_memory": 100 * 2**20}, "max_workers": GPU_NODES}
STUCK_S = 1800


def main() -> None:
    run = Store(tempfile.mkdtemp())
    write_pool(run, CLIPS, frames=2)
    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    say("undisturbed, on one node")
    alone = scores(run, 1, STAND_INS)
    ray.shutdown()
    with FakeCloud({"gpu": GPU_NODE}, head={"CPU": 1}) as cloud:
        os.environ["RAY_ADDRESS"] = cloud.address
        ray.init(log_to_driver=False)
        watch = Watch(cloud, Path(run.path(layout.score_parts(2))))
        say("a head without a GPU")
        scaled = scores(run, 2, Parts(decode_at_once, slow_model))
        say(f"scored {len(scaled)} clips")
        watch.until(lambda: watch.nodes() == [], "the cluster is its head again")
        watch.end()
        ray.shutdown()
    if watch.most != GPU_NODES or not watch.preempted:
        sys.exit(f"grew to {watch.most} nodes, preempted {watch.preempted}")
    if scaled != alone:
        sys.exit("the scores differ from the undisturbed run's")
    say(f"identical: {len(scaled)} rows of scores")


def slow_model(*arguments: Any) -> tuple[Any, str]:
    model, version = model_at_once(*arguments)

    class Slow:
        bev_hw = model.bev_hw

        def __call__(self, *inputs: Any) -> Any:
            time.sleep(STEP_S)
            return model(*inputs)

    return Slow(), version


def scores(run: Store, number: int, parts: Parts) -> list[dict[str, Any]]:
    score = ScoreConfig(
        gpus_per_actor=1,
        min_actors=1,
        max_actors=GPU_NODES,
        clips_per_batch=8,
        decode_on="cpu",
        cpus_per_actor=0.25,
        cpus_per_decoder=0.25,
        no_progress_timeout_s=STUCK_S,
    )
    config = RunConfig(run_dir=run.root, data=DataConfig(root=run.path("decoded")), score=score)
    score_pool(run, config, number, MODEL, exclude=set(), parts=parts)
    return list(run.iter_rows(layout.scores_file(number), SCORE_SCHEMA))


class Watch:
    """Tells of every node that comes or goes, and preempts one when all are there and have done something."""

    def __init__(self, cloud: FakeCloud, parts: Path) -> None:
        self.most, self.preempted = 0, ""
        self._cloud, self._parts = cloud, parts
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def nodes(self) -> list[str]:
        return sorted(node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU"))

    def until(self, reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + STUCK_S
        while not reached():
            if time.monotonic() > deadline:
                sys.exit(f"never came true: {what}")
            time.sleep(0.5)
        say(what)

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        before: list[str] = []
        while not self._ended.wait(0.5):
            nodes = self.nodes()
            if nodes != before:
                say(f"{len(nodes)} GPU nodes: {', '.join(node[-2:] for node in nodes) or 'none'}")
            before, self.most = nodes, max(self.most, len(nodes))
            if not self.preempted and len(nodes) == GPU_NODES and any(self._parts.glob("*/*.parquet")):
                self.preempted = nodes[0]
                self._cloud.preempt(self.preempted)
                say(f"preempted {self.preempted[-2:]}")


STARTED = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - STARTED:7.1f} s  {text}", flush=True)


if __name__ == "__main__":
    main()
