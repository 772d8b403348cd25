"""Loads a scoring service of its own: its capacity, then 0.8 and 3 times that, then half of it while replicas are
killed and models switched. Prints what was answered, refused and lost.
"""

from __future__ import annotations

import shlex
import sys
from typing import Any

from jobs.cli import run_job
from jobs.figures import require_folder, write_figures
from sead_ray.stages.load_test import LoadTestConfig, load_test

PROG = "python -m jobs.load_test"


class LoadTestJobConfig(LoadTestConfig):
    output: str | None = None
    """JSON file for the figures; None: print them only."""


def plan(config: LoadTestJobConfig) -> str:
    faults = f", then {6 * config.fault_s:g} s of faults" if config.faults else ""
    return (
        f"Would load a service with clips of {config.frames} frames of {config.image_width}x{config.image_height} for "
        f"{config.capacity_s + config.low_s + config.high_s:g} s{faults}."
    )


def job(config: LoadTestJobConfig) -> str:
    require_folder(config.output)
    settings = LoadTestConfig.model_validate(config.model_dump(exclude={"output"}))
    result = load_test(settings, shlex.join([*PROG.split(), *sys.argv[1:]]))
    write_figures(config.output, result)
    return text(result)


def text(result: dict[str, Any]) -> str:
    lines = [
        f"capacity {result['capacity_per_s']:.2f} clips a second; p99 of the answered grows {result['p99_ratio']}-fold",
        "load    sent  answered  429   other  lost  p50 s   p99 s   429 p99 s",
    ]
    for name in ("low", "high", "faults"):
        if name in result:
            lines.append(_row(name, result[name]))
    if "faults" in result:
        faults = result["faults"]
        lines.append(
            f"faults: requests tried again after {faults['tried_again_after']} (status: how many; 0: no answer), "
            f"{faults['failed_first_while_models_changed']} not for 429 while models changed; least and "
            f"largest score of each model {faults['scores_of_each_model']}"
        )
    return "\n".join(lines)


def _row(name: str, phase: dict[str, Any]) -> str:
    refused = phase["statuses"].get("429", 0)
    other = phase["sent"] - phase["answered"] - refused - phase["lost"]
    answered, late = phase["answered_s"], phase["refused_s"].get("p99", 0)
    return (
        f"{name:<7} {phase['sent']:>4}  {phase['answered']:>8}  {refused:>4}  {other:>5}  {phase['lost']:>4}  "
        f"{answered.get('p50', 0):>5.2f}  {answered.get('p99', 0):>6.2f}  {late:>8.3f}"
    )


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=LoadTestJobConfig, prog=PROG)
