"""Images, frame sequences and the Dataset."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sead_ray.config import DataConfig, ImageConfig
from sead_ray.errors import InputError
from sead_ray.geometry import invert, transform_points
from sead_ray.nuscenes import images as images_module
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.nuscenes.dataset import DrivingDataset, DrivingSample, collate
from sead_ray.nuscenes.images import MEAN_RGB, STD_RGB, decode_frame, frame_lidar2img, image_geometry, normalise
from sead_ray.nuscenes.sequence import can_bus_deltas, queue_indices
from sead_ray.records import Clip, FrameLabels

IMAGE = ImageConfig(width=96)


@pytest.fixture(scope="module")
def clips(folder: NuScenesFolder) -> list[Clip]:
    return [folder.clip(token, "pool") for token in folder.scenes("train")]


@pytest.fixture(scope="module")
def labels(folder: NuScenesFolder, clips: list[Clip]) -> dict[str, FrameLabels]:
    return {item.frame_token: item for clip in clips for item in folder.labels(clip.clip_token)}


@pytest.fixture
def dataset(clips: list[Clip], labels: dict[str, FrameLabels], data_config: DataConfig) -> DrivingDataset:
    bought = {clips[0].clip_token: [4, 5, 6], clips[1].clip_token: [0]}
    return DrivingDataset(clips, bought, labels, data_config.root, IMAGE, queue_length=3, seed=7)


def fingerprint(sample: DrivingSample) -> list[bytes]:
    arrays = [sample.images, sample.lidar2img, sample.can_bus, *dataclasses.astuple(sample.targets)]
    return [np.asarray(value).tobytes() for value in arrays]


def test_geometry_pads_to_32_and_scales(clips: list[Clip]) -> None:
    geometry = image_geometry(clips[0].frames[0], ImageConfig(width=128))
    assert (geometry.scale, geometry.height, geometry.padded_height) == (0.8, 72, 96)
    with pytest.raises(InputError, match="multiple of 32"):
        image_geometry(clips[0].frames[0], ImageConfig(width=100))


def test_normalised_batches_are_those_of_the_formula() -> None:
    """Bit by bit what any device makes of them, channels first."""
    images = torch.randint(0, 256, (2, 3, 32, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor(MEAN_RGB), torch.tensor(STD_RGB)
    expected = ((images.float() - mean) / std).movedim(-1, -3)
    assert torch.equal(normalise(images, 32), expected)
    assert torch.equal(normalise(images[:, 1], 32), expected[:, 1])  # not contiguous


def test_padding_is_zero_after_normalisation(
    clips: list[Clip], data_config: DataConfig, folder: NuScenesFolder
) -> None:
    decoded, valid = decode_frame(folder.store, clips[0].frames[0], IMAGE)
    assert decoded.shape == (6, 64, 96, 3)
    assert valid == 54
    out = normalise(torch.from_numpy(decoded), valid)
    assert out.shape == (6, 3, 64, 96)
    assert (out[..., valid:, :] == 0).all()
    pixel = (decoded[2, 10, 20] - np.array(MEAN_RGB)) / np.array(STD_RGB)
    np.testing.assert_allclose(out[2, :, 10, 20].numpy(), pixel, rtol=1e-5)
    torch.testing.assert_close(normalise(torch.from_numpy(decoded[None]), valid)[0], out)


def test_decoders_agree(clips: list[Clip], folder: NuScenesFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = clips[0].frames[1]
    full, _ = decode_frame(folder.store, frame, IMAGE)
    small = ImageConfig(width=64, decode="dct")
    reduced, _ = decode_frame(folder.store, frame, small)
    plain, _ = decode_frame(folder.store, frame, ImageConfig(width=64))
    assert np.abs(reduced.astype(int) - plain.astype(int)).mean() < 6
    assert (reduced != plain).any()  # the reduced decode did run
    monkeypatch.setattr(images_module, "simplejpeg", None)
    other, _ = decode_frame(folder.store, frame, IMAGE)
    assert np.abs(other.astype(int) - full.astype(int)).max() <= 2


def test_lidar2img_projects_through_the_camera(clips: list[Clip]) -> None:
    frame = clips[0].frames[3]
    geometry = image_geometry(frame, IMAGE)
    for camera, matrix in zip(frame.cameras, frame_lidar2img(frame, geometry), strict=True):
        world = camera.global_from_ego.matrix @ camera.ego_from_camera.matrix @ (0.5, -0.2, 10.0, 1.0)
        point = transform_points(invert(frame.global_from_lidar), world[:3])
        u, v, depth, _ = matrix @ (*point, 1.0)
        assert depth == pytest.approx(10.0, abs=1e-4)
        expected = camera.intrinsics @ (0.05, -0.02, 1.0) * geometry.scale
        np.testing.assert_allclose((u / depth, v / depth), expected[:2], atol=1e-3)


def test_deltas_sum_to_the_whole_way(clips: list[Clip]) -> None:
    frames = clips[0].frames
    deltas = can_bus_deltas(frames)
    assert (deltas[0, [0, 1, 2, 17]] == 0).all()
    np.testing.assert_allclose(deltas[:, :3].sum(axis=0), frames[-1].can_bus[:3] - frames[0].can_bus[:3])
    np.testing.assert_array_equal(deltas[:, 3:17], np.stack([frame.can_bus for frame in frames])[:, 3:17])
    assert (np.abs(deltas[:, 17]) < 10).all()  # this clip turns right through yaw 0
    assert np.ptp([frame.can_bus[17] for frame in frames]) > 300


def test_queue_drops_one_and_repeats_at_the_start() -> None:
    rng = np.random.default_rng(0)
    seen = {tuple(queue_indices(9, 3, rng)) for _ in range(60)}
    assert seen == {(6, 7, 9), (6, 8, 9), (7, 8, 9)}
    assert queue_indices(0, 3, rng) == [0, 0, 0]
    assert {tuple(queue_indices(1, 3, rng)) for _ in range(60)} == {(0, 0, 1), (1, 1, 1)}
    assert queue_indices(5, 1, rng) == [5]


def test_samples_are_the_bought_frames(dataset: DrivingDataset, clips: list[Clip]) -> None:
    assert [(clip.clip_token, index) for clip, index in dataset.samples] == [
        *((clips[0].clip_token, index) for index in (4, 5, 6)),
        (clips[1].clip_token, 0),
    ]
    sample = dataset[0]
    assert sample.images.shape == (3, 6, 64, 96, 3)
    assert sample.lidar2img.shape == (3, 6, 4, 4)
    assert sample.can_bus.shape == (3, 18)
    assert (sample.can_bus[0, [0, 1, 2, 17]] == 0).all()
    assert np.linalg.norm(sample.can_bus[1, :2]) > 3  # history lies outside the bought frames
    assert sample.can_bus.dtype == np.float64
    assert (sample.can_bus[:, 16] != sample.can_bus[:, 16].astype(np.float32)).all()  # as the rows hold it
    assert sample.targets.agent_future_masks[0].tolist() == [1, 1, 0, 0, 0, 0]


def test_as_paper_sees_all_labels(clips: list[Clip], labels: dict[str, FrameLabels], data_config: DataConfig) -> None:
    bought = {clips[0].clip_token: [1]}
    both = [
        DrivingDataset(clips, bought, labels, data_config.root, IMAGE, 1, targets=targets)[0].targets
        for targets in ("bought_only", "as_paper")
    ]
    assert both[0].agent_future_masks.sum() == 0
    assert both[1].agent_future_masks.sum() > 0


def test_samples_do_not_depend_on_workers(dataset: DrivingDataset, clips: list[Clip]) -> None:
    dataset.set_epoch(2)
    expected = [fingerprint(dataset[index]) for index in range(len(dataset))]
    with ThreadPoolExecutor(3) as pool:
        order = [3, 1, 0, 2]
        threaded = dict(zip(order, pool.map(lambda index: fingerprint(dataset[index]), order), strict=True))
    assert [threaded[index] for index in range(4)] == expected
    loader = DataLoader(dataset, batch_size=1, num_workers=2, collate_fn=lambda samples: fingerprint(samples[0]))
    assert list(loader) == expected
    dataset.set_epoch(3)
    assert [fingerprint(dataset[index]) for index in range(4)] != expected


def test_cache_changes_nothing(
    dataset: DrivingDataset, clips: list[Clip], labels: dict[str, FrameLabels], data_config: DataConfig
) -> None:
    bought = {clips[0].clip_token: [4, 5, 6], clips[1].clip_token: [0]}
    cached = DrivingDataset(clips, bought, labels, data_config.root, IMAGE, 3, seed=7, cache_frames=2)
    for index in (0, 1, 0, 3, 2):
        assert fingerprint(cached[index]) == fingerprint(dataset[index])


def test_collate_stacks_step_by_step(dataset: DrivingDataset) -> None:
    samples = [dataset[0], dataset[3]]
    batch = collate(samples)
    assert len(batch.steps) == 3
    assert batch.targets == [samples[0].targets, samples[1].targets]
    for step, part in enumerate(batch.steps):
        assert part.images.shape == (2, 6, 64, 96, 3)
        np.testing.assert_array_equal(part.images[1].numpy(), samples[1].images[step])
        np.testing.assert_array_equal(part.can_bus[0].numpy(), samples[0].can_bus[step])
    assert batch.steps[0].lidar2img.dtype == torch.float32


def test_impossible_purchases_are_refused(
    clips: list[Clip], labels: dict[str, FrameLabels], data_config: DataConfig
) -> None:
    with pytest.raises(InputError, match="nowhere"):
        DrivingDataset(clips, {"nowhere": [0]}, labels, data_config.root, IMAGE, 3)
    with pytest.raises(InputError, match=clips[0].clip_token):
        DrivingDataset(clips, {clips[0].clip_token: [8]}, labels, data_config.root, IMAGE, 3)
    unlabelled = DrivingDataset(clips, {clips[0].clip_token: [2]}, {}, data_config.root, IMAGE, 3)
    with pytest.raises(InputError, match=clips[0].frames[2].token):
        unlabelled[0]
