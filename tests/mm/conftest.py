from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import sead_ray.mm  # noqa: F401  before the tests import mmdet3d, which without compiled operations needs its placeholder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
