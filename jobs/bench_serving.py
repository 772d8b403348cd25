"""Measures where the time of a clip goes in the scoring service: upload, validation, decode, queue, model, shift,
answer.

Starts a service of its own, unless --url names one, and sends clips of 40 frames of 1600x900 one after the other.
"""

from __future__ import annotations

import shlex
import sys
from typing import Any

from jobs.cli import run_job
from jobs.figures import require_folder, write_figures
from sead_ray.stages.bench_serving import WORK, ServingBenchConfig, bench_serving

PROG = "python -m jobs.bench_serving"


class BenchServingConfig(ServingBenchConfig):
    output: str | None = None
    """JSON file for the figures; None: print them only."""


def plan(config: BenchServingConfig) -> str:
    where = config.url or f"a service of its own with {config.model_dir or config.model.preset}"
    size = f"{config.image_width}x{config.image_height}"
    return f"Would send {config.repeats} clips of {config.frames} frames of {size} to {where}."


def job(config: BenchServingConfig) -> str:
    require_folder(config.output)
    settings = ServingBenchConfig.model_validate(config.model_dump(exclude={"output"}))
    result = bench_serving(settings, shlex.join([*PROG.split(), *sys.argv[1:]]))
    write_figures(config.output, result)
    return text(result)


def text(result: dict[str, Any]) -> str:
    whole = result["seconds"]["whole"]
    lines = [
        f"{result['preset']} on {result['device']}: {result['n_clips']} clips of {result['n_frames']} frames of "
        f"{result['image']}, {result['upload_mb']} MB each; medians:",
        *(f"  {name:<11}{value:9.4f} s {value / whole:6.1%}" for name, value in result["seconds"].items()),
        f"neither {', '.join(WORK[:-1])} nor {WORK[-1]}: {result['overhead_share']:.1%} of the whole",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=BenchServingConfig, prog=PROG)
