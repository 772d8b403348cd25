"""Where a training's images are decoded, and that it changes no batch."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sead_ray.config import ImageConfig, RunConfig, TrainConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.encoded_images import EncodedImages
from sead_ray.nuscenes.images import ImageGeometry, decode_images
from sead_ray.stages import layout
from sead_ray.stages.feed import DeviceFeed
from sead_ray.stages.loader import BatchLoader, loader_workers
from sead_ray.stages.select import read_pool
from sead_ray.stages.train import train_model
from sead_ray.stages.train_data import load_dataset
from sead_ray.stages.train_decoder import decodes_here, training_decoder, waiting_share
from sead_ray.storage import Store
from sead_ray.training.batch import BatchTargets, TrainingBatch

CPU = torch.device("cpu")


@pytest.mark.parametrize("workers", [0, 2])
def test_files_decoded_on_their_way_are_the_loaders_batches(
    tiny_run: Store, tiny_config: RunConfig, workers: int
) -> None:
    pool = read_pool(tiny_run, tiny_config)
    bought = {clip.clip_token: [3, 4, 5] for clip in pool.clips[:2]}
    order = [[4, 0, 5], [2], [1, 3]]
    batches = {}
    for encoded in (False, True):
        dataset = load_dataset(tiny_run, tiny_config, bought, seed=5, encoded=encoded)
        loader = BatchLoader(dataset, workers, threads=2)
        loaded = [batch for epoch in (0, 1) for batch in loader.batches(epoch, order)]  # the second from the cache
        loader.close()
        assert all(isinstance(batch.images, list) == encoded for batch in loaded)
        with DeviceFeed(iter(loaded), CPU) as feed:
            batches[encoded] = list(feed)
    for found, expected in zip(batches[True], batches[False], strict=True):
        assert found.valid_height == expected.valid_height
        assert all(torch.equal(a, b) for a, b in zip(found.tensors(), expected.tensors(), strict=True))


def test_cameras_of_several_resolutions_share_a_batch() -> None:
    """They are decoded apart, as the network sees images of one size."""
    config, rng = ImageConfig(width=64), np.random.default_rng(0)
    geometries = [ImageGeometry(*size, 64 / size[0], 64, 36, 64) for size in ((160, 90), (320, 180), (160, 90))]
    frames = []
    for number, geometry in enumerate(geometries):
        pictures = rng.integers(0, 256, (6, geometry.source_height, geometry.source_width, 3), dtype=np.uint8)
        files = [cv2.imencode(".jpg", picture)[1].ravel() for picture in pictures]
        keys = [f"{number}-{camera}.jpg" for camera in range(6)]
        frames.append(EncodedImages(np.concatenate(files), np.cumsum([*map(len, files)]), keys, geometry, config))
    batch = TrainingBatch(
        images=frames,
        lidar2img=torch.zeros(1, 3, 6, 4, 4),
        can_bus=torch.zeros(1, 3, 18, dtype=torch.float64),
        valid_height=36,
        targets=BatchTargets.blank(3),
    )
    found = batch.with_pixels().images
    assert isinstance(found, torch.Tensor)
    assert found.shape == (1, 3, 6, 64, 64, 3)
    for pixels, frame in zip(found[0], frames):
        files = [file.tobytes() for file in frame.frame(0)[0]]
        expected, _ = decode_images(files, frame.keys, frame.geometry, config)
        assert np.array_equal(pixels.numpy(), expected)


def test_a_file_that_cannot_be_used_is_named(tiny_run: Store, tiny_config: RunConfig, tmp_path: Path) -> None:
    clip = read_pool(tiny_run, tiny_config).clips[0]
    data = tiny_config.data.model_copy(update={"root": str(tmp_path)})
    config = tiny_config.model_copy(update={"data": data})
    dataset = load_dataset(tiny_run, config, {clip.clip_token: [0]}, seed=5, encoded=True)
    with pytest.raises(InputError, match=dataset.samples[0][0].frames[0].cameras[0].key):
        list(BatchLoader(dataset, workers=0, threads=1).batches(0, [[0]]))


def test_files_are_read_by_threads(tiny_run: Store, tiny_config: RunConfig) -> None:
    clip = read_pool(tiny_run, tiny_config).clips[0]
    train = tiny_config.train.model_copy(update={"cache_gib": 0.0})
    config = tiny_config.model_copy(update={"train": train})
    dataset = load_dataset(tiny_run, config, {clip.clip_token: [3]}, seed=5, encoded=True)
    assert loader_workers(TrainConfig(), dataset, on_gpu=True) == 0


def trained(run: Store, number: int, waited: list[float], decoder: str = "cpu") -> None:
    """Round `number`'s model as its training's log says that it waited, by ten seconds."""
    lines = [json.dumps({"time_s": 10.0 * i, "waited_s": value, "decoder": decoder}) for i, value in enumerate(waited)]
    run.write_bytes(f"{layout.model(number)}/metrics.jsonl", "\n".join(lines).encode())
    run.publish(layout.model(number), {})


def test_the_gpu_decodes_once_a_round_has_waited_for_the_cpus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, config = Store(str(tmp_path)), RunConfig(run_dir=str(tmp_path))
    trained(run, 0, [5.0, 5.5, 6.0])  # what was waited for the first batch does not count
    trained(run, 1, [5.0, 8.0, 10.0])
    trained(run, 2, [1.0, 1.0, 1.0], decoder="gpu")
    assert training_decoder(run, config, 0, on_gpus=True) == "cpu"
    assert training_decoder(run, config, 1, on_gpus=True) == "cpu"
    assert training_decoder(run, config, 2, on_gpus=False) == "cpu"
    assert not capsys.readouterr().err
    assert training_decoder(run, config, 2, on_gpus=True) == "gpu"
    assert "train round 2: GPUs decode the images; rounds before waited 25% for CPUs" in capsys.readouterr().err
    assert training_decoder(run, config, 3, on_gpus=True) == "gpu"  # as it no longer waits
    overlapping = config.model_copy(update={"overlap": True})  # the round before may still be training
    assert [training_decoder(run, overlapping, number, on_gpus=True) for number in (2, 3)] == ["cpu", "gpu"]
    assert (
        training_decoder(run, config.model_copy(update={"image": ImageConfig(decode="dct")}), 2, on_gpus=True) == "cpu"
    )
    for wanted in ("cpu", "gpu"):
        asked = config.model_copy(update={"train": TrainConfig(decode_on=wanted)})
        assert {training_decoder(run, asked, number, on_gpus=True) for number in range(3)} == {wanted}


def test_cpus_decode_again_where_gpus_are_slower(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, config = Store(str(tmp_path)), RunConfig(run_dir=str(tmp_path))
    trained(run, 0, [0.0, 2.0, 4.0])
    trained(run, 1, [0.0, 3.0, 7.0], decoder="gpu")
    assert training_decoder(run, config, 2, on_gpus=True) == "cpu"
    assert "CPUs decode the images; rounds before waited 20% for CPUs, 35% for GPUs" in capsys.readouterr().err
    trained(run, 2, [0.0, 5.0, 10.0])
    assert training_decoder(run, config, 3, on_gpus=True) == "gpu"


@pytest.mark.parametrize(
    ("entries", "share"),
    [
        ([(3, 1)], 0),
        ([(0, 5), (100, 60), (200, 110)], 0.525),
        ([(0, 5), (100, 60), (900, 2), (1000, 50)], 103 / 200),  # went on in another process
    ],
)
def test_the_share_of_waiting_counts_time_in_one_process(entries: list[tuple[float, float]], share: float) -> None:
    history = [{"time_s": time_s, "waited_s": waited_s} for time_s, waited_s in entries]
    assert waiting_share(history) == pytest.approx(share)


def test_a_worker_without_a_gpu_decodes_on_its_cpus_unless_it_was_told_not_to(tmp_path: Path) -> None:
    config = RunConfig(run_dir=str(tmp_path))
    assert not decodes_here("gpu", config, CPU)
    assert not decodes_here("cpu", config, CPU)
    with pytest.raises(InputError, match=r"train\.decode_on is gpu, but that needs a GPU for each worker"):
        decodes_here("gpu", config.model_copy(update={"train": TrainConfig(decode_on="gpu")}), CPU)


@pytest.mark.usefixtures("ray_cluster")
def test_the_complaint_reaches_who_started_the_training(tiny_run: Store, tiny_config: RunConfig) -> None:
    clip = read_pool(tiny_run, tiny_config).clips[0]
    train = tiny_config.train.model_copy(update={"decode_on": "gpu"})
    with pytest.raises(InputError, match=r"train\.decode_on is gpu"):
        train_model(tiny_run, tiny_config.model_copy(update={"train": train}), 7, {clip.clip_token: [3]})
    assert not tiny_run.is_published(layout.model(7))
