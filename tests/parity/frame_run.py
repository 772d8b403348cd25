"""Runs VAD on an archive's frames, and names what comes out of it as upstream does."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sead_ray.model.contract import FrameBatch, VADOutput
from sead_ray.model.motion import NearMapLayer
from sead_ray.model.vad import VAD
from sead_ray.nuscenes.images import normalise
from tests.parity import where

OFFSET, ANGLE_DEG = slice(0, 3), 17  # columns of the CAN vector that are differences to the frame before


@dataclass
class FrameRun:
    """A frame's output, what its modules gave on the way, and which map instances each agent attended to.

    Attributes:
        near: (1, N, M) bool.
    """

    output: VADOutput
    taps: dict[str, Any] = field(default_factory=dict)
    near: Tensor = field(default_factory=lambda: torch.empty(0))


def frame_batch(inputs: dict[str, np.ndarray], index: int, alone: bool = False) -> FrameBatch:
    """A frame as the network takes it. `alone`: the first of its clip, so that nothing has moved."""
    images = inputs["images"][index : index + 1]
    filled = np.flatnonzero(images.any(axis=(0, 1, 3, 4)))
    rgb = torch.from_numpy(np.ascontiguousarray(images[..., ::-1]))
    can_bus = torch.from_numpy(inputs["can_bus"][index : index + 1].astype(np.float64))
    if alone:
        can_bus[:, OFFSET] = 0
        can_bus[:, ANGLE_DEG] = 0
    lidar2img = torch.from_numpy(inputs["lidar2img"][index : index + 1]).float()
    return FrameBatch(normalise(rgb, int(filled[-1]) + 1), lidar2img, can_bus)


def tapped_modules(model: VAD) -> dict[str, nn.Module]:
    layers: list[Any] = list(model.encoder.layers)
    return {f"enc_layer{index}": layer.norms[2] for index, layer in enumerate(layers)} | {
        "backbone": model.backbone,
        "fpn": model.neck,
        "init_reference": model.agents.reference_points,
        "map_init_reference": model.maps.reference_points,
        "motion_hs": model.motion.agent_layer,
        "motion_map_query": model.motion.map_layer,
        "lane_encoder": model.motion.lane_encoder,
        "agent_fus": model.planner.agent_fusion,
        "ego_agent_query": model.planner.agent_layer,
        "ego_map_query": model.planner.map_layer,
    }


def run_frame(model: VAD, frame: FrameBatch, history: Tensor | None, near: Tensor | None = None) -> FrameRun:
    """Runs one frame; with `near`, every agent attends to those map instances instead of its own choice."""
    taps: dict[str, Any] = {}
    with _tap(model, taps), _map_choice(model, taps, near):
        output = model(frame.to(where.DEVICE), None if history is None else history.to(where.DEVICE))
    output, taps = where.to_cpu(output), {name: where.to_cpu(value) for name, value in taps.items()}
    missing = sorted(set(tapped_modules(model)) - set(taps))
    assert not missing, (
        f"The model no longer calls the modules behind {missing}; tell `tapped_modules` where they went."
    )
    return FrameRun(output, taps, taps.pop("near"))


@contextmanager
def _tap(model: VAD, taps: dict[str, Any]) -> Iterator[None]:
    handles = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: taps.__setitem__(name, output))
        for name, module in tapped_modules(model).items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _map_choice(model: VAD, taps: dict[str, Any], near: Tensor | None) -> Iterator[None]:
    signature = inspect.signature(NearMapLayer.forward)

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict]:
        bound = signature.bind(module, *args, **kwargs)
        if near is not None:
            bound.arguments["near"] = near.to(where.DEVICE)
        taps["near"] = bound.arguments["near"]
        return bound.args[1:], bound.kwargs

    handle = model.motion.map_layer.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def map_distances(run: FrameRun, model: VAD) -> tuple[Tensor, Tensor]:
    """(N, M) normalised distance of each agent to each map instance, and (M,) the instances' scores."""
    output, size = run.output, model.size
    points = output.map_points[-1, 0]
    nearest = torch.linalg.vector_norm(points, dim=-1).argmin(-1)  # to the corner, as upstream
    places = points[torch.arange(len(points)), nearest]
    centers = _normalised(output.boxes[-1, 0, :, :2], size.pc_range)
    return torch.linalg.vector_norm(places[None] - centers[:, None], dim=-1), (
        output.map_class_logits[-1, 0].amax(-1).sigmoid()
    )


def reach_margins(run: FrameRun, model: VAD) -> Tensor:
    """(N, M) how far each agent's distance to each map instance is from the limit; inf for those of a low score."""
    distance, score = map_distances(run, model)
    margin = (distance - model.size.map_distance).abs()
    return torch.where(score > model.size.map_threshold, margin, float("inf"))


def _normalised(points_m: Tensor, pc_range: tuple[float, ...]) -> Tensor:
    dims = points_m.shape[-1]
    low, high = points_m.new_tensor(pc_range[:dims]), points_m.new_tensor(pc_range[3 : 3 + dims])
    return (points_m - low) / (high - low)


def _layers(value: Tensor, run: FrameRun) -> Tensor:
    """The one result of the trajectory branches, repeated for each decoder layer as upstream does."""
    return value.expand(len(run.output.boxes), *value.shape)


def _margins(run: FrameRun, model: VAD) -> Tensor:
    score = map_distances(run, model)[1]
    return torch.stack([(score - model.size.map_threshold).abs().min(), reach_margins(run, model).min()])


def _masked_keys(run: FrameRun, model: VAD) -> Tensor:
    """For each agent and mode, the map instances of a sufficient score that are out of its reach."""
    kept = (map_distances(run, model)[1] > model.size.map_threshold).sum()
    return (kept - run.near[0].sum(-1)).repeat_interleave(model.size.modes)


def _statistics(feature_map: Tensor) -> Tensor:
    return torch.stack([feature_map.mean(), feature_map.std()])


QUANTITIES: dict[str, Callable[[FrameRun, VAD], Tensor]] = {
    "bev_embed": lambda run, _: run.output.bev[0],
    "all_cls_scores": lambda run, _: run.output.class_logits,
    "all_bbox_preds": lambda run, _: run.output.boxes,
    "all_traj_preds": lambda run, _: _layers(run.output.mode_offsets, run),
    "all_traj_cls_scores": lambda run, _: _layers(run.output.mode_logits, run),
    "map_all_cls_scores": lambda run, _: run.output.map_class_logits,
    "map_all_bbox_preds": lambda run, _: run.output.map_boxes,
    "map_all_pts_preds": lambda run, _: run.output.map_points,
    "ego_fut_preds": lambda run, _: run.output.plans_m,
    "hs_last": lambda run, _: run.output.agent_features[0],
    "map_hs_last": lambda run, _: run.output.map_features[0].flatten(0, 1),
    "inter_references": lambda run, model: _normalised(run.output.boxes[:, 0][..., [0, 1, 4]], model.size.pc_range),
    "init_reference": lambda run, _: run.taps["init_reference"][0].sigmoid(),
    "map_init_reference": lambda run, _: run.taps["map_init_reference"][0].sigmoid(),
    "fpn": lambda run, _: run.taps["fpn"][0],
    "backbone_mean_std": lambda run, _: _statistics(run.taps["backbone"][-1]),
    "motion_hs": lambda run, _: run.taps["motion_hs"][0].flatten(0, -2),
    "motion_map_query": lambda run, _: run.taps["motion_map_query"][0].flatten(0, -2),
    "lane_encoder": lambda run, _: run.taps["lane_encoder"][0],
    "agent_fus": lambda run, _: run.taps["agent_fus"][0],
    "ego_agent_query": lambda run, _: run.taps["ego_agent_query"][0],
    "ego_map_query": lambda run, _: run.taps["ego_map_query"][0],
    "margins": _margins,
    "agent_dis_margin": lambda run, model: reach_margins(run, model).amin(-1),
    "motion_map_key_padding_mask_count": _masked_keys,
}


def quantity(name: str, run: FrameRun, model: VAD) -> Tensor:
    """Upstream's `name` (without its frame): a module's or a head's output, of which `_everyN` keeps rows 0, N, ...
    and `_everyNch` channels 0, N, ... .

    Raises:
        AssertionError: nothing is known under that name.
    """
    base, stride, channels = _thinned(name)
    layer = re.fullmatch(r"enc_layer\d+", base)
    assert layer or base in QUANTITIES, f"The archive holds {name!r}, which the suite cannot compute."
    value = run.taps[base][0] if layer else QUANTITIES[base](run, model)
    return value[:, ::stride] if channels else value[::stride]


def _thinned(name: str) -> tuple[str, int, bool]:
    match = re.fullmatch(r"(.+)_every(\d+)(ch)?", name)
    return (match[1], int(match[2]), bool(match[3])) if match else (name, 1, False)
