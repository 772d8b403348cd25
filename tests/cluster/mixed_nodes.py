"""Scores a simulated pool on a cluster of a CPU node and a GPU node, and says where decoders and models ran; then
trains by two workers on the GPU node. Its GPUs are logical: all is computed on CPUs.

python mixed_nodes.py FOLDER CONFIG.json
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from sead_ray.config import DataConfig, RunConfig, ScoreConfig
from sead_ray.stages import layout
from sead_ray.stages.clip_pipeline import Parts
from sead_ray.stages.score import score_pool
from sead_ray.stages.select import read_pool
from sead_ray.stages.stand_ins import MODEL, decode_at_once, model_at_once, write_pool
from sead_ray.stages.train import train_model
from sead_ray.storage import Store

MODELS = 2


def note(folder: Path, what: str) -> None:
    (folder / f"{what}-{ray.get_runtime_context().get_node_id()}-{os.getpid()}").touch()


def trained_steps(config: RunConfig) -> int:
    """Of a training by two workers, each with a GPU that torch cannot use."""
    run = Store(config.run_dir)
    chosen = {"num_workers": 2, "cpus_per_worker": 0.5, "gpus_per_worker": 1, "labels": {"role": "gpu"}}
    config = config.model_copy(update={"train": config.train.model_copy(update=chosen)})
    bought = {clip.clip_token: list(range(clip.n_frames)) for clip in read_pool(run, config).clips[:2]}
    train_model(run, config, 0, bought)
    return run.manifest(layout.model(0))["steps"]


def main(folder: Path, config: RunConfig) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    small = {"object_store_memory": 100 * 2**20}
    cpu = cluster.add_node(num_cpus=2, labels={"role": "cpu"}, resources={"disk": 1}, **small)
    gpu = cluster.add_node(num_cpus=2, num_gpus=2, labels={"role": "gpu"}, **small)
    cluster.connect()
    run = Store(str(folder / "run"))
    write_pool(run, 300, frames=2)

    def decode(*arguments: Any) -> Any:
        note(folder, "decoder")
        return decode_at_once(*arguments)

    def model(*arguments: Any) -> Any:
        note(folder, "model")
        at_once, version = model_at_once(*arguments)

        class NeverAlone:
            bev_hw = at_once.bev_hw

            def __call__(self, *inputs: Any) -> Any:
                while len(list(folder.glob("model-*"))) < MODELS:  # until the pool has grown
                    time.sleep(0.1)
                return at_once(*inputs)

        return NeverAlone(), version

    score = ScoreConfig(
        clips_per_batch=16,
        min_actors=1,
        max_actors=MODELS,
        actor_labels={"role": "gpu"},
        decoder_labels={"role": "in(cpu, other)"},
        decoder_resources={"disk": 0.1},
        no_progress_timeout_s=240,
    )
    simulated = RunConfig(run_dir=run.root, data=DataConfig(root=run.path("decoded")), score=score)
    score_pool(run, simulated, 1, MODEL, exclude=set(), parts=Parts(decode, model))
    names = {cpu.node_id: "cpu", gpu.node_id: "gpu"}
    found = [path.name.split("-")[:2] for path in folder.glob("*-*")]
    print(
        json.dumps(
            {
                "n_clips": run.manifest(layout.scores(1))["n_clips"],
                "ran": sorted({f"{what} on {names.get(node, 'head')}" for what, node in found}),
                "models": sum(what == "model" for what, _ in found),
                "steps": trained_steps(config),
            }
        )
    )
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), RunConfig.model_validate_json(Path(sys.argv[2]).read_text()))
