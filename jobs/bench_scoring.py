"""Measures scoring from JPEGs on disk to rows of scores: frames per second end to end, of each part alone, and their
ratio.

Makes a pool of 1600x900 images first, unless it is there. Prints the split by stage and a row for a table.
"""

from __future__ import annotations

import shlex
import sys
from typing import Any

from jobs.cli import run_job
from jobs.figures import require_folder, write_figures
from sead_ray.benchmark.scoring import ScoringBenchConfig, markdown
from sead_ray.stages.bench_scoring import bench_scoring

PROG = "python -m jobs.bench_scoring"


class BenchScoringConfig(ScoringBenchConfig):
    output: str | None = None
    """JSON file for the figures; None: print them only."""


def plan(config: BenchScoringConfig) -> str:
    source = config.clips_from or f"{config.scenes} generated scenes of {config.image_width}x{config.image_height}"
    return (
        f"Would score {config.clips} clips ({source}, at {config.root}) with "
        f"{config.model_dir or config.model.preset}, then measure decoders, model and image network alone."
    )


def job(config: BenchScoringConfig) -> str:
    require_folder(config.output)
    settings = ScoringBenchConfig.model_validate(config.model_dump(exclude={"output"}))
    result = bench_scoring(settings, shlex.join([*PROG.split(), *sys.argv[1:]]))
    write_figures(config.output, result)
    return text(result)


def text(result: dict[str, Any]) -> str:
    lines = [
        f"{result['n_clips']} clips, {result['n_frames']} frames, {result['n_failed']} clips failed; windows of "
        + ", ".join(f"{rate:.1f}" for rate in result["fps_windows"])
        + f" frames/s after the warm-up; {result['fps_cold']:.1f} with the start of all processes",
        f"actors at work {result['actor_busy']:.0%} of the time; milliseconds a frame:",
        *(f"  {name:34s}{value:9.3f}" for name, value in result["ms_per_frame"].items()),
        "",
        markdown(result),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=BenchScoringConfig, prog=PROG)
