"""Evaluates the model of round --round, or the one in --model_dir, on the val split: planning and perception."""

from __future__ import annotations

import json
from typing import Any

from jobs.cli import run_job
from jobs.round_job import RoundConfig, prepared_run, require
from sead_ray.errors import InputError
from sead_ray.model.weights import CARD, read_card
from sead_ray.stages import layout
from sead_ray.stages.evaluate import PERCEPTION, PLANNERS, evaluate_model, evaluate_model_dir
from sead_ray.stages.plan import describe_plan, require_prepared
from sead_ray.storage import Store


class EvaluateModelConfig(RoundConfig):
    model_dir: str = ""
    """A model from elsewhere (jobs.import_checkpoint); empty: the round's own."""


def plan(config: EvaluateModelConfig) -> str:
    if not config.model_dir:
        return describe_plan(config.run)
    run = Store(config.run_dir)
    require_prepared(run)
    version = read_card(Store(config.model_dir), CARD)["model_version"]
    n_clips = run.manifest(layout.CLIPS)["val_clips"]
    return f"Would evaluate model {version} on {n_clips} val clips: {run.path(layout.model_evaluation(version))}"


def job(config: EvaluateModelConfig) -> str:
    with prepared_run(config) as run:
        if not run.manifest(layout.CLIPS)["val_clips"]:
            raise InputError(f"{run.root} was prepared without a val split: there is nothing to evaluate on.")
        if config.model_dir:
            folder = evaluate_model_dir(run, config.run, config.model_dir)
        else:
            require(run, layout.model(config.round), f"jobs.train_model --round {config.round}")
            evaluate_model(run, config.run, config.round)
            folder = layout.evaluation(config.round)
        path = f"{folder}/evaluation.json"
        return f"{json.dumps(shown(run.read_json(path)), indent=1)}\n{run.path(path)}"


def shown(report: dict[str, Any]) -> dict[str, Any]:
    """What fits a screen: without the slices and what detection says of each class."""
    rows = {name: report[name] for name in (*PLANNERS, *PERCEPTION) if name in report}
    if "detection" in rows:
        rows["detection"] = {
            protocol: {name: value for name, value in found.items() if name != "classes"}
            for protocol, found in rows["detection"].items()
        }
    return rows


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=EvaluateModelConfig, prog="python -m jobs.evaluate_model")
