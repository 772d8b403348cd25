"""What is computed once for each archive, and shared by its cases: the model, its frames, a training step."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from sead_ray.model.vad import VAD
from sead_ray.model.weights import load_upstream, upstream_name
from sead_ray.targets import FrameTargets
from sead_ray.training.criterion import BatchMatches, BatchTargets, VADCriterion
from tests.parity import where
from tests.parity.archive import PRESET, SIZE, Archive
from tests.parity.frame_run import FrameRun, frame_batch, run_frame
from tests.parity.near_ties import FutureError, settle

NOISE_FACTOR = 10  # what is allowed, in units of upstream's own float noise
HEADS = {  # what the losses read, and upstream's names
    "class_logits": "all_cls_scores",
    "boxes": "all_bbox_preds",
    "mode_offsets": "all_traj_preds",
    "mode_logits": "all_traj_cls_scores",
    "map_class_logits": "map_all_cls_scores",
    "map_points": "map_all_pts_preds",
    "plans_m": "ego_fut_preds",
}
STAGE = "stage_2"  # VAD_tiny_stage_2: the configuration that made the archives


@cache
def vad(archive: Archive) -> VAD:
    """The archive's model in eval mode: no dropout, no GridMask, batch norm with running statistics."""
    model = VAD(SIZE, pretrained_backbone=True).eval()
    load_upstream(model, archive.weights(PRESET))
    return model.to(where.DEVICE)


def frame_count(archive: Archive) -> int:
    return len(archive.inputs["images"])


@cache
def frames(archive: Archive) -> dict[str, FrameRun]:
    """`frame0`, `frame1`, ... with the history carried along, and `frameTalone` without, where the archive has it."""
    runs: dict[str, FrameRun] = {}
    history: Tensor | None = None
    with torch.no_grad():
        for index in range(frame_count(archive)):
            runs[f"frame{index}"] = _settled(archive, index, history)
            history = runs[f"frame{index}"].output.bev
        for name in archive.names("outputs.npz"):
            alone = re.match(r"(frame(\d+)alone)_", name)
            if alone and alone[1] not in runs:
                runs[alone[1]] = run_frame(vad(archive), frame_batch(archive.inputs, int(alone[2]), alone=True), None)
    return runs


def _settled(archive: Archive, index: int, history: Tensor | None) -> FrameRun:
    model, frame, name = vad(archive), frame_batch(archive.inputs, index), f"frame{index}_all_traj_preds"
    at, values, shape = archive.sampled("outputs.npz", name)
    error_of = FutureError(torch.from_numpy(at), torch.from_numpy(values), shape, allowed(archive, name))
    return settle(model, frame, history, run_frame(model, frame, history), error_of)


def allowed(archive: Archive, name: str) -> float:
    """Ten times the largest difference that upstream saw in an output when other kernels computed it.

    Where that is nothing, both its runs used one kernel; ten float32 steps are allowed.
    """
    assert name in archive.noise, f"{archive.path('noise.json')} says nothing of {name!r}."
    largest = float(np.abs(archive.sampled("outputs.npz", name)[1]).max(initial=0.0))
    return NOISE_FACTOR * max(float(archive.noise[name][0]), float(np.finfo(np.float32).eps) * largest)


def targets(archive: Archive, future_valid: bool = True) -> FrameTargets:
    """The labels of the last frame."""
    inputs = archive.inputs
    return FrameTargets(
        boxes=inputs["gt_boxes"],
        labels=inputs["gt_labels"],
        attributes=inputs["gt_attr"],
        map_points=archive.array("losses.npz", "map_gt_shift_pts_v2"),
        map_labels=inputs["map_labels"],
        ego_future=inputs["ego_fut_trajs"],
        ego_future_mask=inputs["ego_fut_masks"],
        command=int(inputs["ego_fut_cmd"].argmax()),
        future_valid=future_valid,
    )


@dataclass
class TrainingStep:
    """uncertainty: how exact each loss can be; gradients: of the losses' sum, by upstream's names."""

    losses: dict[str, float]
    matches: BatchMatches
    uncertainty: dict[str, float]
    gradients: dict[str, Tensor]


@cache
def training_step(archive: Archive) -> TrainingStep:
    """Forward and backward of the last frame, with the history of those before as a constant."""
    model, last, runs = vad(archive), frame_count(archive) - 1, frames(archive)
    history = runs[f"frame{last - 1}"].output.bev if last else None
    criterion, wanted = VADCriterion(STAGE), targets(archive)
    output = run_frame(model, frame_batch(archive.inputs, last), history, near=runs[f"frame{last}"].near).output
    losses = criterion(output, [wanted])
    torch.stack(list(losses.values())).sum().backward()
    gradients = {upstream_name(name): p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    matches = criterion.match(output, BatchTargets.from_frames([wanted], torch.device("cpu")))
    found = {name: float(value.detach()) for name, value in losses.items()}
    return TrainingStep(found, matches, loss_uncertainty(archive), gradients)


def loss_uncertainty(archive: Archive) -> dict[str, float]:
    """How far each loss term can be off when every head output is off by upstream's mean float noise, ten times.

    First order, for errors that do not know of each other. A planning loss hangs on a handful of map points, whose
    noise in metres is 60 times that of the normalised ones. Another device's kernels may add twice the noise.
    """
    last = frame_count(archive) - 1
    output = frames(archive)[f"frame{last}"].output
    leaves = {name: getattr(output, name).detach().clone().requires_grad_() for name in HEADS}
    losses = VADCriterion(STAGE)(replace(output, **leaves), [targets(archive)])
    noise = [float(archive.noise[f"frame{last}_{name}"][1]) for name in HEADS.values()]
    uncertainty = {}
    for name, loss in losses.items():
        uncertainty[name] = 0.0
        if loss.requires_grad:
            slopes = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True, allow_unused=True)
            parts = [float(s.double().norm()) * n for s, n in zip(slopes, noise, strict=True) if s is not None]
            uncertainty[name] = NOISE_FACTOR * (1 if where.DEVICE == "cpu" else 2) * float(np.linalg.norm(parts))
    return uncertainty
