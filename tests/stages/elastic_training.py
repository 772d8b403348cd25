"""Trains on a cluster that has room for one worker, then for two, and prints what was logged.

python elastic_training.py CONFIG_JSON
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from ray.cluster_utils import Cluster

from sead_ray.config import RunConfig
from sead_ray.stages import layout
from sead_ray.stages.select import read_pool
from sead_ray.stages.train import train_model
from sead_ray.storage import Store


def main(config: RunConfig) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.connect()
    run = Store(config.run_dir)
    bought = {clip.clip_token: list(range(clip.n_frames)) for clip in read_pool(run, config).clips[:2]}
    storage = Path(run.path(layout.train_storage(0)))

    def grow() -> None:
        while not any(storage.glob("*/checkpoint_*")):
            time.sleep(0.1)
        cluster.add_node(num_cpus=1)

    threading.Thread(target=grow, daemon=True).start()
    train_model(run, config, 0, bought)


if __name__ == "__main__":
    main(RunConfig.model_validate_json(Path(sys.argv[1]).read_text()))
