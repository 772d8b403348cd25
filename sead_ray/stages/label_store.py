"""Labels of the frames that were bought: the oracle's, or what annotators delivered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow.compute as pc

from sead_ray.config import RunConfig
from sead_ray.errors import InputError, LabelsPending
from sead_ray.records import FrameLabels, Selection
from sead_ray.schemas import LABEL_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.take_up import intake_tokens
from sead_ray.storage import Store


def read_labels(run: Store, config: RunConfig, frame_tokens: set[str], clip_tokens: set[str]) -> dict[str, FrameLabels]:
    """Labels of `frame_tokens`, by frame token; only rows of `clip_tokens` are read.

    Raises:
        InputError: a frame without labels; names it.
    """
    found: dict[str, FrameLabels] = {}
    for store, key in _label_files(run, config):
        for row in store.iter_rows(key, LABEL_SCHEMA, where=pc.field("clip_token").isin(sorted(clip_tokens))):
            if row["frame_token"] in frame_tokens:
                found[row["frame_token"]] = FrameLabels.from_row(row)
    missing = sorted(frame_tokens - found.keys())
    if missing:
        raise InputError(f"{len(missing)} frame(s) have no labels, the first is {missing[0]}.")
    return found


def labelled_frames(run: Store, config: RunConfig, frame_tokens: set[str]) -> set[str]:
    """Those of `frame_tokens` that have labels."""
    return {
        row["frame_token"]
        for store, key in _label_files(run, config)
        for row in store.iter_rows(key, LABEL_SCHEMA, columns=["frame_token"])
        if row["frame_token"] in frame_tokens
    }


def write_request(run: Store, config: RunConfig, number: int, frames: Mapping[str, list[str]]) -> None:
    """The label request of a round: frame (sample) tokens by clip."""
    total = sum(len(tokens) for tokens in frames.values())
    delivery = delivery_store(run, config)
    request = {"round": number, "n_clips": len(frames), "n_frames": total, "deliver_to": delivery.root, "clips": frames}
    run.write_json(layout.label_request(number), request)


def require_delivery(run: Store, config: RunConfig, number: int) -> None:
    """In `labels.mode: wait`, raises `LabelsPending` until every requested frame of the round was delivered.

    An oracle knows the data set's own clips: those of the service's intake have to be delivered to it, too.
    """
    came = set(intake_tokens(run).values()) if config.labels.mode == "oracle" else set()
    if config.labels.mode == "oracle" and not came:
        return
    clips = run.read_json(layout.label_request(number))["clips"]
    if came:
        clips = {token: frames for token, frames in clips.items() if token in came}
    wanted = {token for tokens in clips.values() for token in tokens}
    if not wanted:
        return
    delivery = delivery_store(run, config)
    for name in delivery.list(suffix=".parquet"):
        for row in delivery.iter_rows(name, LABEL_SCHEMA, columns=["frame_token"]):
            wanted.discard(row["frame_token"])
    if wanted:
        raise LabelsPending(run.path(layout.label_request(number)))


def requested_frames(selections: list[Selection], tokens_of: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Frame tokens that `selections` buy, by clip; `tokens_of` holds each clip's frame tokens in order."""
    return {
        item.clip_token: tokens_of[item.clip_token][item.frame_start : item.frame_stop]
        for item in selections
        if item.n_frames_bought
    }


def delivery_store(run: Store, config: RunConfig) -> Store:
    """Where label files appear."""
    return Store(config.labels.delivery) if config.labels.delivery else run.below(layout.LABELS_IN)


def _label_files(run: Store, config: RunConfig) -> Iterator[tuple[Store, str]]:
    yield run, layout.LABELS_FILE
    if config.labels.mode == "wait" or intake_tokens(run):
        delivery = delivery_store(run, config)
        for name in delivery.list(suffix=".parquet"):
            yield delivery, name
