"""A training step's network part: the history as one batch, precision, and what the losses get."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from sead_ray.benchmark.inputs import random_frame, random_targets
from sead_ray.model.contract import FrameBatch
from sead_ray.model.eval_mode import eval_mode
from sead_ray.model.presets import PRESETS
from sead_ray.model.vad import VAD
from sead_ray.training.augment import draw
from sead_ray.training.batch import BatchTargets, TrainingBatch
from sead_ray.training.criterion import Predictions, VADCriterion
from sead_ray.training.forward import TrainForward, precision_on, predictions
from sead_ray.training.images import prepare_images
from tests import triton_script

STEPS, SAMPLES, HEIGHT, WIDTH, VALID = 3, 2, 64, 96, 54
SIZE = {"embed_dims": 32, "ffn_dims": 64, "bev_h": 10, "bev_w": 6, "agent_queries": 24, "map_instances": 12}


def small_model(norm: str = "GN", seed: int = 0) -> VAD:
    torch.manual_seed(seed)
    size = dataclasses.replace(PRESETS["vad_nano"], backbone_channels=16, norm=norm, **SIZE)
    return VAD(size, pretrained_backbone=norm == "BN")


def batch_of(seed: int, augment: bool = True) -> TrainingBatch:
    generator = torch.Generator().manual_seed(seed)
    shape = (STEPS, SAMPLES, 6, HEIGHT, WIDTH, 3)
    frames = [random_frame(SAMPLES, HEIGHT, WIDTH, seed + step, first=step == 0) for step in range(STEPS)]
    return TrainingBatch(
        images=torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),
        lidar2img=torch.stack([frame.lidar2img for frame in frames]),
        can_bus=torch.stack([frame.can_bus for frame in frames]).double(),
        valid_height=VALID,
        targets=BatchTargets.from_frames([random_targets(seed + index) for index in range(SAMPLES)]),
        draws=draw(STEPS, SAMPLES, 6, HEIGHT, WIDTH, generator) if augment else None,
    )


def gradients(model: VAD, found: Predictions, batch: TrainingBatch) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    torch.stack(list(VADCriterion("e2e")(found, batch.targets).values())).sum().backward()
    return {name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None}


def frame_by_frame(model: VAD, batch: TrainingBatch) -> Predictions:
    """As upstream runs a queue: one frame after the other, each through the whole network."""
    assert batch.draws is not None
    bev = None
    for step in range(STEPS):
        grid = (batch.draws.rows, batch.draws.columns) if step == STEPS - 1 else None
        images = prepare_images(batch.images[step], VALID, batch.draws.colours[step], grid)
        frame = FrameBatch(images, batch.lidar2img[step], batch.can_bus[step])
        if step < STEPS - 1:
            with torch.no_grad(), eval_mode(model):
                bev = model.encode_bev(frame, bev)
    return Predictions.of(model(frame, bev))


@pytest.mark.parametrize("norm", ["GN", "BN"])
def test_a_batched_history_gives_the_gradients_of_frame_after_frame(norm: str) -> None:
    model, batch = small_model(norm), batch_of(3)
    ours = gradients(model, predictions(TrainForward(model, "fp32").train(), batch), batch)
    theirs = gradients(model, frame_by_frame(model.train(), batch), batch)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=1e-5 * (1 + float(theirs[name].abs().max())))


@pytest.mark.parametrize(("precision", "norm"), [("fp32", "GN"), ("bf16", "GN"), ("bf16", "BN")])
def test_every_trained_parameter_gets_a_gradient(precision: str, norm: str) -> None:
    model, batch = small_model(norm), batch_of(4)
    found = gradients(model, predictions(TrainForward(model, precision).train(), batch), batch)
    trained = {name for name, part in model.named_parameters() if part.requires_grad}
    assert found.keys() == trained  # none is left out by casts kept from the history, and DDP may count on it
    assert all(value.isfinite().all() for value in found.values())
    assert all(value.dtype == torch.float32 for value in found.values())


def test_bf16_is_near_fp32_and_positions_are_float32() -> None:
    batch = batch_of(5)
    full, short = (predictions(TrainForward(small_model(), name).train(), batch) for name in ("fp32", "bf16"))
    for field in dataclasses.fields(Predictions):
        one, other = getattr(full, field.name).detach(), getattr(short, field.name).detach()
        assert other.dtype == torch.float32
        assert float((one - other).norm() / one.norm()) < 0.05, field.name
    # Positions that went through bfloat16 would lie on its 8 bits.
    for points in (short.map_points, short.boxes, short.plans_m):
        assert not torch.equal(points, points.bfloat16().float())
    losses = [VADCriterion("e2e")(found, batch.targets) for found in (full, short)]
    totals = [float(torch.stack(list(terms.values())).sum().detach()) for terms in losses]
    assert totals[1] == pytest.approx(totals[0], rel=0.02)


def test_a_pretrained_networks_norms_stay_frozen_in_training() -> None:
    forward = TrainForward(small_model("BN"), "fp32").train()
    before = {name: value.clone() for name, value in forward.model.named_buffers()}
    predictions(forward, batch_of(6))
    assert all(torch.equal(before[name], value) for name, value in forward.model.named_buffers())
    assert not any(part.training for part in forward.modules() if isinstance(part, torch.nn.BatchNorm2d))


def _only(sample: int, name: str, value: Tensor) -> Tensor:
    without_layers = name in ("mode_offsets", "mode_logits", "plans_m")
    return value[sample : sample + 1] if without_layers else value[:, sample : sample + 1]


def test_matches_are_those_of_each_sample_and_layer_alone() -> None:
    found = predictions(TrainForward(small_model(), "fp32").train(), batch_of(9))
    frames = [random_targets(1), random_targets(2)]
    criterion = VADCriterion("e2e")
    together = criterion.match(found, BatchTargets.from_frames(frames))
    for sample, frame in enumerate(frames):
        one = Predictions(**{name: _only(sample, name, value) for name, value in vars(found).items()})
        alone = criterion.match(one, BatchTargets.from_frames([frame]))
        for ours, theirs in ((together.agents, alone.agents), (together.lines, alone.lines)):
            assert torch.equal(ours.matched[:, sample], theirs.matched[:, 0])
            assert torch.equal(ours.target[:, sample], theirs.target[:, 0])


def test_a_queue_of_one_has_no_history() -> None:
    model, whole = small_model(), batch_of(7)
    assert whole.draws is not None
    draws = dataclasses.replace(whole.draws, colours=whole.draws.colours[-1:])
    alone = dataclasses.replace(
        whole, images=whole.images[-1:], lidar2img=whole.lidar2img[-1:], can_bus=whole.can_bus[-1:], draws=draws
    )
    found = predictions(TrainForward(model, "fp32").train(), alone)
    images = prepare_images(alone.images[0], VALID, draws.colours[0], (draws.rows, draws.columns))
    expected = model(FrameBatch(images, alone.lidar2img[0], alone.can_bus[0]), None)
    torch.testing.assert_close(found.boxes, expected.boxes)


def test_precision_follows_the_device() -> None:
    assert precision_on(torch.device("cpu"), "auto") == "fp32"
    assert precision_on(torch.device("cuda"), "auto") == "bf16"
    assert precision_on(torch.device("cuda"), "fp32") == "fp32"


KERNEL = """
import torch
from sead_ray.training import augment_triton, images
from sead_ray.training.augment import draw
from sead_ray.nuscenes.images import MEAN_RGB, STD_RGB

device = "cuda" if torch.cuda.is_available() else "cpu"
generator = torch.Generator().manual_seed(0)
pixels = torch.randint(0, 256, (2, 2, 12, 40, 3), generator=generator, dtype=torch.uint8).to(device)
pixels[:, :, 5] = pixels[:, :, 5, :, :1]  # grey: no hue
draws = draw(1, 2, 2, 12, 40, generator)
colours, grid = draws.colours[0].to(device), (draws.rows.to(device), draws.columns.to(device))
statistics = torch.tensor([*MEAN_RGB, *STD_RGB], device=device)
images.importlib.util.find_spec = lambda name: None  # the plain operations
for wanted in ((None, None), (colours, None), (colours, grid)):
    plain = images.prepare_images(pixels, 9, *wanted)
    for dtype, last in ((torch.float32, False), (torch.bfloat16, True)):
        fused = augment_triton.prepared(pixels, 9, statistics, *wanted, dtype, last)
        assert fused.shape == plain.shape
        limit = 2e-4 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(fused.float(), plain, rtol=limit, atol=limit)
print("equal")
"""


def test_the_kernel_prepares_the_same_images() -> None:
    assert triton_script.run(KERNEL) == "equal"
