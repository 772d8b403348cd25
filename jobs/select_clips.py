"""Selects the clips and key frames that round --round buys, and writes the label request."""

from __future__ import annotations

from jobs.round_job import RoundConfig, main, prepared_run, require
from sead_ray.stages import layout
from sead_ray.stages.rounds import buy
from sead_ray.stages.select import needs_scores, read_pool


def job(config: RoundConfig) -> str:
    with prepared_run(config) as run:
        for earlier in range(config.round):
            require(run, layout.selection(earlier), f"jobs.select_clips --round {earlier}")
        if needs_scores(config, config.round):
            require(run, layout.scores(config.round), f"jobs.score_pool --round {config.round}")
        buy(run, config.run, config.round, read_pool(run, config.run))
        facts = run.manifest(layout.selection(config.round))
    request = run.path(layout.label_request(config.round))
    table = run.path(layout.selection_file(config.round))
    return f"{facts['n_clips']} clips, {facts['n_frames']} frames: {table}, {request}"


if __name__ == "__main__":
    main(__doc__, job, "python -m jobs.select_clips")
