"""What reaches the model of a clip's rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from sead_ray.config import RunConfig
from sead_ray.model.contract import FrameBatch
from sead_ray.nuscenes.sequence import can_bus_deltas
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.clip_runner import load_clip, run_clips
from sead_ray.storage import Store


def test_the_model_gets_the_can_values_as_they_stand_in_the_rows(tiny_run: Store, tiny_config: RunConfig) -> None:
    """An angle of 359.9 degrees or a position of kilometres loses what a slow car moves in float32."""
    clip = Clip.from_row(next(iter(tiny_run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA))))
    seen: list[torch.Tensor] = []

    def model(frame: FrameBatch, history: torch.Tensor | None) -> Any:
        seen.append(frame.can_bus)
        return SimpleNamespace(bev=torch.zeros(1, 1, 1))

    loaded = load_clip(clip, tiny_config.data.root, tiny_config.image)
    assert len(list(run_clips(model, [loaded], "cpu"))) == len(clip.frames)
    np.testing.assert_array_equal(torch.cat(seen).numpy(), can_bus_deltas(clip.frames))
    assert (torch.cat(seen).numpy() != can_bus_deltas(clip.frames).astype(np.float32)).any()
