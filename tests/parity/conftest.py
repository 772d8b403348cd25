from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from tests.parity import where
from tests.parity.archive import FULL_ARCHIVES

where.set_up()

# Without a full archive there is nothing to skip either.
collect_ignore = [] if FULL_ARCHIVES else ["test_parity_full_archive.py"]


@pytest.fixture(autouse=True, scope="module")
def all_threads() -> Iterator[None]:
    """Whole frames of VAD-Tiny, unlike the other tests' small tensors, gain from every core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(threads, min(2, os.cpu_count() or 1)))
    yield
    torch.set_num_threads(threads)
