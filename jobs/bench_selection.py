"""Times selection at the size of a fleet: sead on millions of scored clips, coreset, and scikit-activeml beside it."""

from __future__ import annotations

from jobs.cli import run_job
from sead_ray.selection.bench import SelectionBench, format_bench, run_bench


def job(bench: SelectionBench) -> str:
    return format_bench(run_bench(bench), bench)


def plan(bench: SelectionBench) -> str:
    return (
        f"Writes scores of {bench.clips:,} made-up clips to {bench.folder}, selects {bench.share:.0%} of them by sead; "
        f"then {bench.picks:,} of {bench.embeddings:,} x {bench.channels} embeddings by coreset."
    )


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=SelectionBench, prog="python -m jobs.bench_selection")
