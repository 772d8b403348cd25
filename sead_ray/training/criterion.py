"""The training objective of VAD: 27 named terms for three decoder layers; their sum is the loss.

It knows only a `VADOutput` and targets: the model never sees a label, the criterion never sees an image.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from sead_ray.model.contract import VADOutput
from sead_ray.targets import FrameTargets
from sead_ray.training import losses, planning_losses
from sead_ray.training.batch import BatchTargets
from sead_ray.training.matching import Matches, agent_costs, map_costs, match

Preset = Literal["stage_1", "stage_2", "e2e"]
PC_RANGE = (-15.0, -30.0, -2.0, 15.0, 30.0, 2.0)  # VAD: point_cloud_range


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; classification, boxes and points are matched with the same ones (VAD: assigner).

    VAD's weights for the map's boxes and their IoU are 0, so both terms are reported as 0 and not computed.
    """

    cls: float = 2.0
    bbox: float = 0.25
    traj: float = 0.2
    traj_cls: float = 0.2
    map_cls: float = 2.0
    map_pts: float = 1.0
    map_dir: float = 0.005
    plan_reg: float = 1.0
    plan_bound: float = 1.0
    plan_col: float = 1.0
    plan_dir: float = 0.5


LOSS_PRESETS: dict[str, LossWeights] = {  # VAD: configs VAD_tiny_stage_1, _stage_2, _e2e
    "stage_1": LossWeights(plan_reg=0.0, plan_bound=0.0, plan_col=0.0, plan_dir=0.0),
    "stage_2": LossWeights(cls=0.8, bbox=0.1, map_cls=0.8, map_pts=0.4),
    "e2e": LossWeights(),
}


@dataclass(frozen=True)
class Predictions:
    """What the losses read of a `VADOutput`, in float32."""

    class_logits: Tensor
    boxes: Tensor
    mode_offsets: Tensor
    mode_logits: Tensor
    map_class_logits: Tensor
    map_points: Tensor
    plans_m: Tensor

    @classmethod
    def of(cls, output: VADOutput | Predictions) -> Predictions:
        return cls(*(getattr(output, field.name).float() for field in fields(cls)))


@dataclass(frozen=True)
class BatchMatches:
    """Agents' and map lines' matches, and the nearest point order of every (line query, line) pair."""

    agents: Matches
    lines: Matches
    orders: Tensor  # (L, B, M, G)


@dataclass(frozen=True)
class Assigned:
    """What each query shall predict: all that the terms read of labels, in shapes that a batch's size alone decides.

    A query without a target has that of another one, or zeros.
    """

    agents: Matches
    labels: Tensor  # (L, B, N)
    box_codes: Tensor  # (L, B, N, 10)
    futures: Tensor  # (B, N, T, 2) by the last layer's matches
    future_masks: Tensor  # (B, N, T)
    lines: Matches
    line_labels: Tensor  # (L, B, M)
    line_points_m: Tensor  # (L, B, M, P, 2) in the order that is nearest to the prediction
    ego_future: Tensor  # (B, T, 2)
    ego_mask: Tensor  # (B, T)
    command: Tensor  # (B,)


class VADCriterion:
    """`VADCriterion(preset)(output, targets)`: named, weighted terms, each a scalar; their sum is the loss.

    A batch's terms are the mean of those of its samples, each as upstream computes it for a batch of one; NaN terms
    of a sample count as 0 (VAD: nan_to_num). Computed in float32 whatever the model's precision.

    Args:
        preset: upstream's training stage, or `weights` of one's own.
        pc_range: x, y, z minima, then maxima, in metres.
    """

    def __init__(
        self, preset: Preset = "e2e", pc_range: tuple[float, ...] = PC_RANGE, weights: LossWeights | None = None
    ) -> None:
        self.weights = weights or LOSS_PRESETS[preset]
        self.pc_range = tuple(float(value) for value in pc_range)

    def __call__(
        self, output: VADOutput | Predictions, targets: list[FrameTargets] | BatchTargets
    ) -> dict[str, Tensor]:
        """Args:
            output: B samples.
            targets: B frames, or what the loader made of them on the output's device; a frame may have no agent and
                no map element.

        Raises:
            FloatingPointError: the outputs are not finite.
        """
        device = output.class_logits.device
        batch = targets if isinstance(targets, BatchTargets) else BatchTargets.from_frames(targets, device)
        with torch.autocast(device.type, enabled=False):
            found = Predictions.of(output)
            return self.terms(found, self.assign(found, batch))

    def assign(self, found: Predictions, batch: BatchTargets) -> Assigned:
        """Labels by query. The one part of the criterion that waits for the device, for the matching.

        Raises:
            FloatingPointError: the predictions are not finite.
        """
        matches = self.match(found, batch)
        agents, lines = matches.agents, matches.lines
        return Assigned(
            agents=agents,
            labels=_rows(batch.labels, agents.flat_target),
            box_codes=_rows(batch.box_codes, agents.flat_target),
            futures=_rows(batch.futures, agents.flat_target[-1]),
            future_masks=_rows(batch.future_masks, agents.flat_target[-1]),
            lines=lines,
            line_labels=_rows(batch.line_labels, lines.flat_target),
            line_points_m=_nearest_order(batch.line_points_m, matches),
            ego_future=batch.ego_future,
            ego_mask=batch.ego_mask,
            command=batch.command,
        )

    def terms(self, found: Predictions, wanted: Assigned) -> dict[str, Tensor]:
        """The named, weighted terms. Nothing in them waits for the device, and no shape depends on the labels."""
        layers = self._agent_terms(found, wanted) | self._map_terms(found, wanted)
        terms = _by_layer({name: _batch_mean(values) for name, values in layers.items()})
        return terms | self._motion_terms(found, wanted) | self._planning_terms(found, wanted)

    def match(self, output: VADOutput | Predictions, batch: BatchTargets) -> BatchMatches:
        """Assigns targets to queries, each layer and sample alone; no gradient."""
        with torch.no_grad():
            agents = agent_costs(
                output.class_logits,
                output.boxes,
                batch.labels[batch.agent_index],
                batch.box_codes[batch.agent_index],
                self.weights.cls,
                self.weights.bbox,
            )
            lines, orders = map_costs(
                output.map_class_logits,
                output.map_points,
                batch.line_labels[batch.line_index],
                losses.normalise_points(batch.line_points_m, self.pc_range)[batch.line_index],
                self.weights.map_cls,
                self.weights.map_pts,
            )
            found = match([agents, lines], [batch.n_agents, batch.n_lines], agents.device)
        return BatchMatches(found[0], found[1], orders)

    def _agent_terms(self, output: Predictions, wanted: Assigned) -> dict[str, Tensor]:
        classes = losses.classification_loss(output.class_logits, wanted.labels, wanted.agents)
        return {
            "loss_cls": self.weights.cls * classes,
            "loss_bbox": self.weights.bbox * losses.box_loss(output.boxes, wanted.box_codes, wanted.agents),
        }

    def _map_terms(self, output: Predictions, wanted: Assigned) -> dict[str, Tensor]:
        target = losses.normalise_points(wanted.line_points_m, self.pc_range)
        points_m = losses.denormalise_points(output.map_points, self.pc_range)
        classes = losses.classification_loss(output.map_class_logits, wanted.line_labels, wanted.lines)
        points = losses.map_points_loss(output.map_points, target, wanted.lines)
        direction = losses.map_direction_loss(points_m, wanted.line_points_m, wanted.lines)
        return {
            "loss_map_cls": self.weights.map_cls * classes,
            "loss_map_bbox": torch.zeros_like(classes),
            "loss_map_iou": torch.zeros_like(classes),
            "loss_map_pts": self.weights.map_pts * points,
            "loss_map_dir": self.weights.map_dir * direction,
        }

    def _motion_terms(self, output: Predictions, wanted: Assigned) -> dict[str, Tensor]:
        offsets, choice = losses.trajectory_losses(
            output.mode_offsets, output.mode_logits, wanted.futures, wanted.future_masks, wanted.agents
        )
        return {
            "loss_traj": _batch_mean(self.weights.traj * offsets)[0],
            "loss_traj_cls": _batch_mean(self.weights.traj_cls * choice)[0],
        }

    def _planning_terms(self, output: Predictions, wanted: Assigned) -> dict[str, Tensor]:
        plan, mask = planning_losses.select_plan(output.plans_m, wanted.command), wanted.ego_mask
        lines_m = losses.denormalise_points(output.map_points[-1], self.pc_range)
        line_scores = output.map_class_logits[-1].sigmoid()
        collision = planning_losses.collision_loss(
            plan,
            output.boxes[-1][..., :2],
            output.mode_offsets.unflatten(-1, (-1, 2)),
            output.class_logits[-1].sigmoid(),
            output.mode_logits.sigmoid(),
            mask,
        )
        imitation = planning_losses.imitation_loss(output.plans_m, wanted.ego_future, mask, wanted.command)
        boundary = planning_losses.boundary_loss(plan, lines_m, line_scores, mask)
        direction = planning_losses.direction_loss(plan, lines_m, line_scores, mask)
        return {
            "loss_plan_reg": _batch_mean(self.weights.plan_reg * imitation),
            "loss_plan_bound": _batch_mean(self.weights.plan_bound * boundary),
            "loss_plan_col": _batch_mean(self.weights.plan_col * collision),
            "loss_plan_dir": _batch_mean(self.weights.plan_dir * direction),
        }


def _batch_mean(values: Tensor) -> Tensor:
    """Mean over the last dimension, the samples; a sample's NaN counts as 0."""
    return values.nan_to_num().mean(dim=-1)


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """`table[index]`; zeros of a table without a row."""
    return table[index] if len(table) else table.new_zeros(*index.shape, *table.shape[1:])


def _nearest_order(points_m: Tensor, matches: BatchMatches) -> Tensor:
    """(L, B, M, P, 2) each line query's target, in the point order that is nearest to its prediction.

    Args:
        points_m: (all targets, O, P, 2).
    """
    if not len(points_m):
        return points_m.new_zeros(*matches.lines.target.shape, *points_m.shape[2:])
    order = torch.gather(matches.orders, -1, matches.lines.target[..., None])[..., 0]
    return points_m[matches.lines.flat_target, order]


def _by_layer(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """(L,) terms under upstream's names: the last layer's plain, the others' with `d<layer>.`."""
    named = {name: values[-1] for name, values in terms.items()}
    for name, values in terms.items():
        named.update({f"d{layer}.{name}": value for layer, value in enumerate(values[:-1])})
    return named
