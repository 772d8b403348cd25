from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from sead_ray.config import BoardConfig, RunConfig
from sead_ray.storage import Store
from sead_ray.tokens import append_grant, new_token
from serve.board.app import build_board
from tests.made_up_runs import run_maker

HERE = "http://127.0.0.1:8270"


@pytest.fixture
def runs(tmp_path: Path) -> Store:
    """A folder with two runs: `demo`, finished, and `group/other`, in its second round."""
    folder = tmp_path / "runs"
    for name, n_rounds, last_stage, seed in (("demo", 3, "evaluation", 0), ("group/other", 2, "selection", 1)):
        run, data = run_maker(folder, name)(n_rounds, last_stage)
        config = RunConfig.model_validate({"run_dir": run.root, "seed": seed, "data": {"root": data}})
        run.write_json("config.json", config.model_dump(mode="json"))
    return Store(str(folder))


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    """A tokens file (`path`) with one token a scope."""
    path, found = str(tmp_path / "tokens.txt"), {}
    for scope in ("score", "admin"):
        found[scope], grant = new_token(scope, f"{scope}-holder")
        append_grant(path, grant)
    return {**found, "path": path}


def client_of(runs: Store, address: str = HERE, **settings) -> TestClient:
    return TestClient(build_board(BoardConfig(runs_dir=runs.root, **settings)), base_url=address)


@pytest.fixture
def board(runs: Store) -> TestClient:
    """On loopback, without tokens."""
    return client_of(runs)


@pytest.fixture
def guarded(runs: Store, tokens: dict[str, str]) -> TestClient:
    """Reachable by other machines."""
    return client_of(runs, "http://board.example:8270", host="0.0.0.0", tokens_file=tokens["path"])
