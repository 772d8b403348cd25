"""The ablation of the feature shift's reduction, over a pool seen by a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from sead_ray.config import RunConfig, ScoreConfig
from sead_ray.errors import InputError
from sead_ray.scoring.ablation import AblationRow, ablation_table, clip_reductions, decide, markdown
from sead_ray.stages import layout
from sead_ray.stages.attempts import Failure
from sead_ray.stages.clip_pipeline import run_pipeline
from sead_ray.stages.clip_runner import LoadedClip, run_clips
from sead_ray.stages.cluster import connect
from sead_ray.stages.ledger import Ledger
from sead_ray.stages.lock import driver_lock
from sead_ray.stages.overlap import Overlap
from sead_ray.stages.pipeline_size import pipeline_size
from sead_ray.stages.prepare import ensure_world, prepare
from sead_ray.stages.progress import Progress, say
from sead_ray.stages.rounds import claim_config, located, run_round
from sead_ray.stages.score import pool_tokens
from sead_ray.stages.select import read_pool
from sead_ray.storage import Store

_PART = pa.schema(
    [
        ("clip_token", pa.string()),
        ("reason", pa.string()),
        ("n_channels", pa.int32()),
        ("n_transitions", pa.int32()),
        ("shift_sums", pa.list_(pa.float64())),
        ("seconds", pa.list_(pa.float64())),
    ]
)
_TABLE = pa.schema(
    [
        ("reduction", pa.string()),
        ("pool_over", pa.string()),
        ("k", pa.int32()),
        ("n_clips", pa.int32()),
        ("ms_per_frame", pa.float64()),
        ("spearman", pa.float64()),
        ("mean_shift", pa.float64()),
    ]
)


def ablate_shift(config: RunConfig, max_clips: int | None) -> str:
    """Runs the ablation with the run's newest model; a run without one is first taken through its round 0.

    Returns:
        The table and what the rule says of it; both lie in `ablation/` of the run folder too.
    """
    config = located(config)
    run = Store(config.run_dir)
    with driver_lock(run):
        claim_config(run, config)
        ensure_world(config)
        prepare(run, config)
        models = [number for number in range(len(config.select.rounds)) if run.is_published(layout.model(number))]
        if not models:
            alone = config.model_copy(update={"overlap": False})
            run_round(run, alone, 0, read_pool(run, config), Overlap(run, alone))
        model_key = layout.model(max(models, default=0))
        rows = _measure(run, config, model_key, pool_tokens(run)[:max_clips].to_pylist())
    text = f"{markdown(rows)}\n\n{decide(rows)}"
    run.write_table("ablation/shift.parquet", [asdict(row) for row in rows], _TABLE)
    run.write_bytes("ablation/shift.md", f"{text}\n".encode())
    return f"{text}\n{run.path('ablation/shift.md')}"


def _measure(run: Store, config: RunConfig, model_key: str, tokens: list[str]) -> list[AblationRow]:
    version = run.read_json(f"{model_key}/model.json")["model_version"]
    ledger = Ledger(run, f"ablation/parts/{version}", _PART)
    done = set(ledger.done().to_pylist())
    connect()
    score = config.score
    with (
        Progress("ablate shift", len(tokens), "clip", done=len(done & set(tokens))) as progress,
        run_pipeline(
            run,
            config.data.root,
            config.image,
            model_key,
            [token for token in tokens if token not in done],
            work=_queries,
            finish=partial(_finish, ledger=ledger, config=score),
            size=pipeline_size(score, score.clips_per_batch, score.min_actors, score.max_actors),
        ) as finished,
    ):
        for _ in finished:
            progress.advance()
    rows = ledger.rows(tokens)
    good = [row for row in rows if row["n_transitions"]]
    if len(good) < len(rows):
        say(f"{len(rows) - len(good)} clips were left out, the first: {next(r['reason'] for r in rows if r['reason'])}")
    if not good:
        raise InputError("No clip of the pool could be scored.")
    return ablation_table(
        good[0]["n_channels"],
        np.array([row["n_transitions"] for row in good]),
        np.array([row["shift_sums"] for row in good]),
        np.array([row["seconds"] for row in good]),
    )


def _queries(model: Any, _version: str, clips: Sequence[LoadedClip], device: str) -> list[Any]:
    """(time stamps, (T, N, C) agents, (T, M, C) map instances) of each clip, nothing reduced."""
    agents: list[list[Any]] = [[] for _ in clips]
    maps: list[list[Any]] = [[] for _ in clips]
    for _, active, output in run_clips(model, clips, device):
        a = output.agent_features.float().cpu().numpy()
        m = output.map_features.float().mean(dim=2).cpu().numpy()
        for row, index in enumerate(active):
            agents[index].append(a[row])
            maps[index].append(m[row])
    stamps = [[frame.timestamp_us for frame in loaded.clip.frames] for loaded in clips]
    return [(times, np.stack(a), np.stack(m)) for times, a, m in zip(stamps, agents, maps)]


def _finish(results: Sequence[tuple[str, Any]], ledger: Ledger, config: ScoreConfig) -> list[dict[str, Any]]:
    ledger.add([_reduced(token, result, config) for token, result in results])
    return [{"clip_token": token} for token, _ in results]


def _reduced(token: str, result: Any, config: ScoreConfig) -> dict[str, Any]:
    row: dict[str, Any] = {"clip_token": token, "reason": "", "n_transitions": 0, "shift_sums": [], "seconds": []}
    if isinstance(result, Failure):
        row["reason"] = result.reason
    elif not all(np.isfinite(queries).all() for queries in result[1:]):
        row["reason"] = f"Clip {token} has features that are not finite."
    else:
        stamps, agents, maps = result
        row["n_channels"] = agents.shape[2]
        row["n_transitions"], row["shift_sums"], row["seconds"] = clip_reductions(agents, maps, stamps, config)
        row["reason"] = "" if row["n_transitions"] else f"Clip {token} has no transition of the nominal interval."
    return row
