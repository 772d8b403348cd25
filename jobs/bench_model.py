"""Measures VAD: seconds per frame of backbone and neck alone and of the whole forward pass, a training step, memory."""

from __future__ import annotations

import sys
from typing import Any

from jobs.cli import run_job
from jobs.figures import require_folder, write_figures
from sead_ray.benchmark.model import ModelBenchConfig, bench_model


class BenchModelConfig(ModelBenchConfig):
    output: str | None = None
    """JSON file for the figures; None: print them only."""


def plan(config: BenchModelConfig) -> str:
    step = f"a training step on a queue of {config.queue_length}, " if config.train else ""
    return (
        f"Would measure {config.model.preset} on {config.torch_device().type} in {config.precision}: backbone, neck, "
        f"the whole forward pass, {step}batch {config.batch}, 6 cameras at {config.height} x {config.width}, "
        f"{config.repeats} times in turn after a warm-up."
    )


def job(config: BenchModelConfig) -> str:
    require_folder(config.output)
    settings = ModelBenchConfig.model_validate(config.model_dump(exclude={"output"}))
    result = bench_model(settings, lambda line: print(line, file=sys.stderr, flush=True))
    write_figures(config.output, result)
    return table(result)


def table(result: dict[str, Any]) -> str:
    machine, setting = result["machine"], result["setting"]
    lines = [
        f"{setting['model']['preset']}, batch {setting['batch']}, 6 x {setting['height']} x {setting['width']}, "
        f"{setting['precision']}, {machine['name']}, {machine['threads']} threads, torch {machine['torch']}",
        "",
        f"{'':28}{'seconds':>10}{'per frame':>12}{'ratio':>8}{'to folded':>11}",
    ]
    for name, seconds in result["seconds"].items():
        line = f"{name.replace('_', ' '):28}{seconds:10.4f}{result['seconds_per_frame'][name]:12.4f}"
        if name in result["ratios"]:
            line += f"{result['ratios'][name]:8.2f}{result['ratios_to_folded'][name]:11.2f}"
        lines.append(line)
    for title, parts in (("forward pass", result["parts"]), ("training step", result["training_parts"])):
        if parts:
            lines += ["", f"{title}, by part"]
            lines += [f"  {name.replace('_', ' '):26}{seconds:10.4f}" for name, seconds in parts.items()]
    lines += ["", "peak memory, GiB: " + ", ".join(f"{k} {v:.2f}" for k, v in result["peak_memory_gib"].items())]
    return "\n".join(lines)


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=BenchModelConfig, prog="python -m jobs.bench_model")
