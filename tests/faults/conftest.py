from __future__ import annotations

import pytest

from tests.faults.undisturbed import Undisturbed, run_undisturbed


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Undisturbed:
    """On the session's Ray: one node, two CPUs."""
    return run_undisturbed(tmp_path_factory.mktemp("faults"))
