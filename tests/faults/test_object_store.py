"""An object store that is full, beside a disk on which nothing may be put either."""

from __future__ import annotations

from pathlib import Path

import pytest

from sead_ray.config import ImageConfig, RunConfig
from sead_ray.stages import layout
from sead_ray.storage import Store
from tests.faults.cluster import OBJECT_STORE_BYTES, local_cluster
from tests.faults.kills import EXIT_BAD_INPUT
from tests.faults.scorable import scorable_run
from tests.faults.undisturbed import Driver

LARGE = ImageConfig(width=1600)
CLIP_BYTES = 8 * 6 * 928 * 1600 * 3


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_scoring_ends_in_a_sentence_and_publishes_nothing(
    tiny_run: Store, tiny_config: RunConfig, tmp_path: Path
) -> None:
    """One clip is larger than the store, and every disk that holds anything counts as full."""
    assert CLIP_BYTES > OBJECT_STORE_BYTES
    score = tiny_config.score.model_copy(update={"cpus_per_decoder": 0.25, "no_progress_timeout_s": 90})
    config = tiny_config.model_copy(update={"image": LARGE, "score": score})
    run = scorable_run(tiny_run, config, tmp_path)
    with local_cluster(workers=1, RAY_local_fs_capacity_threshold="0.001") as cluster:
        driver = Driver(tmp_path, cluster.address, "score_pool", "--round", "1")
        code = driver.ended(400)
    assert code == EXIT_BAD_INPUT, driver.output[-3000:]
    (sentence,) = [line for line in driver.output.splitlines() if "object store is full" in line]
    assert "\x1b" not in sentence
    assert "File" not in sentence
    assert "Traceback" not in driver.output
    assert not run.is_published(layout.scores(1))
    assert not run.exists(layout.scores_file(1))
    assert not run.exists(layout.QUARANTINE)  # no clip is blamed
