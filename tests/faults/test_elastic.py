"""A training that begins with one worker goes on with two when a node joins, and with one when a node dies."""

from __future__ import annotations

import json
import math
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sead_ray.model.weights import load_model
from sead_ray.stages import layout
from sead_ray.stages.rounds import train_round
from sead_ray.storage import Store
from tests.faults.cluster import LocalCluster, local_cluster, wait_until
from tests.faults.kills import TRAINING
from tests.faults.undisturbed import Driver, Undisturbed

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

STEPS_AN_EPOCH, EPOCHS = 6, 25  # long enough on any machine for a node to start: both take the longer, the busier it is
# Without augmentation nothing that a step computes depends on how many workers share its batch but the order of sums.
SETTINGS: dict[str, Any] = {"epochs": EPOCHS, "augment": False, "cpus_per_worker": 1.0, "resize_every_s": 1.0}


def test_workers_come_and_go_and_the_training_stays_the_same(undisturbed: Undisturbed, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    alone = undisturbed.begun(tmp_path / "alone", *TRAINING.begun, **SETTINGS, num_workers=1)
    train_round(Store(alone.run_dir), alone, 0)
    elastic = undisturbed.begun(tmp_path, *TRAINING.begun, **SETTINGS, num_workers=[1, 2])
    run = Store(elastic.run_dir)
    with local_cluster(workers=1) as cluster:
        driver = Driver(tmp_path, cluster.address, "train_model", "--round", "0")
        _until(1, run, driver, cluster)
        cluster.add_worker()
        _until(2, run, driver, cluster)
        cluster.kill_worker(cluster.workers[0])
        assert driver.ended(600) == 0, driver.output[-3000:]
    entries, expected = _history(run), _history(Store(alone.run_dir))
    assert [workers for workers, _ in groupby(entry["workers"] for entry in entries)] == [1, 2, 1]
    for entry, other in zip(entries, expected, strict=True):  # every step once, each with its epoch and learning rate
        assert [entry[key] for key in ("step", "epoch", "lr")] == [other[key] for key in ("step", "epoch", "lr")]
    manifest, other = run.manifest(layout.model(0)), Store(alone.run_dir).manifest(layout.model(0))
    assert [manifest[key] for key in ("samples", "epochs", "steps")] == [
        other[key] for key in ("samples", "epochs", "steps")
    ]
    assert _final_difference(run, Store(alone.run_dir)) < 0.05
    _losses_agree(entries, expected)


def _losses_agree(entries: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """What is logged is the loss of the first worker's share: of the whole batch where it is alone."""
    ratios = np.array([entry["loss"] / other["loss"] for entry, other in zip(entries, expected, strict=True)])
    workers = np.array([entry["workers"] for entry in entries])
    joined, left = np.flatnonzero(workers == 2)[[0, -1]]
    assert np.all(ratios[:joined] == 1)  # bit for bit, as ever with the same workers
    assert (
        np.abs(ratios[left + 1 :] - 1).mean() < 0.01
    )  # the same samples in the same steps: others' losses are 6 % off
    assert abs(ratios[joined : left + 1].mean() - 1) < 0.05


def _final_difference(run: Store, other: Store) -> float:
    """Of all weights, relative to their size."""
    (ours, _), (theirs, _) = (load_model(store, layout.model(0)) for store in (run, other))
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    difference = sum(float((one - two).detach().square().sum()) for one, two in pairs)
    return math.sqrt(difference / sum(float(two.detach().square().sum()) for _, two in pairs))


def _until(workers: int, run: Store, driver: Driver, cluster: LocalCluster) -> None:
    """So many workers have trained for an epoch. The last of its checkpoints Ray Train may not know of yet."""

    def there() -> bool:
        assert driver.running, driver.output[-3000:]
        cluster.mend()
        return sum(entry["workers"] == workers for entry in _latest(run)) >= STEPS_AN_EPOCH

    wait_until(there, f"never were there {workers} workers")


def _latest(run: Store) -> list[dict[str, Any]]:
    """What the last checkpoint knows of the steps before it; it may be replaced while it is read."""
    files = sorted(Path(run.path(layout.train_storage(0))).glob("*/checkpoint_*/metrics.jsonl"))
    try:
        return [json.loads(line) for line in files[-1].read_text().splitlines()]
    except (IndexError, OSError, json.JSONDecodeError):
        return []


def _history(run: Store) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.read_bytes(f"{layout.model(0)}/metrics.jsonl").splitlines()]
