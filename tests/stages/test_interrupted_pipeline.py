"""A pipeline that is left in the middle gives back what it holds of the cluster, in a process that goes on."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.state import actors

from sead_ray.config import RunConfig
from sead_ray.schemas import SCORE_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.ledger import Ledger
from sead_ray.stages.score import pool_tokens, score_into
from sead_ray.storage import Store
from tests.stages.free_cpus import CPUS, wait_until_free, who_holds

SOON_S = 20.0


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Python's cyclic collector, which would end a forgotten pipeline some time, is off."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def held() -> list[str]:
    kinds = ("Desk", "MapWorker(MapBatches(ModelActor))")
    return [a["ActorClassName"] for a in actors().values() if a["State"] != "DEAD" and a["ActorClassName"] in kinds]


def test_actors_and_cpus_are_free_soon_after(
    loop_run: Store, loop_config: RunConfig, tmp_path: Path, uncollected: None
) -> None:
    run = Store(str(tmp_path / "run"))
    for folder in (layout.CLIPS, layout.model(0)):
        shutil.copytree(loop_run.path(folder), run.path(folder))
    wait_until_free()
    config = loop_config.model_copy(update={"run_dir": run.root})

    def leave(scored: dict[str, Any]) -> None:
        assert "Desk" in held()
        raise KeyboardInterrupt

    ledger = Ledger(run, "scores", SCORE_SCHEMA)
    with pytest.raises(KeyboardInterrupt) as interrupted:
        score_into(ledger, config, layout.model(0), "abc", pool_tokens(run), "score", leave)
    deadline = time.monotonic() + SOON_S
    while held() or ray.available_resources().get("CPU", 0) < CPUS:
        assert time.monotonic() < deadline, who_holds()
        time.sleep(0.2)
    assert interrupted.traceback  # kept until here, with all the frames of the pipeline
