"""Scoring: the unlabeled pool through the current model, feature shift and key frames of every clip.

The stage keeps its own ledger (`stages.ledger`) below `score_parts/<model version>/`: a restart scores only what it
does not hold; parts of another model are never looked at. When all clips are done the parts become
`scores/scores.parquet`, sorted by clip token, and the folder is published.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pyarrow as pa

from sead_ray.arrow import compute as pc
from sead_ray.config import RunConfig, ScoreConfig
from sead_ray.errors import InputError
from sead_ray.model.weights import CARD
from sead_ray.records import ClipScore
from sead_ray.schemas import CLIP_SCHEMA, SCORE_SCHEMA
from sead_ray.stages import layout, metrics
from sead_ray.stages.beside import Beside
from sead_ray.stages.clip_pipeline import REAL_PARTS, Parts, run_pipeline
from sead_ray.stages.clip_scores import clip_features, score_features
from sead_ray.stages.clip_tasks import ClipFinish
from sead_ray.stages.cluster import connect
from sead_ray.stages.decoder_choice import Decoder, choose_decoder
from sead_ray.stages.ledger import Ledger
from sead_ray.stages.pipeline_size import PipelineSize, pipeline_size
from sead_ray.stages.progress import Progress, say
from sead_ray.stages.quarantine import STATUS as QUARANTINED
from sead_ray.stages.quarantine import quarantine, reasons_in
from sead_ray.storage import Store

FAILURES_NAMED = 20  # in the log; the scores hold the reasons of all
_WHAT = {"failed": "failed", QUARANTINED: "is quarantined"}


def score_pool(
    run: Store,
    config: RunConfig,
    round_number: int,
    model_key: str,
    exclude: set[str],
    labelled: Collection[str] = frozenset(),
    parts: Parts = REAL_PARTS,
    seen: Callable[[dict[str, Any]], None] = lambda _: None,
    ahead: Beside[None] | None = None,
) -> None:
    """Scores the pool's clips that are not in `exclude` with the model at `model_key`; publishes round `round_number`'s
    scores. Returns at once where they are published.

    Args:
        ahead: `score_ahead` of the same round, which is waited for; it leaves all of the clips, some or none.
        labelled: clips bought earlier, scored for their features only: their rows say that they are not selectable.
        parts, seen: for measurements: stand-ins for decoder and model; called with what is known of each finished clip.

    Raises:
        InputError: the pool has no clip left, or nothing moved for `score.no_progress_timeout_s`.
    """
    if run.is_published(layout.scores(round_number)):
        return
    with metrics.stage(run.root, "score", round_number):
        _score_pool(run, config, round_number, model_key, exclude, labelled, parts, seen, ahead)


def _score_pool(
    run: Store,
    config: RunConfig,
    round_number: int,
    model_key: str,
    exclude: set[str],
    labelled: Collection[str],
    parts: Parts,
    seen: Callable[[dict[str, Any]], None],
    ahead: Beside[None] | None,
) -> None:
    folder = layout.scores(round_number)
    started = time.monotonic()
    if ahead:
        ahead.join()
    version = run.read_json(f"{model_key}/{CARD}")["model_version"]
    tokens = tokens_to_score(run, exclude)
    if not len(without(tokens, pa.array(sorted(labelled), pa.string()))):
        raise InputError(f"Every clip of the pool in {run.path(layout.CLIPS_FILE)} is selected already.")
    ledger = round_ledger(run, round_number, version)
    tell = teller(run, round_number)

    def told(scored: dict[str, Any]) -> None:
        seen(scored)
        tell(scored)

    scoring = config.model_copy(update={"score": scoring_config(config)})
    decoder = score_into(ledger, scoring, model_key, version, tokens, f"score round {round_number}", told, parts)
    facts: Counter[str] = Counter()
    given_up: dict[str, str] = {}
    groups = (_marked(table, labelled, facts, given_up) for table in ledger.merged(tokens))
    run.write_groups(layout.scores_file(round_number), groups, SCORE_SCHEMA)
    quarantine(run, given_up)
    seconds = round(time.monotonic() - started, 2)
    run.publish(folder, {"model_version": version, **facts, "seconds": seconds, "decoder": decoder})
    run.remove(layout.score_parts(round_number))


def score_into(
    ledger: Ledger,
    config: RunConfig,
    model_key: str,
    version: str,
    tokens: pa.Array,
    name: str,
    tell: Callable[[dict[str, Any]], None] = lambda _: None,
    parts: Parts = REAL_PARTS,
) -> str:
    """Scores the clips `tokens` by `config.score` with the model at `model_key` of the ledger's run, whose version is
    `version`, but those that the ledger holds; returns which decoder was used.

    Args:
        name: of the progress bar; tell: called with what is known of each clip once it is scored.
    """
    run, score = ledger.run, config.score
    pending = without(tokens, ledger.done())
    connect()
    size = pipeline_size(score, score.clips_per_batch, score.min_actors, score.max_actors)
    decoder = choose_decoder(run, config.data.root, config.image, score, size, len(tokens))
    if not len(pending):
        return decoder
    with (
        Progress(name, len(tokens), "clip", done=len(tokens) - len(pending)) as progress,
        ledger.compacting(),
        scoring_pipeline(
            run,
            config,
            model_key,
            pending,
            partial(score_all, ledger=ledger, version=version, config=score),
            size,
            decoder,
            parts,
        ) as scored_clips,
    ):
        for scored in scored_clips:
            progress.advance()
            tell(scored)
    return decoder


def scoring_pipeline(
    run: Store,
    config: RunConfig,
    model_key: str,
    tokens: pa.Array,
    finish: ClipFinish,
    size: PipelineSize,
    decoder: Decoder,
    parts: Parts,
) -> AbstractContextManager[Iterator[dict[str, Any]]]:
    """`run_pipeline` by `config.score`; `finish`: as `score_all`."""
    score = config.score
    return run_pipeline(
        run,
        config.data.root,
        config.image,
        model_key,
        tokens,
        work=partial(clip_features, config=score),
        finish=finish,
        size=size,
        precision=score.precision,
        decoder=decoder,
        parts=parts,
        max_attempts=score.max_attempts,
    )


def teller(run: Store, round_number: int) -> Callable[[dict[str, Any]], None]:
    """To be called with what is known of each clip once it is scored."""
    failed = 0

    def tell(scored: dict[str, Any]) -> None:
        nonlocal failed
        failed += scored["status"] != "ok"
        _tell(scored, run, round_number, named=failed <= FAILURES_NAMED)

    return tell


def _tell(scored: dict[str, Any], run: Store, round_number: int, named: bool) -> None:
    """One clip is done: metrics, and where it failed, a line that names it."""
    tags = {"run": run.root, "round": round_number}
    if scored["status"] == "ok":
        metrics.count("sead_clips_scored_total", 1, **tags)
        metrics.count("sead_frames_scored_total", scored["n_frames"], **tags)
        return
    metrics.count("sead_clips_failed_total", 1, **tags)
    if scored["status"] == QUARANTINED:
        metrics.count("sead_clips_quarantined_total", 1, **tags)
    if named:
        token = scored["clip_token"]
        say(
            f"score round {round_number}: clip {token} {_WHAT[scored['status']]}: {scored['reason']}",
            "warning",
            clip=token,
        )


def scoring_config(config: RunConfig) -> ScoreConfig:
    """`config.score`, with the BEV's shift where the selection ranks by it."""
    wanted = config.select.shift == "bev" or "shift_bev" in config.select.terms
    return config.score.model_copy(update={"bev_shift": True}) if wanted else config.score


def pool_tokens(run: Store) -> pa.Array:
    """Of every clip of the pool, in the order of the clips' file."""
    batches = run.iter_batches(layout.CLIPS_FILE, CLIP_SCHEMA, ["clip_token", "split"])
    parts = [batch.column("clip_token").filter(pc.equal(batch.column("split"), "pool")) for batch in batches]
    return pa.concat_arrays([pa.array([], pa.string()), *parts])


def tokens_to_score(run: Store, exclude: Collection[str]) -> pa.Array:
    """Of the pool's clips that are not in `exclude`."""
    return without(pool_tokens(run), pa.array(sorted(exclude), pa.string()))


def round_ledger(run: Store, round_number: int, version: str) -> Ledger:
    """Of a round's clips with the model `version`."""
    return Ledger(run, f"{layout.score_parts(round_number)}/{version}", SCORE_SCHEMA)


def without(tokens: pa.Array, left_out: pa.Array) -> pa.Array:
    return tokens.filter(pc.invert(pc.is_in(tokens, left_out)))


def read_scores(run: Store, round_number: int) -> dict[str, ClipScore]:
    """Published scores by clip token; for pools that fit into memory."""
    return {score.clip_token: score for score in iter_scores(run, round_number)}


def iter_scores(run: Store, round_number: int) -> Iterator[ClipScore]:
    """Published scores in the order of their tokens."""
    names = [name for name in SCORE_SCHEMA.names if name != "schema_version"]
    for row in run.iter_rows(layout.scores_file(round_number), SCORE_SCHEMA, columns=names):
        yield ClipScore(**row)


def score_all(
    results: Sequence[tuple[str, Any]], ledger: Ledger, version: str, config: ScoreConfig
) -> list[dict[str, Any]]:
    """Scores of a batch of clips, and their entry in the ledger."""
    scores = [score_features(token, result, version, config) for token, result in results]
    ledger.add([score.to_row() for score in scores])
    return [{name: getattr(score, name) for name in ("clip_token", "status", "reason", "n_frames")} for score in scores]


def _marked(table: pa.Table, labelled: Collection[str], facts: Counter[str], given_up: dict[str, str]) -> pa.Table:
    """Scores with who of them may be bought; adds up what the manifest says of them, and who is quarantined."""
    selectable = pc.invert(pc.is_in(table.column("clip_token"), pa.array(sorted(labelled), pa.string())))
    facts["n_clips"] += len(table)
    facts["n_selectable"] += pc.sum(selectable).as_py()
    facts["n_failed"] += pc.sum(pc.not_equal(table.column("status"), "ok")).as_py()
    found = reasons_in(table)
    given_up.update(found)
    facts["n_quarantined"] += len(found)
    facts["n_frames"] += pc.sum(table.column("n_frames")).as_py()
    return table.set_column(SCORE_SCHEMA.get_field_index("selectable"), "selectable", selectable)
