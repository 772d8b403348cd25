"""Where training workers compute, and by what they exchange gradients. The workers are asked: the driver's node often
has no GPU while theirs do, and a cluster may call anything a GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import ray.train.torch
import torch
from ray.train.torch import TorchConfig

from sead_ray.stages.cluster import device_here


@dataclass
class ProcessGroup(TorchConfig):
    """NCCL where every worker has a whole GPU that torch can use, else gloo.

    Attributes:
        gpus: of a worker; NCCL takes one process a GPU.
    """

    gpus: float = 0.0

    @property
    def backend_cls(self) -> Any:
        return _Backend


class _Backend(TorchConfig().backend_cls):
    def on_start(self, worker_group: Any, backend_config: ProcessGroup) -> None:
        nccl = backend_config.gpus >= 1 and all(worker_group.execute(torch.cuda.is_available))
        super().on_start(worker_group, replace(backend_config, backend="nccl" if nccl else "gloo"))


def worker_device() -> torch.device:
    """Of this training worker.

    Raises:
        InputError: the node has an NVIDIA GPU that torch cannot use.
    """
    device = ray.train.torch.get_device()
    return device if device_here(device.type == "cuda") == "cuda" else torch.device("cpu")
