"""Whatever is killed in scoring and in training, the run ends with the same scores, purchases and weights.

`make test` runs the short ones, `make faults` the others; `python -m tests.faults.long --kills 20 --seed 0` kills at
random.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sead_ray.stages import layout
from sead_ray.stages.rounds import buy
from sead_ray.stages.score import read_scores
from sead_ray.stages.select import read_pool
from sead_ray.storage import Store
from tests.faults.cluster import LocalCluster, local_cluster
from tests.faults.kills import SCORING, TRAINING, Siege, Stage
from tests.faults.undisturbed import Undisturbed

pytestmark = pytest.mark.timeout(900)

ONE_BY_ONE = {"actor": ["actor"], "process": ["process"], "two nodes": ["node", "node"], "driver": ["driver"]}
ONE_BY_ONE |= {"SIGTERM": ["gently"], "head": ["head"]}
LONG = [
    pytest.param(stage, kills, id=f"{stage.job}: {what}", marks=pytest.mark.faults)
    for stage in (SCORING, TRAINING)
    for what, kills in ONE_BY_ONE.items()
]
SHORT = [
    pytest.param(SCORING, ["actor", "node", "driver"], id="score_pool: actor, node, driver"),
    pytest.param(TRAINING, ["process"], id="train_model: worker"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster(workers=2) as started:
        yield started


@pytest.mark.parametrize(("stage", "kills"), [*SHORT, *LONG])
def test_the_outcome_is_the_undisturbed_runs(
    stage: Stage, kills: list[str], undisturbed: Undisturbed, cluster: LocalCluster, tmp_path: Path
) -> None:
    run = Store(undisturbed.begun(tmp_path, *stage.begun).run_dir)
    siege = Siege(stage, run, tmp_path, cluster)
    for what in kills:
        assert siege.kill(what), f"{stage.job} ended before its {what} could be killed: {siege.driver.output}"
    assert siege.finish() == 0, siege.driver.output[-3000:]
    for file in stage.same:
        assert run.read_bytes(file) == undisturbed.run.read_bytes(file)
    (_scored_once_and_bought_as if stage is SCORING else _trained_every_step_once)(run, undisturbed)


def _scored_once_and_bought_as(run: Store, undisturbed: Undisturbed) -> None:
    tokens = run.parquet_file(layout.scores_file(1)).read(["clip_token"]).column(0).to_pylist()
    assert tokens == sorted(set(read_scores(undisturbed.run, 1)))  # no clip twice, none lost
    assert not run.exists(layout.score_parts(1))
    buy(run, undisturbed.config, 1, read_pool(run, undisturbed.config))
    selection = layout.selection_file(1)  # the clips, and of each the frames
    assert run.read_bytes(selection) == undisturbed.run.read_bytes(selection)


def _trained_every_step_once(run: Store, _: Undisturbed) -> None:
    history = run.read_bytes(f"{layout.model(0)}/metrics.jsonl").splitlines()
    steps = [json.loads(line)["step"] for line in history]
    assert steps == list(range(1, run.manifest(layout.model(0))["steps"] + 1))


@pytest.mark.faults
def test_a_second_driver_is_refused_by_name(undisturbed: Undisturbed, cluster: LocalCluster, tmp_path: Path) -> None:
    run = Store(undisturbed.begun(tmp_path, *SCORING.begun).run_dir)
    siege = Siege(SCORING, run, tmp_path, cluster)
    second = siege.second_driver()
    assert siege.was_refused(second), second.output[-3000:]
    assert siege.finish() == 0, siege.driver.output[-3000:]
    assert run.read_bytes(layout.scores_file(1)) == undisturbed.run.read_bytes(layout.scores_file(1))
