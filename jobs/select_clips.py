"""Selects the clips and key frames that round --round buys, and writes the label request; --explain says why."""

from __future__ import annotations

from jobs.round_job import RoundConfig, main, prepared_run, require
from sead_ray.stages import layout
from sead_ray.stages.features import extract_start_features
from sead_ray.stages.rounds import buy
from sead_ray.stages.select import explain_clip, needs_scores, needs_start_features, read_pool
from sead_ray.storage import Store


class SelectClipsConfig(RoundConfig):
    explain: str | None = None
    """A clip token: say why the round's published selection took it, or did not."""


def job(config: SelectClipsConfig) -> str:
    run = Store(config.run.run_dir)
    if not (config.explain and run.is_published(layout.selection(config.round))):
        _select(config)
    if config.explain:
        return explain_clip(run, config.run, config.round, read_pool(run, config.run), config.explain)
    facts = run.manifest(layout.selection(config.round))
    request = run.path(layout.label_request(config.round))
    table = run.path(layout.selection_file(config.round))
    return f"{facts['n_clips']} clips, {facts['n_frames']} frames: {table}, {request}"


def _select(config: SelectClipsConfig) -> None:
    with prepared_run(config) as run:
        for earlier in range(config.round):
            require(run, layout.selection(earlier), f"jobs.select_clips --round {earlier}")
        if needs_scores(config, config.round):
            require(run, layout.scores(config.round), f"jobs.score_pool --round {config.round}")
        if needs_start_features(config, config.round):
            extract_start_features(run, config.run)
        buy(run, config.run, config.round, read_pool(run, config.run))


if __name__ == "__main__":
    main(__doc__, job, "python -m jobs.select_clips", SelectClipsConfig)
