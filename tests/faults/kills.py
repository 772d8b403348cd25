"""What may be killed while a stage runs, and how far the stage has come, so that kills follow events and no clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from sead_ray.stages import layout
from sead_ray.stages.lease import read_lease
from sead_ray.storage import Store
from tests.faults.cluster import LocalCluster, kill_while, wait_until
from tests.faults.undisturbed import Driver

EXIT_BAD_INPUT, EXIT_INTERRUPTED = 2, 130


@dataclass(frozen=True)
class Stage:
    """A stage under fire.

    Attributes:
        job, round: the command that runs it, and for which round.
        actor, process: what Ray calls the process of an actor, and of another worker of the stage, while it works.
        on_nodes: the processes whose nodes are those at work.
        begun: the stages that are published before it.
        output: the folder that it publishes. same: the files of it that must be the undisturbed run's.
        progress: marks in the run folder, of which there are more the further the stage has come.
    """

    job: str
    round: int
    actor: str
    process: str
    on_nodes: str
    begun: tuple[str, ...]
    output: str
    same: tuple[str, ...]
    progress: Callable[[Store], set[str]]


def _scored(run: Store) -> set[str]:
    return {str(path) for path in Path(run.path(layout.score_parts(1))).glob("*/*.parquet")}


def _checkpoints(run: Store) -> set[str]:
    return {str(path) for path in Path(run.path(layout.train_storage(0))).glob("*/checkpoint_*/*.jsonl")}


SCORING = Stage(
    job="score_pool",
    round=1,
    actor="ray::MapWorker(",
    process="ray::MapBatches(",
    on_nodes="ray::MapWorker(",
    begun=(layout.selection(0), layout.model(0)),
    output=layout.scores(1),
    same=(layout.scores_file(1),),
    progress=_scored,
)
TRAINING = Stage(
    job="train_model",
    round=0,
    actor="ray::TrainController",
    process="ray::RayTrainWorker",
    on_nodes="ray::RayTrainWorker",
    begun=(layout.selection(0),),
    output=layout.model(0),
    same=(f"{layout.model(0)}/weights.safetensors",),
    progress=_checkpoints,
)


class Siege:
    """One stage, its driver and its cluster; `kill` ends something once the stage has come further."""

    def __init__(self, stage: Stage, run: Store, folder: Path, cluster: LocalCluster) -> None:
        self.stage, self.run, self.folder, self.cluster = stage, run, folder, cluster
        self._seen: set[str] = set()
        self._drivers: list[int] = []
        self.driver = self._start()

    def kill(self, what: str) -> bool:
        """Waits for progress since the last kill, then ends `what`; False where the stage was faster."""
        return self._has_come_further() and getattr(self, f"_kill_{what}")()

    def second_driver(self) -> Driver:
        """The same command once more, beside the first, which works."""
        wait_until(self._holds_the_run, "the first driver has not begun")
        (self.folder / "second").mkdir()
        (self.folder / "second/config.yaml").write_text((self.folder / "config.yaml").read_text())
        return Driver(self.folder / "second", self.cluster.address, self.stage.job, "--round", str(self.stage.round))

    def was_refused(self, second: Driver) -> bool:
        """Whether it ended with a sentence that names a driver of this siege."""
        code = second.ended()
        named = any(f"in use by process {pid} on" in second.output for pid in self._drivers)
        return code == EXIT_BAD_INPUT and named and "Traceback" not in second.output

    def finish(self) -> int:
        """The driver's exit code."""
        return self.driver.ended()

    def _start(self) -> Driver:
        driver = Driver(self.folder, self.cluster.address, self.stage.job, "--round", str(self.stage.round))
        self._drivers.append(driver.process.pid)
        return driver

    def _holds_the_run(self) -> bool:
        lease = read_lease(self.run)
        return lease is not None and lease.pid == self.driver.process.pid

    def _has_come_further(self) -> bool:
        def further() -> bool:
            self.cluster.mend()
            return bool(self.stage.progress(self.run) - self._seen) or not self.driver.running

        wait_until(further, f"{self.stage.job} is stuck; it said: {self.driver.output[-3000:]}")
        self._seen |= self.stage.progress(self.run)
        return self.driver.running

    def _kill_actor(self) -> bool:
        return self._kill_at_work(self.stage.actor)

    def _kill_process(self) -> bool:
        return self._kill_at_work(self.stage.process)

    def _kill_at_work(self, title: str) -> bool:
        """Ray gives a process back the title of an idle one once its task is done."""
        hit = False

        def done() -> bool:
            nonlocal hit
            hit = any(kill_while(title, victim) for victim in self.cluster.processes(title)[:1])
            return hit or not self.driver.running

        wait_until(done, f"there is no {title}")
        return hit

    def _kill_node(self) -> bool:
        """One that is at work; another comes in its place, as a cloud would send one."""
        found: list[Popen[bytes]] = []

        def done() -> bool:
            found.extend(filter(None, [self.cluster.node_of(self.stage.on_nodes)]))
            return bool(found) or not self.driver.running

        wait_until(done, f"no node has a {self.stage.on_nodes}")
        for node in found[:1]:
            self.cluster.kill_worker(node)
            self.cluster.add_worker()
        return bool(found)

    def _kill_driver(self) -> bool:
        self.driver.kill()
        self.driver = self._start()
        return True

    def _kill_gently(self) -> bool:
        """What `ray job stop`, Kubernetes and Ctrl-C do: the driver ends by itself, and says how to go on."""
        self.driver.process.terminate()
        assert self.driver.ended() == EXIT_INTERRUPTED, self.driver.output[-3000:]
        assert "start the same command again" in self.driver.output
        self.driver = self._start()
        return True

    def _kill_head(self) -> bool:
        """And with it all that only the cluster knew. The driver must end by itself; it is started as before, once
        there is a cluster again."""
        workers = len(self.cluster.workers)
        self.cluster.kill_head()
        assert self.driver.ended() != 0, self.driver.output[-3000:]
        assert not self.run.is_published(self.stage.output)
        self.cluster.kill_all()
        self.cluster.start(workers)
        self.driver = self._start()
        return True


KILLS = ("actor", "process", "node", "gently", "driver", "head")
