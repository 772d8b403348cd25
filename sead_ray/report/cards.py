"""What the page shows of each selected clip: thumbnails, reason, shift trace, bird's-eye view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sead_ray.records import Clip
from sead_ray.report.read import clips_of, labels_of
from sead_ray.report.rounds import is_number
from sead_ray.report.sketch import bev_sketch, shift_trace
from sead_ray.report.thumbnails import ByteBudget, frames_to_show, thumbnail_uri
from sead_ray.storage import Store

FRAMES_PER_CLIP = 20
CLIPS_PER_ROUND = 12


@dataclass(frozen=True)
class Thumbnail:
    index: int
    uri: str | None  # None: the image is missing or unreadable
    bought: bool
    alt: str


@dataclass(frozen=True)
class ClipCard:
    """One purchase. `score_row`: its SCORE_SCHEMA row, None in the first round."""

    clip: Clip
    purchase: dict[str, Any]
    score_row: dict[str, Any] | None
    thumbnails: list[Thumbnail]
    trace: Markup | None
    sketch: Markup | None
    sketch_frame: int
    has_labels: bool
    nearest_m: float | None

    @property
    def n_frames_left_out(self) -> int:
        return len(self.clip.frames) - len(self.thumbnails)


def bought_range(purchase: dict[str, Any]) -> range:
    return range(purchase["frame_start"], purchase["frame_stop"]) if purchase["n_frames_bought"] else range(0)


def cards_of(
    run: Store,
    data: Store,
    purchases: list[dict[str, Any]],
    scores: list[dict[str, Any]],
    near_m: float,
    budget: ByteBudget,
    delivery: Store | None = None,
) -> list[ClipCard]:
    """Cards of the first purchases by rank, as many as `CLIPS_PER_ROUND` and the bytes left in `budget` allow."""
    purchases = purchases[:CLIPS_PER_ROUND]
    clips = clips_of(run, {purchase["clip_token"] for purchase in purchases})
    purchases = [purchase for purchase in purchases if purchase["clip_token"] in clips]
    wanted = {
        clips[purchase["clip_token"]].frames[purchase["frame_start"]].token
        for purchase in purchases
        if bought_range(purchase)
    }
    labels = labels_of(run, wanted, delivery)
    by_token = {row["clip_token"]: row for row in scores}
    cards = []
    for purchase in purchases:
        token = purchase["clip_token"]
        card = _card(data, clips[token], purchase, by_token.get(token), labels, near_m)
        if not budget.take(_size(card)):
            break
        cards.append(card)
    return cards


def _card(
    data: Store,
    clip: Clip,
    purchase: dict[str, Any],
    score_row: dict[str, Any] | None,
    labels: dict[str, Any],
    near_m: float,
) -> ClipCard:
    bought = bought_range(purchase)
    frame_labels = labels.get(clip.frames[bought.start].token) if bought else None
    trace, nearest_m = None, None
    if score_row and score_row["status"] == "ok":
        trace = shift_trace(score_row["shift_agents"], score_row["shift_map"], score_row["is_key"], clip.name)
        nearest_m = min(filter(is_number, score_row["min_distance_m"]), default=None)
    return ClipCard(
        clip=clip,
        purchase=purchase,
        score_row=score_row,
        thumbnails=_thumbnails(data, clip, bought),
        trace=trace,
        sketch=bev_sketch(clip, bought.start, frame_labels, near_m) if bought else None,
        sketch_frame=bought.start,
        has_labels=frame_labels is not None,
        nearest_m=nearest_m,
    )


def _thumbnails(data: Store, clip: Clip, bought: range) -> list[Thumbnail]:
    found = []
    for index in frames_to_show(len(clip.frames), bought, FRAMES_PER_CLIP):
        camera = next((camera for camera in clip.frames[index].cameras if camera.name == "CAM_FRONT"), None)
        uri = thumbnail_uri(data, camera.key) if camera else None
        mark = "bought" if index in bought else "not bought"
        found.append(Thumbnail(index, uri, index in bought, f"Front camera, frame {index}, {mark}"))
    return found


def _size(card: ClipCard) -> int:
    return (
        sum(len(thumbnail.uri or "") for thumbnail in card.thumbnails) + len(card.trace or "") + len(card.sketch or "")
    )
