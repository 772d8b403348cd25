"""A cluster of one CPU: what asks for its parts must leave room for each other."""

from __future__ import annotations

from pathlib import Path

from sead_ray.config import RunConfig
from sead_ray.stages import layout
from sead_ray.storage import Store
from tests.faults.cluster import local_cluster
from tests.faults.scorable import scorable_run
from tests.faults.undisturbed import Driver


def test_scoring_does_not_lock_itself_out(tiny_run: Store, tiny_config: RunConfig, tmp_path: Path) -> None:
    score = tiny_config.score.model_copy(update={"no_progress_timeout_s": 60})
    run = scorable_run(tiny_run, tiny_config.model_copy(update={"score": score}), tmp_path)
    with local_cluster(workers=1) as cluster:
        driver = Driver(tmp_path, cluster.address, "score_pool", "--round", "1")
        assert driver.ended(400) == 0, driver.output[-3000:]
    assert run.manifest(layout.scores(1))["n_failed"] == 0
