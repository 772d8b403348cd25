"""What people see of one clip, as in the paper's Figure 4: front camera, reason, shift trace, bird's-eye view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from sead_ray.records import Clip
from sead_ray.report.read import clips_of, labels_of, scores_of
from sead_ray.report.rounds import is_number
from sead_ray.report.sketch import bev_sketch
from sead_ray.report.thumbnails import ByteBudget, frames_to_show, thumbnail_uri
from sead_ray.report.trace import shift_trace
from sead_ray.storage import Store

FRAMES_PER_CLIP = 20
CLIPS_PER_ROUND = 12


@dataclass(frozen=True)
class Thumbnail:
    index: int
    uri: str | None  # None: the image is missing or unreadable
    bought: bool
    is_key: bool
    alt: str


@dataclass(frozen=True)
class ClipCard:
    """One clip.

    Attributes:
        purchase: its SELECTION_SCHEMA row; None where it was not bought.
        score_row: its SCORE_SCHEMA row, where it has a score; None in the first round.
        anchor: its id on the page.
        sketch_frame: the first key frame, else the first bought one.
    """

    clip: Clip
    purchase: dict[str, Any] | None
    score_row: dict[str, Any] | None
    anchor: str
    thumbnails: list[Thumbnail]
    trace: Markup | None
    sketch: Markup | None
    sketch_frame: int
    has_labels: bool
    has_plan: bool
    nearest_m: float | None

    @property
    def n_frames_left_out(self) -> int:
        return len(self.clip.frames) - len(self.thumbnails)


def bought_range(purchase: dict[str, Any] | None) -> range:
    if purchase is None or not purchase["n_frames_bought"]:
        return range(0)
    return range(purchase["frame_start"], purchase["frame_stop"])


def cards_of(
    run: Store,
    data: Store,
    index: int,
    purchases: Sequence[dict[str, Any]],
    near_m: float,
    budget: ByteBudget,
    delivery: Store | None = None,
) -> list[ClipCard]:
    """Cards of the first purchases by rank, as many as `CLIPS_PER_ROUND` and the bytes left in `budget` allow.

    Args:
        index: the round.
    """
    tokens = {purchase["clip_token"] for purchase in purchases[:CLIPS_PER_ROUND]}
    clips, scores = clips_of(run, tokens), scores_of(run, index, tokens)
    known = [purchase for purchase in purchases[:CLIPS_PER_ROUND] if purchase["clip_token"] in clips]
    cards = []
    for place, purchase in enumerate(known):
        token = purchase["clip_token"]
        card = make_card(
            run, data, clips[token], purchase, scores.get(token), near_m, f"card-{index}-{place}", delivery
        )
        if not budget.take(_size(card)):
            break
        cards.append(card)
    return cards


def make_card(
    run: Store,
    data: Store,
    clip: Clip,
    purchase: dict[str, Any] | None,
    score_row: dict[str, Any] | None,
    near_m: float,
    anchor: str,
    delivery: Store | None = None,
) -> ClipCard:
    """The card of one clip, bought or not. `anchor`: its id on the page."""
    bought = bought_range(purchase)
    score = score_row if score_row and score_row["status"] == "ok" else None
    frame = score["key_start"] if score and score["key_length"] else bought.start
    token = clip.frames[frame].token
    labels = labels_of(run, {token}, delivery).get(token) if frame in bought else None
    plan_m = None
    if score and frame == score["key_start"] and score.get("plan_m"):
        plan_m = np.reshape(score["plan_m"], (-1, 2))
    keys = [index for index, is_key in enumerate(score["is_key"]) if is_key] if score else []
    return ClipCard(
        clip=clip,
        purchase=purchase,
        score_row=score,
        anchor=anchor,
        thumbnails=_thumbnails(data, clip, bought, keys),
        trace=_trace(clip, score, anchor) if score else None,
        sketch=bev_sketch(clip, frame, labels, near_m, plan_m) if bought or score else None,
        sketch_frame=frame,
        has_labels=labels is not None,
        has_plan=plan_m is not None,
        nearest_m=min(filter(is_number, score["min_distance_m"]), default=None) if score else None,
    )


def _trace(clip: Clip, score: dict[str, Any], anchor: str) -> Markup:
    start_us = clip.frames[0].timestamp_us
    times_s = [(frame.timestamp_us - start_us) * 1e-6 for frame in clip.frames]
    return shift_trace(
        score["shift_agents"], score["shift_map"], score["is_key"], clip.name, times_s, f"trace-{anchor}"
    )


def _thumbnails(data: Store, clip: Clip, bought: range, keys: Sequence[int]) -> list[Thumbnail]:
    found = []
    for index in frames_to_show(len(clip.frames), bought, FRAMES_PER_CLIP):
        camera = next((camera for camera in clip.frames[index].cameras if camera.name == "CAM_FRONT"), None)
        uri = thumbnail_uri(data, camera.key) if camera else None
        marks = [*(["bought"] if index in bought else ["not bought"]), *(["key frame"] if index in keys else [])]
        alt = f"Front camera, frame {index}, {', '.join(marks)}"
        found.append(Thumbnail(index, uri, index in bought, index in keys, alt))
    return found


def _size(card: ClipCard) -> int:
    return (
        sum(len(thumbnail.uri or "") for thumbnail in card.thumbnails) + len(card.trace or "") + len(card.sketch or "")
    )
