"""The long form of the fault suite: random kills in scoring and training until enough of them have hit.

    python -m tests.faults.long --kills 20 --seed 0

Each sortie starts a stage of the same run in a fresh folder on a cluster of two worker nodes, kills what the seed says
each time that the stage has come further, up to four times, and compares what comes out with the undisturbed run:
scores and weights byte for byte. Ends with code 1 at the first difference. `--keep FOLDER` keeps the undisturbed run
for the next time.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import ray

from sead_ray.stages import layout
from sead_ray.stages.progress import say
from sead_ray.storage import Store
from tests.faults.cluster import LocalCluster, environment, local_cluster
from tests.faults.kills import KILLS, SCORING, TRAINING, Siege, Stage
from tests.faults.undisturbed import Undisturbed, fault_config, run_undisturbed

KILLS_A_SORTIE = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder of the undisturbed run, made where it is not there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run_sorties(undisturbed_run(arguments.keep or Path(scratch) / "undisturbed"), arguments, Path(scratch))


def undisturbed_run(folder: Path) -> Undisturbed:
    found = Undisturbed(fault_config(folder))
    if found.run.is_published(layout.selection(1)):
        return found
    folder.mkdir(parents=True, exist_ok=True)
    variables = {name: value for name, value in environment().items() if name == "OMP_NUM_THREADS"}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables})
    run_undisturbed(folder)
    ray.shutdown()
    return found


def run_sorties(undisturbed: Undisturbed, arguments: argparse.Namespace, scratch: Path) -> None:
    dice, started = random.Random(arguments.seed), time.monotonic()
    hits: Counter[str] = Counter()
    say(f"seed {arguments.seed}, {arguments.kills} kills")
    number = 0
    with local_cluster(workers=2) as cluster:
        while (left := arguments.kills - hits.total()) > 0:
            stage = dice.choice((SCORING, TRAINING))
            plan = [dice.choice(KILLS) for _ in range(min(KILLS_A_SORTIE, left))]
            folder = scratch / f"{number:03d}"
            folder.mkdir()
            hit = sortie(stage, plan, undisturbed, folder, cluster)
            hits.update(f"{stage.job} {what}" for what in hit)
            say(f"sortie {number}, {stage.job}: killed {', '.join(hit) or 'nothing'}; the same bytes came out")
            number += 1
    for what, count in sorted(hits.items()):
        print(f"{what}: {count}")
    minutes = (time.monotonic() - started) / 60
    print(
        f"seed {arguments.seed}: {hits.total()} kills in {number} runs, every output as undisturbed, {minutes:.0f} min"
    )


def sortie(stage: Stage, plan: list[str], undisturbed: Undisturbed, folder: Path, cluster: LocalCluster) -> list[str]:
    """Returns what was killed before the stage ended."""
    run = Store(undisturbed.begun(folder, *stage.begun).run_dir)
    siege, hit = Siege(stage, run, folder, cluster), []
    for what in plan:
        if not siege.kill(what):
            break
        say(f"{stage.job}: killed {what}")
        hit.append(what)
    code = siege.finish()
    if code:
        raise SystemExit(f"{stage.job} ended with code {code} after {hit}: {siege.driver.output[-3000:]}")
    for file in stage.same:
        if run.read_bytes(file) != undisturbed.run.read_bytes(file):
            raise SystemExit(f"{file} differs from the undisturbed run's after {hit}")
    return hit


if __name__ == "__main__":
    main()
