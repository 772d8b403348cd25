from __future__ import annotations

from pathlib import Path

import pytest

from sead_ray.storage import Store
from tests.made_up_runs import run_maker


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    """A finished run of three rounds, for tests that only read it."""
    return run_maker(tmp_path_factory.mktemp("finished"))(3)


@pytest.fixture
def make_run(tmp_path: Path):
    """make_run(n_rounds, last_stage="evaluation", ...) -> (run store, data root)."""
    return run_maker(tmp_path)
