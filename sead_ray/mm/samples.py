"""`Det3DDataSample` in and out: which of its fields hold what VAD needs and gives (listed in `VADDetector`).

Shape legend: B samples, F frames of a queue, K cameras, n agents, m map lines, O point orders, P points, T steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet3d.structures import Det3DDataSample
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from torch import Tensor

from sead_ray.errors import InputError
from sead_ray.mm.boxes import lidar_boxes, vad_boxes
from sead_ray.model.contract import FrameBatch, VADOutput
from sead_ray.model.decode import decode_boxes, decode_lines
from sead_ray.records import FUTURE_STEPS, MAP_POINTS, Command
from sead_ray.targets import MAP_ORDER_FILL, MAP_ORDERS, FrameTargets

ATTRIBUTES = 34  # of VAD's row, of which the losses read the futures: per-step offsets 6 x 2, mask 6
FUTURE_COLUMNS = 3 * FUTURE_STEPS


def pack_sample(
    lidar2img: Any,
    can_bus: Any,
    targets: FrameTargets | None = None,
    prev_bev: Tensor | None = None,
    **metainfo: Any,
) -> Det3DDataSample:
    """A sample from what the project's own loaders give: (F, K, 4, 4) and (F, 18), F = 1 without a queue."""
    sample = Det3DDataSample(metainfo={"lidar2img": lidar2img, "can_bus": can_bus, **metainfo})
    if prev_bev is not None:
        sample.prev_bev = prev_bev
    if targets is not None:
        sample.gt_instances_3d = InstanceData(
            bboxes_3d=lidar_boxes(torch.as_tensor(targets.boxes, dtype=torch.float32)),
            labels_3d=torch.as_tensor(targets.labels),
            attr_labels=torch.as_tensor(targets.attributes, dtype=torch.float32),
        )
        sample.set_metainfo(
            {
                "gt_map_points": targets.map_points,
                "gt_map_labels": targets.map_labels,
                "ego_fut_trajs": targets.ego_future,
                "ego_fut_masks": targets.ego_future_mask,
                "ego_fut_cmd": int(targets.command),
            }
        )
    return sample


def frame_batches(images: Any, samples: Sequence[Det3DDataSample], cameras: int) -> list[FrameBatch]:
    """The F frames of B samples, oldest first.

    Args:
        images: (B, F * K, 3, H, W) as `Det3DDataPreprocessor` leaves them, or (B, F, K, 3, H, W); normalised RGB.

    Raises:
        InputError: a shape or a key of the metainfo is missing or wrong; names the sample and the key.
    """
    if not isinstance(images, Tensor) or images.dim() not in (5, 6):
        raise InputError("inputs['imgs'] must be a tensor (B, frames * cameras, 3, H, W), frames oldest first.")
    images = images.flatten(1, 2) if images.dim() == 6 else images
    if images.shape[1] % cameras or len(images) != len(samples):
        raise InputError(
            f"inputs['imgs'] has {len(images)} samples of {images.shape[1]} images; the model expects {len(samples)} "
            f"of a multiple of {cameras}."
        )
    frames = images.shape[1] // cameras
    lidar2img = [_numbers(sample, i, "lidar2img", (frames, cameras, 4, 4)) for i, sample in enumerate(samples)]
    can_bus = [_numbers(sample, i, "can_bus", (frames, 18)) for i, sample in enumerate(samples)]
    views = images.unflatten(1, (frames, cameras))
    matrices = torch.from_numpy(np.stack(lidar2img)).to(images.device)
    motion = torch.from_numpy(np.stack(can_bus)).to(images.device)
    return [FrameBatch(views[:, i], matrices[:, i], motion[:, i]) for i in range(frames)]


def frame_targets(sample: Det3DDataSample, index: int) -> FrameTargets:
    """What the losses compare with; `InputError` where a field is missing."""
    if "gt_instances_3d" not in sample:
        raise InputError(f"Sample {index} has no gt_instances_3d, which mode='loss' needs.")
    truth: Any = sample.gt_instances_3d
    for name in ("bboxes_3d", "labels_3d", "attr_labels"):
        if name not in truth:
            raise InputError(f"Sample {index} has no gt_instances_3d.{name}, which mode='loss' needs.")
    boxes = _array(vad_boxes(truth.bboxes_3d)).reshape(-1, 9)
    given = _array(truth.attr_labels)
    if given.ndim != 2 or len(given) != len(boxes) or not FUTURE_COLUMNS <= given.shape[1] <= ATTRIBUTES:
        raise InputError(
            f"Sample {index}: gt_instances_3d.attr_labels has shape {given.shape}, expected {len(boxes)} rows of "
            f"{FUTURE_COLUMNS} to {ATTRIBUTES} numbers."
        )
    attributes = np.zeros((len(boxes), ATTRIBUTES), np.float32)
    attributes[:, : given.shape[1]] = given
    labels = _numbers(sample, index, "gt_map_labels", (-1,))
    points = _numbers(sample, index, "gt_map_points", (len(labels), -1, MAP_POINTS, 2) if len(labels) else (0,))
    return FrameTargets(
        boxes=boxes,
        labels=_array(truth.labels_3d).astype(np.int64),
        attributes=attributes,
        map_points=_all_orders(points, len(labels)),
        map_labels=labels.astype(np.int64),
        ego_future=_numbers(sample, index, "ego_fut_trajs", (FUTURE_STEPS, 2)),
        ego_future_mask=_numbers(sample, index, "ego_fut_masks", (FUTURE_STEPS,)),
        command=_command(sample, index),
        future_valid=True,
    )


def add_predictions(
    samples: Sequence[Det3DDataSample], output: VADOutput, pc_range: tuple[float, ...]
) -> list[InstanceData]:
    """Adds the map, the paths and the BEV to each sample; returns the agents for `add_pred_to_datasample`."""
    agents = []
    decoded = zip(samples, decode_boxes(output), decode_lines(output, pc_range), strict=True)
    for index, (sample, boxes, lines) in enumerate(decoded):
        steps = output.mode_trajectories_m.shape[-2:]
        agents.append(
            InstanceData(
                bboxes_3d=lidar_boxes(boxes.boxes),
                scores_3d=boxes.scores,
                labels_3d=boxes.labels,
                fut_trajs=boxes.offsets_m.unflatten(-1, steps),
                fut_scores=output.mode_probabilities[index][boxes.queries],
            )
        )
        sample.pred_map_instances = InstanceData(points=lines.points_m, scores=lines.scores, labels=lines.labels)
        sample.ego_fut_preds = output.plans_m[index]
        sample.bev = output.bev[index].detach()
    return agents


def _command(sample: Det3DDataSample, index: int) -> int:
    """From an index, or one-hot as upstream has it."""
    given = _numbers(sample, index, "ego_fut_cmd", (-1,))
    command = int(given.argmax() if len(given) == len(Command) else given[0]) if len(given) else -1
    if len(given) not in (1, len(Command)) or not 0 <= command < len(Command):
        raise InputError(f"Sample {index}: 'ego_fut_cmd' is {given.tolist()}, neither an index nor one-hot of 3.")
    return command


def _all_orders(points: NDArray[np.float32], lines: int) -> NDArray[np.float32]:
    """(m, O, P, 2) filled up to the orders that the losses expect."""
    out = np.full((lines, MAP_ORDERS, MAP_POINTS, 2), MAP_ORDER_FILL, np.float32)
    if lines:
        out[:, : points.shape[1]] = points
    return out


def _numbers(sample: Det3DDataSample, index: int, key: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A value of the metainfo as float32 in `shape`; `InputError` where it is missing or does not fit."""
    if key not in sample.metainfo:
        raise InputError(f"Sample {index} has no {key!r} in its metainfo.")
    value = _array(sample.metainfo[key])
    try:
        return value.reshape(shape).astype(np.float32)
    except ValueError:
        expected = " x ".join("any" if size < 0 else str(size) for size in shape)
        raise InputError(f"Sample {index}: {key!r} has shape {value.shape}, expected {expected}.") from None


def _array(value: Any) -> NDArray[Any]:
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor):
        return np.stack([_array(item) for item in value])
    return np.asarray(value)
