"""Whatever is killed in scoring and in training, the run ends with the same scores, purchases and weights.

The short form; `python -m tests.faults.long --kills 20 --seed 0` kills at random.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sead_ray.stages import layout
from sead_ray.stages.rounds import buy
from sead_ray.stages.select import read_pool
from sead_ray.storage import Store
from tests.faults.cluster import local_cluster
from tests.faults.kills import SCORING, TRAINING, Siege, Stage
from tests.faults.undisturbed import Undisturbed

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

IN_TURN = ("actor", "process", "node", "node", "driver", "head")


def _besieged(stage: Stage, undisturbed: Undisturbed, folder: Path, *begun: str) -> Store:
    """The run folder after all kills `IN_TURN`."""
    config = undisturbed.begun(folder, *begun)
    run = Store(config.run_dir)
    with local_cluster(workers=2) as cluster:
        siege = Siege(stage, run, folder, cluster)
        second = siege.second_driver()
        for what in IN_TURN:
            assert siege.kill(what), f"{stage.job} ended before its {what} could be killed: {siege.driver.output}"
        assert siege.was_refused(second), second.output[-3000:]
        assert siege.finish() == 0, siege.driver.output[-3000:]
    return run


def test_scoring_survives_what_dies(undisturbed: Undisturbed, tmp_path: Path) -> None:
    run = _besieged(SCORING, undisturbed, tmp_path, layout.selection(0), layout.model(0))
    scores = layout.scores_file(1)
    assert run.read_bytes(scores) == undisturbed.run.read_bytes(scores)  # every clip once: a row each
    assert not run.exists(layout.score_parts(1))
    buy(run, undisturbed.config, 1, read_pool(run, undisturbed.config))
    selection = layout.selection_file(1)
    assert run.read_bytes(selection) == undisturbed.run.read_bytes(selection)


def test_training_survives_what_dies(undisturbed: Undisturbed, tmp_path: Path) -> None:
    stages = (layout.selection(0), layout.model(0), layout.scores(1), layout.selection(1))
    run = _besieged(TRAINING, undisturbed, tmp_path, *stages)
    weights, history = f"{layout.model(1)}/weights.safetensors", f"{layout.model(1)}/metrics.jsonl"
    assert run.read_bytes(weights) == undisturbed.run.read_bytes(weights)
    steps = [json.loads(line)["step"] for line in run.read_bytes(history).splitlines()]
    assert steps == list(range(1, run.manifest(layout.model(1))["steps"] + 1))  # no step twice, none left out
