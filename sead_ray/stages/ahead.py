"""Scoring and evaluation that begin before their model is published: processes start, libraries load and images are
decoded while it is still being trained.

What fails here, or comes to nothing, the stages themselves meet again and tell. Nothing is begun that would have to
measure first, since a training is under way.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from sead_ray.config import RunConfig, ScoreConfig
from sead_ray.model.weights import CARD
from sead_ray.stages import layout
from sead_ray.stages.clip_pipeline import AHEAD
from sead_ray.stages.cluster import connect
from sead_ray.stages.decoder_choice import known_decoder
from sead_ray.stages.evaluate import Judged, judge, stage_of, val_clips
from sead_ray.stages.pipeline_size import pipeline_size
from sead_ray.stages.progress import Progress
from sead_ray.stages.score import round_ledger, score_all, scoring_config, scoring_pipeline, teller, tokens_to_score
from sead_ray.stages.select import scoring_scope
from sead_ray.storage import Store


def score_ahead(run: Store, config: RunConfig, number: int, stopped: threading.Event) -> None:
    """Round `number`'s scores, in the ledger in which `score_pool` looks for them; ends early once `stopped`."""
    config = config.model_copy(update={"score": scoring_config(config)})
    score, model_key, tell = config.score, layout.model(number - 1), teller(run, number)
    tokens = tokens_to_score(run, scoring_scope(run, config, number)["exclude"])
    connect()
    size = pipeline_size(score, score.clips_per_batch, score.min_actors, score.max_actors)
    decoder = known_decoder(run, config.image, score, size, len(tokens))
    if decoder is None:
        return
    finish = partial(_score_all, run=run, number=number, model_key=model_key, config=score)
    with (
        Progress(f"score round {number}", len(tokens), "clip") as progress,
        scoring_pipeline(run, config, model_key, tokens, finish, size, decoder, AHEAD) as scored_clips,
    ):
        for scored in scored_clips:
            if stopped.is_set():
                return
            progress.advance()
            tell(scored)


def _score_all(
    results: Sequence[tuple[str, Any]], run: Store, number: int, model_key: str, config: ScoreConfig
) -> list[dict[str, Any]]:
    """`score_all`, where which model it was is known by now."""
    version = run.read_json(f"{model_key}/{CARD}")["model_version"]
    return score_all(results, round_ledger(run, number, version), version, config)


def judge_ahead(run: Store, config: RunConfig, number: int, stopped: threading.Event) -> Judged | None:
    """What `evaluate_model` of round `number` asks for; None once `stopped`, or without val clips."""
    clips = val_clips(run)
    connect()
    return judge(run, config, layout.model(number), clips, stage_of(number), stopped, AHEAD) if clips else None
