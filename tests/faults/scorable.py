"""A run that has come to its first scoring, without a training: the model knows nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from sead_ray.config import RunConfig
from sead_ray.model.vad import build_model
from sead_ray.model.weights import save_model
from sead_ray.stages import layout
from sead_ray.stages.rounds import buy
from sead_ray.stages.select import read_pool
from sead_ray.storage import Store
from tests.faults.undisturbed import MODEL


def scorable_run(prepared: Store, config: RunConfig, folder: Path) -> Store:
    """The run, in `folder`, beside the `config.yaml` for `jobs.score_pool --round 1`."""
    run = Store(str(folder / "run"))
    for stage in (layout.CLIPS, layout.LABELS):
        shutil.copytree(prepared.path(stage), run.path(stage))
    save_model(run, layout.model(0), build_model(MODEL), {"image": config.image.model_dump()})
    run.publish(layout.model(0), {})
    config = config.model_copy(update={"run_dir": run.root, "model": MODEL})
    buy(run, config, 0, read_pool(run, config))
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return run
