"""The example configuration, and mmengine's Runner with a configuration of a user's own."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet3d.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from sead_ray.errors import InputError
from sead_ray.mm import VADDetector
from sead_ray.model.tensor_file import read_tensor_file
from tests.mm.small_detector import CONFIG, batch, detector, one_batch, targets
from tests.model.test_checkpoint import PUBLISHED


def test_the_example_configuration_is_the_published_network(repository: Path) -> None:
    config = Config.fromfile(str(repository / "docs" / "mmdet3d" / "vad_tiny.py"))
    with torch.device("meta"), DefaultScope.overwrite_default_scope("mmdet3d"):
        built = MODELS.build(config.model)
    assert isinstance(built, VADDetector)
    lines = [f"{name} {'x'.join(map(str, value.shape))}" for name, value in built.state_dict().items()]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED["vad_tiny"]
    assert sum(value.numel() for value in built.parameters()) == 39_865_999
    optimiser = build_optim_wrapper(built, config.optim_wrapper)
    rates = {id(value): group["lr"] for group in optimiser.param_groups for value in group["params"]}
    slow = {name.partition(".")[0] for name, value in built.named_parameters() if rates.get(id(value), 1.0) < 1e-4}
    assert slow == {"img_backbone"}
    assert len(set(rates.values())) == 2


class Samples(torch.utils.data.Dataset):
    """Two samples of a queue of two frames, as a pipeline's last transform packs them."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, Any]:
        _, samples = batch([one_batch(1, index), one_batch(1, index + 5)], [targets(index)])
        images = torch.randint(0, 256, (12, 3, 64, 96), generator=torch.Generator().manual_seed(index))
        return {"inputs": {"img": images.to(torch.uint8)}, "data_samples": samples[0]}


@pytest.mark.filterwarnings("ignore")
def test_the_runner_trains_and_saves(tmp_path: Path) -> None:
    loader = {"batch_size": 2, "num_workers": 0, "dataset": Samples(), "sampler": {"type": "DefaultSampler"}}
    runner = Runner(
        model=copy.deepcopy(CONFIG),
        work_dir=str(tmp_path),
        train_dataloader={**loader, "collate_fn": {"type": "pseudo_collate"}},
        train_cfg={"by_epoch": True, "max_epochs": 2},
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 1e-3}},
        default_scope="mmdet3d",
        experiment_name="vad_small",
        log_level="ERROR",
    )
    runner.train()
    assert runner.iter == 2
    saved = torch.load(tmp_path / "epoch_2.pth", weights_only=False)["state_dict"]
    assert list(saved) == list(detector().state_dict())
    current = runner.model.state_dict()
    assert all(torch.equal(saved[key].cpu(), value.cpu()) for key, value in current.items())
    with pytest.raises(InputError, match=r"holds .*code or an object"):  # mmengine's log beside the weights
        read_tensor_file(str(tmp_path / "epoch_2.pth"))
