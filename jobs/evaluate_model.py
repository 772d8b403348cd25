"""Evaluates the model of round --round on the val split: planning L2 and collision rate."""

from __future__ import annotations

import json

from jobs.round_job import RoundConfig, main, prepared_run, require
from sead_ray.stages import layout
from sead_ray.stages.evaluate import evaluate_model


def job(config: RoundConfig) -> str:
    with prepared_run(config) as run:
        require(run, layout.model(config.round), f"jobs.train_model --round {config.round}")
        evaluate_model(run, config.run, config.round)
        path = f"{layout.evaluation(config.round)}/evaluation.json"
        report = run.read_json(path)
    rows = {name: report[name] for name in ("planner", "standing_still", "constant_velocity")}
    return f"{json.dumps(rows, indent=1)}\n{run.path(path)}"


if __name__ == "__main__":
    main(__doc__, job, "python -m jobs.evaluate_model")
