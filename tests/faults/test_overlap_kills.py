"""With stages of neighbouring rounds at the same time, too, whatever is killed changes nothing in what comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sead_ray.stages import layout
from sead_ray.storage import Store
from tests.faults.cluster import LocalCluster, kill, local_cluster, wait_until
from tests.faults.undisturbed import Driver, Undisturbed

pytestmark = [pytest.mark.timeout(900), pytest.mark.faults]

TRAINER = "ray::RayTrainWorker"
OPTIONS = ("--overlap", "true", "--score.max_actors", "1", "--train.num_workers", "1")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster(workers=2) as started:
        yield started


def test_workers_that_wait_and_then_their_driver(
    undisturbed: Undisturbed, cluster: LocalCluster, tmp_path: Path
) -> None:
    config = undisturbed.begun(tmp_path, layout.selection(0), layout.model(0))
    run = Store(config.run_dir)
    driver = Driver(tmp_path, cluster.address, "run_rounds", *OPTIONS)

    def there(other_than: set[int]) -> set[int]:
        found: set[int] = set()

        def come() -> bool:
            found.update({process.pid for process in cluster.processes(TRAINER)} - other_than)
            return bool(found) or not driver.running

        wait_until(come, f"no {TRAINER} has come; the driver said {driver.output[-2000:]}")
        return found

    first = there(set())
    for process in cluster.processes(TRAINER):
        kill(process)
    there(first)
    driver.kill()
    wait_until(lambda: not cluster.processes(TRAINER), f"{TRAINER} outlives its driver")

    again = Driver(tmp_path, cluster.address, "run_rounds", *OPTIONS)
    assert again.ended() == 0, again.output[-3000:]
    file = layout.selection_file(1)
    assert run.read_bytes(file) == undisturbed.run.read_bytes(file)
    assert all(run.is_published(layout.evaluation(number)) for number in (0, 1))
    assert not run.exists(layout.train_work(1))
    steps = [json.loads(line)["step"] for line in run.read_bytes(f"{layout.model(1)}/metrics.jsonl").splitlines()]
    assert steps == list(range(1, run.manifest(layout.model(1))["steps"] + 1))
