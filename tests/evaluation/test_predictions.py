"""Decoded predictions, and what the devkit must never be handed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sead_ray.errors import InputError
from sead_ray.evaluation.detection_frames import clip_detections
from sead_ray.evaluation.predictions import decode_predictions
from sead_ray.model.contract import VADOutput
from sead_ray.records import Annotation, FrameLabels
from tests.evaluation.made_up import prediction
from tests.hand_made import make_clip

PC_RANGE = (-15.0, -30.0, -2.0, 15.0, 30.0, 2.0)
ROW = [0.0, 5.0, 0.0, 2.0, 4.5, 1.6, 0.0, 0.0, 0.0]


def output(rng: np.random.Generator, clips: int = 2, queries: int = 7, instances: int = 5) -> VADOutput:
    def random(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(size=shape)).float()

    empty = torch.empty(0)
    return VADOutput(
        *[empty] * 8,
        class_logits=random(3, clips, queries, 10),
        boxes=random(3, clips, queries, 10),
        mode_offsets=random(clips, queries, 6, 12),
        mode_logits=empty,
        map_class_logits=random(3, clips, instances, 3),
        map_boxes=empty,
        map_points=torch.from_numpy(rng.uniform(size=(3, clips, instances, 20, 2))).float(),
    )


def test_each_clip_is_decoded_from_the_last_layer() -> None:
    given = output(np.random.default_rng(0))
    for index, found in enumerate(decode_predictions(given, PC_RANGE)):
        best = int(given.class_logits[-1, index].argmax())
        assert found.labels[0] == best % 10
        assert found.scores[0] == pytest.approx(float(given.class_logits[-1, index].max().sigmoid()))
        assert (np.diff(found.scores) <= 0).all()
        query = best // 10
        np.testing.assert_array_equal(found.boxes[0, :2], given.boxes[-1, index, query, :2].numpy())
        np.testing.assert_array_equal(found.offsets_m[0], given.mode_offsets[index, query].reshape(6, 6, 2).numpy())
        assert found.lines_m.shape == (15, 20, 2)  # 5 instances in 3 classes
        assert np.abs(found.lines_m[..., 0]).max() <= 15
        assert np.abs(found.lines_m[..., 1]).max() > 15
        found.require_sound("f")


@pytest.mark.parametrize("name", ["boxes", "scores", "offsets_m", "lines_m", "line_scores"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_named(name: str, bad: float) -> None:
    sound = prediction([ROW], [0.5], [0], lines=(np.zeros((1, 20, 2)), np.ones(1), np.zeros(1)))
    sound.require_sound("frame-7")
    spoilt = np.array(getattr(sound, name))
    spoilt.reshape(-1)[-1] = bad
    with pytest.raises(InputError, match=f"{name} of frame frame-7"):
        dataclasses.replace(sound, **{name: spoilt}).require_sound("frame-7")


def test_a_box_without_extent_is_named() -> None:
    flat = [*ROW[:4], 0.0, *ROW[5:]]
    with pytest.raises(InputError, match="frame-7 have no extent"):
        prediction([flat], [0.5], [0]).require_sound("frame-7")


def test_an_annotation_without_extent_is_named() -> None:
    clip = make_clip(n_frames=1)
    box = Annotation("thing", "vehicle.car", 17, (1.0, 2.0, 0.5), (1.9, 0.0, 1.6), (1.0, 0.0, 0.0, 0.0), 12, 3)
    labels = FrameLabels(clip.frames[0].token, clip.clip_token, 0, (box,), ())
    with pytest.raises(InputError, match="instance thing has no extent"):
        clip_detections(clip, [prediction()], {labels.frame_token: labels})
