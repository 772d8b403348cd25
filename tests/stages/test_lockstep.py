"""Clips in lockstep: results do not depend on the batch, on padding, or on how far ahead frames are brought."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.model.contract import FrameBatch, PlannerOutput
from sead_ray.model.presets import resolve
from sead_ray.model.vad import VAD
from sead_ray.nuscenes.images import frame_lidar2img, normalise
from sead_ray.nuscenes.sequence import can_bus_deltas
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.clip_runner import ClipBatch, LoadedClip, load_clip, load_encoded_clip, run_clips
from sead_ray.stages.clip_scores import clip_features, score_loaded_clips
from sead_ray.stages.frame_feed import FRAMES_AHEAD, ClipArrays, FrameFeed, lockstep
from sead_ray.storage import Store
from tests.stages.conftest import SMALL_VAD

LENGTHS = (8, 5, 8, 2)


@pytest.fixture(scope="module")
def clips(tiny_run: Store, tiny_config: RunConfig) -> list[LoadedClip]:
    rows = list(tiny_run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA))[: len(LENGTHS)]
    cut = [dataclasses.replace(clip, frames=clip.frames[:n]) for clip, n in zip(map(Clip.from_row, rows), LENGTHS)]
    return [load_clip(clip, tiny_config.data.root, tiny_config.image) for clip in cut]


@pytest.fixture(scope="module")
def model() -> VAD:
    torch.manual_seed(3)
    return VAD(resolve(SMALL_VAD)).eval()


def frame_by_frame(model: VAD, loaded: LoadedClip) -> list[PlannerOutput]:
    """The clip on its own, with nothing of the runner."""
    deltas, history, outputs = can_bus_deltas(loaded.clip.frames), None, []
    for t, frame in enumerate(loaded.clip.frames):
        images = normalise(torch.from_numpy(loaded.images[t][None]), loaded.geometry.height)
        lidar2img = torch.from_numpy(frame_lidar2img(frame, loaded.geometry)[None])
        with torch.inference_mode():
            out = model(FrameBatch(images, lidar2img, torch.from_numpy(deltas[t][None]).float()), history)
        history = out.bev
        outputs.append(out)
    return outputs


def by_clip(model: Any, clips: Sequence[LoadedClip]) -> list[list[dict[str, torch.Tensor]]]:
    """All tensors of every frame of every clip; layers first where there are any."""
    found: list[list[dict[str, torch.Tensor]]] = [[] for _ in clips]
    for t, active, output in run_clips(model, clips, "cpu"):
        for row, index in enumerate(active):
            assert len(found[index]) == t
            found[index].append(one_row(output, row))
    return found


def one_row(output: PlannerOutput, row: int) -> dict[str, torch.Tensor]:
    layered = ("class_logits", "boxes", "map_class_logits", "map_boxes", "map_points")
    values = {item.name: getattr(output, item.name) for item in dataclasses.fields(output)}
    return {name: value[:, row] if name in layered else value[row] for name, value in values.items()}


def assert_same(found: list[dict[str, torch.Tensor]], expected: list[dict[str, torch.Tensor]], atol: float) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            torch.testing.assert_close(
                value, theirs[name], rtol=0, atol=atol * max(1.0, float(theirs[name].abs().max()))
            )


def test_a_clip_on_its_own_is_the_plain_loop(model: VAD, clips: list[LoadedClip]) -> None:
    for loaded in clips:
        expected = [one_row(output, 0) for output in frame_by_frame(model, loaded)]
        assert_same(by_clip(model, [loaded])[0], expected, atol=1e-5)


@pytest.mark.parametrize("rows", [None, 6])
def test_clips_whose_images_are_still_files(
    model: VAD, clips: list[LoadedClip], tiny_config: RunConfig, rows: int | None
) -> None:
    files = [load_encoded_clip(loaded.clip, tiny_config.data.root, tiny_config.image) for loaded in clips]
    with ClipBatch(files, "cpu", rows) as batch, ClipBatch(clips, "cpu", rows) as decoded:
        for found, expected in zip(by_clip(model, batch), by_clip(model, decoded)):
            assert_same(found, expected, atol=0)


def test_a_file_that_ends_early_is_named_before_a_gpu_sees_it(
    clips: list[LoadedClip], tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = clips[0].clip
    key = clip.frames[1].cameras[2].key
    source = Store(tiny_config.data.root)

    class Cut(Store):
        def read_bytes(self, name: str) -> bytes:
            data = source.read_bytes(name)
            return data[: len(data) // 2] if name == key else data

    monkeypatch.setattr("sead_ray.stages.clip_runner.Store", Cut)
    with pytest.raises(InputError, match=key):
        load_encoded_clip(clip, tiny_config.data.root, tiny_config.image)


@pytest.mark.parametrize("rows", [None, 4, 6])
def test_unequal_clips_together(model: VAD, clips: list[LoadedClip], rows: int | None) -> None:
    with ClipBatch(clips, "cpu", rows) as batch:
        together = by_clip(model, batch)
    for loaded, found in zip(clips, together):
        assert_same(found, [one_row(output, 0) for output in frame_by_frame(model, loaded)], atol=1e-5)


def test_shapes_never_change_in_a_padded_batch(model: VAD, clips: list[LoadedClip]) -> None:
    shapes = set()

    def watched(frame: FrameBatch, history: torch.Tensor | None) -> PlannerOutput:
        shapes.add((tuple(frame.images.shape), None if history is None else tuple(history.shape)))
        assert torch.isfinite(frame.lidar2img).all()
        return model(frame, history)

    with ClipBatch(clips[1:], "cpu", rows=5) as batch:
        lengths = [len(active) for _, active, _ in run_clips(watched, batch, "cpu")]
    assert lengths == [3, 3, 2, 2, 2, 1, 1, 1]
    assert len(shapes) == 2  # first frame, later ones


def test_scores_do_not_depend_on_the_batch(model: VAD, clips: list[LoadedClip], tiny_config: RunConfig) -> None:
    together = score_loaded_clips(model, "v", clips, "cpu", tiny_config.score)
    for loaded, found in zip(clips, together):
        (alone,) = score_loaded_clips(model, "v", [loaded], "cpu", tiny_config.score)
        assert found.n_frames == len(loaded.clip.frames)
        np.testing.assert_allclose(found.shift_agents, alone.shift_agents, rtol=1e-4)
        np.testing.assert_allclose(found.embedding, alone.embedding, atol=1e-5)


def test_features_are_those_of_each_frame(model: VAD, clips: list[LoadedClip], tiny_config: RunConfig) -> None:
    from sead_ray.scoring.features import extract_features

    (_, found), *_ = clip_features(model, "v", clips, "cpu", tiny_config.score)
    for t, output in enumerate(frame_by_frame(model, clips[0])):
        (expected,) = extract_features(output, [clips[0].clip.frames[t].command], tiny_config.score)
        np.testing.assert_allclose(found[t].agents, expected.agents, atol=1e-5)
        np.testing.assert_allclose(found[t].planned_path_m, expected.planned_path_m, atol=1e-5)


def arrays(n_frames: int, value: int = 0) -> ClipArrays:
    images = (
        np.full((n_frames, 6, 32, 32, 3), value, np.uint8)
        + np.arange(n_frames, dtype=np.uint8)[:, None, None, None, None]
    )
    return ClipArrays(
        images,
        np.zeros((n_frames, 6, 4, 4), np.float32),
        np.zeros((n_frames, 18), np.float32),
        np.zeros(n_frames, np.int64),
        valid_height=32,
    )


def test_every_step_brings_the_frames_of_its_clips() -> None:
    feed = FrameFeed([arrays(3, 100), arrays(5, 200)], "cpu", rows=3)
    for frame in feed:
        t = frame.step.t
        first = 100 + t if t < 3 else 200 + t  # a row without a clip repeats the first that is left
        pixels = torch.tensor([first, 200 + t, first], dtype=torch.uint8).expand(1, 1, 1, 3).movedim(-1, 0)
        expected = normalise(pixels.unsqueeze(-1).expand(3, 1, 1, 1, 3), 1)
        assert torch.equal(frame.images[:, :1, :, :1, :1], expected)
    assert t == 4


def test_frames_are_not_gathered_far_ahead() -> None:
    feed = FrameFeed([arrays(20)], "cpu")
    for t, frame in enumerate(feed):
        assert frame.step.t == t
        assert feed._staged.qsize() <= FRAMES_AHEAD  # the mark of the end counts too
    assert t == 19


def test_a_feed_can_be_left_early() -> None:
    feed = FrameFeed([arrays(50)], "cpu")
    next(iter(feed))
    feed.close()
    assert not feed._thread.is_alive()


def test_an_error_in_the_thread_is_raised_where_the_frame_is_asked_for() -> None:
    broken = dataclasses.replace(arrays(3), lidar2img=np.zeros((1, 6, 4, 4), np.float32))
    with pytest.raises(IndexError):
        list(FrameFeed([broken], "cpu"))


def raise_at(t: int) -> None:
    raise RuntimeError(f"mine, at {t}")


def test_an_error_of_the_caller_ends_the_thread(model: VAD, clips: list[LoadedClip]) -> None:
    with pytest.raises(RuntimeError, match="mine"), ClipBatch(clips, "cpu") as batch:
        raise_at(next(run_clips(model, batch, "cpu"))[0])
    assert not batch.feed._thread.is_alive()


@pytest.mark.parametrize("lengths", [(), (1,), (3, 1, 2), (2, 2)])
def test_lockstep_visits_every_frame_once(lengths: tuple[int, ...]) -> None:
    for rows in (None, len(lengths), len(lengths) + 2):
        steps = lockstep(lengths, rows)
        visited = [(index, step.t) for step in steps for index in step.active]
        assert sorted(visited) == [(index, t) for index, length in enumerate(lengths) for t in range(length)]
        for step in steps:
            assert [step.sources[row] for row in step.active_rows] == step.active
            assert rows is None or len(step.sources) == rows


def test_too_many_clips_for_the_rows() -> None:
    with pytest.raises(ValueError, match="3 clips do not fit into 2 rows"):
        lockstep([1, 1, 1], rows=2)
