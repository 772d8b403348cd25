"""What may be killed while a stage runs, and how far the stage has come, so that kills follow events and no clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sead_ray.stages import layout
from sead_ray.storage import Store
from tests.faults.cluster import LocalCluster, kill, wait_until
from tests.faults.undisturbed import Driver

ROUND = 1
EXIT_BAD_INPUT, EXIT_INTERRUPTED = 2, 130


@dataclass(frozen=True)
class Stage:
    """A stage under fire.

    Attributes:
        job: the command that runs it.
        actor, process: what Ray calls the process of an actor, and of another worker of the stage.
        output: the folder that it publishes.
        progress: marks in the run folder, of which there are more the further the stage has come.
    """

    job: str
    actor: str
    process: str
    output: str
    progress: Callable[[Store], set[str]]


def _scored(run: Store) -> set[str]:
    return {str(path) for path in Path(run.path(layout.score_parts(ROUND))).glob("*/*.parquet")}


def _checkpoints(run: Store) -> set[str]:
    return {str(path) for path in Path(run.path(layout.train_storage(ROUND))).glob("*/checkpoint_*/*.jsonl")}


SCORING = Stage("score_pool", "ray::MapWorker(", "ray::MapBatches(_", layout.scores(ROUND), _scored)
TRAINING = Stage("train_model", "ray::TrainController", "ray::RayTrainWorker", layout.model(ROUND), _checkpoints)


class Siege:
    """One stage, its driver and its cluster; `kill` ends something once the stage has come further."""

    def __init__(self, stage: Stage, run: Store, folder: Path, cluster: LocalCluster) -> None:
        self.stage, self.run, self.folder, self.cluster = stage, run, folder, cluster
        self._seen: set[str] = set()
        self._drivers: list[int] = []
        self.driver = self._start()

    def kill(self, what: str) -> bool:
        """Waits for progress since the last kill, then ends `what`; False where the stage was faster."""
        if not self._has_come_further():
            return False
        getattr(self, f"_kill_{what}")()
        return True

    def second_driver(self) -> Driver:
        """The same command once more, beside the first, which works."""
        wait_until(lambda: self.run.exists(layout.LOCK), "the first driver has not begun")
        (self.folder / "second").mkdir()
        (self.folder / "second/config.yaml").write_text((self.folder / "config.yaml").read_text())
        return Driver(self.folder / "second", self.cluster.address, self.stage.job, "--round", str(ROUND))

    def was_refused(self, second: Driver) -> bool:
        """Whether it ended with a sentence that names a driver of this siege."""
        named = any(f"in use by process {pid} on" in second.output for pid in self._drivers)
        return second.ended() == EXIT_BAD_INPUT and named and "Traceback" not in second.output

    def finish(self) -> int:
        """The driver's exit code."""
        return self.driver.ended()

    def _start(self) -> Driver:
        driver = Driver(self.folder, self.cluster.address, self.stage.job, "--round", str(ROUND))
        self._drivers.append(driver.process.pid)
        return driver

    def _has_come_further(self) -> bool:
        def further() -> bool:
            self.cluster.mend()
            return bool(self.stage.progress(self.run) - self._seen) or not self.driver.running

        wait_until(further, f"{self.stage.job} is stuck; it said: {self.driver.output[-3000:]}")
        self._seen |= self.stage.progress(self.run)
        return self.driver.running

    def _kill_actor(self) -> None:
        self._kill_process(self.stage.actor)

    def _kill_process(self, title: str = "") -> None:
        title = title or self.stage.process
        wait_until(lambda: bool(self.cluster.processes(title)) or not self.driver.running, f"there is no {title}")
        for victim in self.cluster.processes(title)[:1]:
            kill(victim)

    def _kill_node(self) -> None:
        """One that is at work; another comes in its place, as a cloud would send one."""
        self.cluster.kill_worker(self.cluster.node_of(self.stage.process) or self.cluster.workers[0])
        self.cluster.add_worker()

    def _kill_driver(self) -> None:
        self.driver.kill()
        self.driver = self._start()

    def _kill_gently(self) -> None:
        """What `ray job stop`, Kubernetes and Ctrl-C do: the driver ends by itself, and says how to go on."""
        self.driver.process.terminate()
        assert self.driver.ended() == EXIT_INTERRUPTED, self.driver.output[-3000:]
        assert "start the same command again" in self.driver.output
        self.driver = self._start()

    def _kill_head(self) -> None:
        """And with it all that only the cluster knew. The driver must end by itself; it is started as before."""
        workers = len(self.cluster.workers)
        self.cluster.kill_all()
        assert self.driver.ended() != 0
        assert not self.run.is_published(self.stage.output)
        self.cluster.start(workers)
        self.driver = self._start()


KILLS = ("actor", "process", "node", "gently", "driver", "head")
