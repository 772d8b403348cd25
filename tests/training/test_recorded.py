"""What a recording must not change. On a GPU recordings are CUDA graphs; elsewhere a stand-in that is as strict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sead_ray.benchmark.inputs import random_targets
from sead_ray.model.presets import PRESETS
from sead_ray.model.vad import VAD
from sead_ray.training.batch import BatchTargets, TrainingBatch
from sead_ray.training.criterion import Assigned, Predictions, VADCriterion
from sead_ray.training.forward import TrainForward, inputs_of, predictions
from sead_ray.training.recorded_criterion import RecordedCriterion
from tests.training.test_train_forward import SAMPLES, SIZE, VALID, batch_of, small_model

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Replay:
    """Stands in for CUDA graphs: takes the recorded shapes alone, and counts its runs."""

    def __init__(self, callee: Callable[..., Any], inputs: tuple[Tensor, ...], **_: Any) -> None:
        self.callee, self.shapes, self.n_runs = callee, [part.shape for part in inputs], 0
        callee(*inputs)

    def __call__(self, *inputs: Tensor) -> Any:
        assert [part.shape for part in inputs] == self.shapes
        self.n_runs += 1
        return self.callee(*inputs)


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[Replay]:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # its error depends on the batch's size
    made: list[Replay] = []

    def record(callee: Callable[..., Any], inputs: tuple[Tensor, ...], **settings: Any) -> Replay:
        made.append(Replay(callee, inputs, **settings))
        return made[-1]

    if DEVICE == "cpu":
        monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    return made


def first_samples(batch: TrainingBatch, n: int) -> TrainingBatch:
    assert batch.draws is not None
    draws = replace(
        batch.draws, colours=batch.draws.colours[:, :n], rows=batch.draws.rows[:n], columns=batch.draws.columns[:n]
    )
    return replace(
        batch,
        images=batch.images[:, :n],
        lidar2img=batch.lidar2img[:, :n],
        can_bus=batch.can_bus[:, :n],
        targets=BatchTargets.from_frames([random_targets(index) for index in range(n)]),
        draws=draws,
    )


def gradients(forward: TrainForward, criterion: RecordedCriterion, batch: TrainingBatch) -> dict[str, Tensor]:
    forward.model.zero_grad(set_to_none=True)
    criterion(predictions(forward, batch), batch.targets).sum().backward()
    return {name: part.grad.clone() for name, part in forward.model.named_parameters() if part.grad is not None}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        difference, norm = float((value - theirs[name]).norm()), float(theirs[name].norm())
        assert difference <= 1e-3 * norm + 1e-7, f"{name}: {difference:.3g} of {norm:.3g}"


@pytest.mark.parametrize("samples", [SAMPLES, 1])
def test_a_recorded_step_has_the_gradients_of_one_that_is_not(replays: list[Replay], samples: int) -> None:
    """A smaller batch is filled up, and the copies have no part in its gradient."""
    model, whole = small_model().to(DEVICE), batch_of(3).to(DEVICE)
    plain, recorded = TrainForward(model, "fp32").train(), TrainForward(model, "fp32").train()
    recorded.record(inputs_of(whole), VALID)
    batch = first_samples(whole, samples).to(DEVICE)
    criterion, recorded_criterion = RecordedCriterion(VADCriterion("e2e")), RecordedCriterion(VADCriterion("e2e"))
    recorded_criterion.record(predictions(plain, batch), BatchTargets.blank(samples).to(DEVICE))
    expected = gradients(plain, criterion, batch)
    before = [replay.n_runs for replay in replays]
    same(gradients(recorded, recorded_criterion, batch), expected)
    assert [replay.n_runs for replay in replays] == [n + 1 for n in before]
    assert recorded_criterion.names == criterion.names
    assert len(criterion.names) == 6 + 7 * model.size.decoder_layers


def test_a_larger_batch_than_the_recorded_one_is_computed_as_it_is(replays: list[Replay]) -> None:
    model, whole = small_model().to(DEVICE), batch_of(5).to(DEVICE)
    forward = TrainForward(model, "fp32").train()
    forward.record(inputs_of(first_samples(whole, 1).to(DEVICE)), VALID)
    found = predictions(forward, whole)
    assert found.boxes.shape[1] == SAMPLES
    assert all(replay.n_runs == 0 for replay in replays)


def test_batch_norms_that_train_never_see_what_fills_a_batch_up(replays: list[Replay]) -> None:
    torch.manual_seed(0)
    size = replace(PRESETS["vad_nano"], backbone_channels=16, norm="BN", **SIZE)
    model, whole = VAD(size, pretrained_backbone=False).to(DEVICE), batch_of(6).to(DEVICE)
    forward = TrainForward(model, "fp32").train()
    before = [buffer.clone() for buffer in model.buffers()]
    forward.record(inputs_of(whole), VALID)
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
    predictions(forward, first_samples(whole, 1).to(DEVICE))
    assert all(replay.n_runs == 0 for replay in replays)
    predictions(forward, whole)
    assert all(replay.n_runs == 1 for replay in replays)
    assert not all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))


def test_shapes_do_not_depend_on_the_number_of_targets() -> None:
    found = predictions(TrainForward(small_model(), "fp32").train(), batch_of(7))
    criterion = VADCriterion("e2e")
    some = criterion.assign(found, BatchTargets.from_frames([random_targets(1), random_targets(2)]))
    none = criterion.assign(found, BatchTargets.blank(SAMPLES))
    shapes = [{f.name: _shape(getattr(one, f.name)) for f in fields(Assigned)} for one in (some, none)]
    assert shapes[0] == shapes[1]
    terms = criterion.terms(Predictions.of(found), none)
    assert all(bool(value.isfinite()) for value in terms.values())
    assert float(terms["loss_bbox"].detach()) == 0


def _shape(value: Any) -> Any:
    return value.shape if isinstance(value, Tensor) else [part.shape for part in vars(value).values()]
