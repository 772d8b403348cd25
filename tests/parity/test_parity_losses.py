"""Training on the last frame: losses, matches, gradients.

The function is compared on upstream's own head outputs, where nothing but the criterion can differ; then the whole
step, forward included, on ours, which carry float noise as upstream's second run does.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch

from sead_ray.model.contract import VADOutput
from sead_ray.model.weights import upstream_name
from sead_ray.nuscenes.map_targets import equivalent_orders
from sead_ray.targets import MAP_ORDER_FILL
from sead_ray.training.criterion import PC_RANGE, BatchMatches, BatchTargets, VADCriterion
from sead_ray.training.losses import normalise_points
from tests.parity.archive import ARCHIVES, Archive
from tests.parity.runs import HEADS, NOISE_FACTOR, STAGE, allowed, frame_count, frames, targets, training_step, vad

FILE = "losses.npz"
LOSS_RTOL = 1e-5
LOSS_ATOL = 1e-7  # for terms that are 0
GRADIENT_RTOL = 1e-3
TOTAL = "loss"
MATCHES = r"(det|map)_assigned_gt_layer(\d+)|map_order_index_layer(\d+)"
LABELS = ("map_gt_fixed_pts", "map_gt_shift_pts_v2", "gt_box_target_gravity")
LISTS = ("loss_names", "loss_values", "grad_norm_names", "grad_norm_values", "no_grad_names", "frozen_names")
# Upstream's boxes of map lines: their losses have weight 0, and are not computed here (see `LossWeights`).
NOT_USED = ("map_gt_bbox",)

by_archive = pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.label)


def named(pattern: str) -> pytest.MarkDecorator:
    cases = [
        pytest.param(archive, name, id=f"{archive.label}-{name}")
        for archive in ARCHIVES
        for name in archive.names(FILE)
        if re.fullmatch(pattern, name)
    ]
    return pytest.mark.parametrize(("archive", "name"), cases)


def upstream_losses(archive: Archive) -> dict[str, float]:
    names, values = archive.array(FILE, "loss_names"), archive.array(FILE, "loss_values")
    return dict(zip(names.tolist(), values.tolist(), strict=True))


def loss_cases() -> list:
    present = [archive for archive in ARCHIVES if "loss_names" in archive.names(FILE)]
    return [
        pytest.param(archive, name, id=f"{archive.label}-{name}")
        for archive in present
        for name in archive.array(FILE, "loss_names").tolist()
    ]


@by_archive
def test_no_number_is_left_out(archive: Archive) -> None:
    names = archive.names(FILE)
    layers = range(vad(archive).size.decoder_layers)
    kinds = ("det_assigned_gt", "map_assigned_gt", "map_order_index")
    expected = {*LABELS, *LISTS, *NOT_USED, "total_grad_norm"} | {f"{k}_layer{i}" for k in kinds for i in layers}
    assert {name for name in names if not name.startswith("grad:")} == expected
    assert any(name.startswith("grad:") for name in names)


@by_archive
def test_loss_terms_have_upstreams_names(archive: Archive) -> None:
    assert sorted(training_step(archive).losses) == sorted(set(upstream_losses(archive)) - {TOTAL})
    assert len(training_step(archive).losses) == 6 + 7 * vad(archive).size.decoder_layers


@pytest.mark.parametrize(("archive", "name"), loss_cases())
def test_loss_is_upstreams(archive: Archive, name: str) -> None:
    """To 1e-5, or to what the noise that the head outputs are allowed makes of it."""
    step = training_step(archive)
    value = sum(step.losses.values()) if name == TOTAL else step.losses[name]
    slack = sum(step.uncertainty.values()) if name == TOTAL else step.uncertainty[name]
    assert value == pytest.approx(upstream_losses(archive)[name], rel=LOSS_RTOL, abs=max(LOSS_ATOL, slack))


def found_match(name: str, matches: BatchMatches, lines: int) -> torch.Tensor:
    """Matches of a batch of one as upstream writes them: for each query 0, or 1 + the index of its target."""
    layer = int(name.rsplit("layer", 1)[1])
    if name.startswith("map_order"):
        return matches.orders[layer, 0, :, :lines]
    part = matches.agents if name.startswith("det") else matches.lines
    return torch.where(part.matched[layer, 0], part.target[layer, 0] + 1, 0)


def compare_match(archive: Archive, name: str, matches: BatchMatches) -> torch.Tensor:
    """(n, ...) places that differ."""
    expected = torch.from_numpy(archive.array(FILE, name).astype(np.int64))
    found = found_match(name, matches, len(archive.inputs["map_labels"]))
    assert found.shape == expected.shape
    return (found != expected).nonzero()


@named(r"(det|map)_assigned_gt_layer\d+")
def test_match_is_upstreams(archive: Archive, name: str) -> None:
    assert compare_match(archive, name, training_step(archive).matches).tolist() == []


@named(r"map_order_index_layer\d+")
def test_point_order_is_upstreams(archive: Archive, name: str) -> None:
    """Two orders that are equally far from a prediction, to within its noise, may change places."""
    output = frames(archive)[f"frame{frame_count(archive) - 1}"].output
    layer = int(name.rsplit("layer", 1)[1])
    points, orders = output.map_points[layer, 0], torch.from_numpy(targets(archive).map_points)
    expected = archive.array(FILE, name)
    limit = allowed(archive, f"frame{frame_count(archive) - 1}_map_all_pts_preds")
    for query, line in compare_match(archive, name, training_step(archive).matches).tolist():
        used = normalise_points(orders[line], PC_RANGE)
        distance = (points[query] - used).abs().sum((-1, -2))
        assert float(distance[int(expected[query, line])] - distance.min()) < limit, (query, line)


def gradient_tolerance(archive: Archive, name: str) -> float:
    """Relative: 1e-3, or ten times what upstream's own second run differed by."""
    noted = {key: float(relative) for key, relative, _ in archive.noise["_losses"]["worst"]}
    return max(GRADIENT_RTOL, NOISE_FACTOR * noted.get(name, 0.0))


@by_archive
def test_gradient_norms_are_upstreams(archive: Archive) -> None:
    names, values = archive.array(FILE, "grad_norm_names").tolist(), archive.array(FILE, "grad_norm_values")
    gradients = training_step(archive).gradients
    assert sorted(gradients) == sorted([*names, *archive.array(FILE, "no_grad_names").tolist()])
    wrong = []
    for name, expected in zip(names, values.tolist(), strict=True):
        norm = float(gradients[name].double().norm())
        if abs(norm - expected) > gradient_tolerance(archive, name) * expected:
            wrong.append(f"{name}: {norm:.8g}, upstream's {expected:.8g}")
    assert wrong == []


@by_archive
def test_total_gradient_norm_is_upstreams(archive: Archive) -> None:
    norms = torch.stack([gradient.double().norm() for gradient in training_step(archive).gradients.values()])
    assert float(norms.norm()) == pytest.approx(archive.array(FILE, "total_grad_norm").item(), rel=GRADIENT_RTOL)


@named("grad:.+")
def test_gradient_is_upstreams(archive: Archive, name: str) -> None:
    parameter = name.removeprefix("grad:")
    index, expected, shape = archive.sampled(FILE, name)
    gradient = training_step(archive).gradients[parameter]
    assert gradient.shape == shape
    difference = np.linalg.norm(gradient.reshape(-1).double().numpy()[index] - expected)
    assert difference <= gradient_tolerance(archive, parameter) * np.linalg.norm(expected)


@by_archive
def test_the_same_parameters_are_frozen(archive: Archive) -> None:
    frozen = {upstream_name(name) for name, p in vad(archive).named_parameters() if not p.requires_grad}
    assert sorted(frozen) == sorted(archive.array(FILE, "frozen_names").tolist())


@by_archive
def test_box_targets_hold_the_gravity_centre(archive: Archive) -> None:
    np.testing.assert_allclose(archive.inputs["gt_boxes"], archive.array(FILE, "gt_box_target_gravity"), atol=1e-6)


@by_archive
def test_map_targets_are_upstreams(archive: Archive) -> None:
    """Each line, resampled, in every order; of more orders than the loss takes, upstream drew some at random."""
    inputs = archive.inputs
    lines = np.split(inputs["map_points"], np.cumsum(inputs["map_lengths"])[:-1])
    shifted, fixed = archive.array(FILE, "map_gt_shift_pts_v2"), archive.array(FILE, "map_gt_fixed_pts")
    assert len(lines) == len(shifted)
    for line, upstream, first in zip(lines, shifted, fixed, strict=True):
        orders = equivalent_orders(line).astype(np.float32)
        np.testing.assert_allclose(orders[0], first, rtol=0, atol=1e-4)
        used = upstream[(upstream != MAP_ORDER_FILL).any(axis=(1, 2))]
        assert len(used) == min(len(orders), len(upstream))
        if len(orders) <= len(upstream):
            np.testing.assert_allclose(orders, used, rtol=0, atol=1e-4)
        else:
            apart = np.abs(used[:, None] - orders[None]).max(axis=(2, 3))
            assert apart.min(axis=1).max() < 1e-4
            assert len(set(apart.argmin(axis=1).tolist())) == len(used)


def upstream_output(archive: Archive) -> VADOutput:
    """The head outputs of the last frame, exactly as upstream had them."""
    last = frame_count(archive) - 1
    heads = {
        ours: torch.from_numpy(archive.array("outputs.npz", f"frame{last}_{name}")) for ours, name in HEADS.items()
    }
    heads["mode_offsets"], heads["mode_logits"] = heads["mode_offsets"][-1], heads["mode_logits"][-1]
    nothing = torch.empty(0)
    unread = {field.name: nothing for field in dataclasses.fields(VADOutput) if field.name not in heads}
    return VADOutput(**heads, **unread)


@by_archive
def test_losses_of_upstreams_own_outputs(archive: Archive) -> None:
    found = VADCriterion(STAGE)(upstream_output(archive), [targets(archive)])
    expected = upstream_losses(archive)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {name: expected[name] for name in found}, rel=LOSS_RTOL, abs=LOSS_ATOL
    )
    assert float(sum(found.values())) == pytest.approx(expected[TOTAL], rel=LOSS_RTOL)


@named(MATCHES)
def test_matches_of_upstreams_own_outputs(archive: Archive, name: str) -> None:
    batch = BatchTargets.from_frames([targets(archive)], torch.device("cpu"))
    matches = VADCriterion(STAGE).match(upstream_output(archive), batch)
    assert compare_match(archive, name, matches).tolist() == []
