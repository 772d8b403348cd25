"""Promotion: a model scores the fixed calibration set, then becomes the one that the service serves."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from sead_ray.config import ImageConfig, RunConfig, ScoreConfig
from sead_ray.errors import InputError
from sead_ray.model.weights import CARD, read_card
from sead_ray.schemas import CLIP_SCHEMA, SCORE_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.adopt import adopt_model
from sead_ray.stages.ledger import Ledger
from sead_ray.stages.registry import Promotion, Registry
from sead_ray.stages.score import score_into
from sead_ray.storage import Store

# Settings that decide a score; the others of `ScoreConfig` say where and how fast it is computed.
METHOD = (
    *("reduce_to", "warmup_frames", "rank_by", "theta_confidence", "theta_distance_m", "distance_from"),
    *("max_gap_factor", "nominal_interval_s", "pool_over", "bev_shift", "precision"),
)


def newest_round(run: Store) -> int | None:
    """Number of the last round whose model is published."""
    newest, number = None, 0
    while run.exists(layout.round_folder(number)):
        if run.is_published(layout.model(number)):
            newest = number
        number += 1
    return newest


def chosen_model(run: Store, number: int | None, model_dir: str) -> str:
    """The key of the model to promote: round `number`'s, the one in `model_dir`, or that of the newest round.

    Raises:
        InputError: both are given, or there is no such model.
    """
    if number is not None and model_dir:
        raise InputError("Give round or model_dir, one of the two.")
    if model_dir:
        card = read_card(Store(model_dir), CARD)
        key = layout.promoted_model(card["model_version"])
        if not run.exists(f"{key}/{CARD}"):
            adopt_model(run, model_dir, key, image_of(card, model_dir))
        return key
    number = newest_round(run) if number is None else number
    if number is None or not run.is_published(layout.model(number)):
        which = "no round" if number is None else f"round {number} has none"
        raise InputError(f"{run.root} holds no published model ({which}): train it first (jobs.run_rounds).")
    return layout.model(number)


def promote_model(run: Store, config: RunConfig, key: str, calibration_clips: int) -> Promotion:
    """Calibrates the model at `key`, unless it is, and makes it the one to serve.

    Args:
        config: where the images lie, and how many actors score; images and scores are as the model's card says.
        calibration_clips: how many clips the run's calibration set has, where it is made now; 0: no calibration.
    """
    registry = Registry(run)
    if calibration_clips:
        calibrate(run, config, key, calibration_clips)
    return registry.promote(key)


def calibrate(run: Store, config: RunConfig, key: str, n_clips: int) -> None:
    """Scores the calibration set with the model at `key`; returns at once where it has."""
    card = read_card(run, f"{key}/{CARD}")
    version = card["model_version"]
    if run.exists(layout.calibration(version)):
        return
    tokens = calibration_set(run, n_clips)
    scoring = config.model_copy(
        update={"image": image_of(card, run.path(key)), "score": score_settings(card, run.path(key), config.score)}
    )
    ledger = Ledger(run, layout.calibration_parts(version), SCORE_SCHEMA)
    score_into(ledger, scoring, key, version, pa.array(tokens, pa.string()), f"calibrate {version}")
    run.write_table(layout.calibration(version), ledger.rows(tokens), SCORE_SCHEMA)
    run.remove(ledger.folder)


def calibration_set(run: Store, n_clips: int) -> list[str]:
    """The run's calibration set, which is chosen at the first promotion and stays.

    Clips of val, since no model of the run was trained on any of them; of the pool where there is no val. The choice
    goes by a hash of the tokens.

    Raises:
        InputError: the run folder holds no clips.
    """
    if run.exists(layout.CALIBRATION_SET):
        return run.read_json(layout.CALIBRATION_SET)["clips"]
    if not run.is_published(layout.CLIPS):
        raise InputError(f"{run.root} holds no prepared clips to calibrate with: run jobs.prepare_clips first.")
    by_role: dict[str, list[str]] = {"val": [], "pool": []}
    for row in run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA, columns=["clip_token", "split"]):
        by_role[row["split"]].append(row["clip_token"])
    role = "val" if by_role["val"] else "pool"
    tokens = sorted(by_role[role], key=lambda token: hashlib.sha256(token.encode()).hexdigest())[:n_clips]
    run.write_json(layout.CALIBRATION_SET, {"split": role, "clips": tokens})
    return tokens


def image_of(card: dict[str, Any], path: str) -> ImageConfig:
    return _settings(ImageConfig, card, "image", path)


def score_settings(card: dict[str, Any], path: str, config: ScoreConfig) -> ScoreConfig:
    """What decides a score as the card says, with images decoded as the service does; sizes and places as the run's."""
    of_card = _settings(ScoreConfig, card, "score", path)
    return config.model_copy(update={name: getattr(of_card, name) for name in METHOD} | {"decode_on": "cpu"})


def _settings(schema: Any, card: dict[str, Any], name: str, path: str) -> Any:
    try:
        return schema.model_validate(card["info"][name])
    except (KeyError, TypeError, ValidationError):
        raise InputError(f"The model in {path} cannot be served: its card's info lacks the {name} settings.") from None
