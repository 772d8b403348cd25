"""A Ray cluster of several nodes on this machine, whose processes can be killed one by one.

Each node is a `ray start --block` of its own with its own ports and one temporary folder for all, so that nothing
else on the machine finds it. Processes are ended by their ids: `ray stop` would end every Ray there is.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

STUCK_S = 240.0
OBJECT_STORE_BYTES = 80 * 2**20  # Ray's least is 75 MiB

TOKEN = secrets.token_hex(16)  # a driver elsewhere on the machine could not join


class LocalCluster:
    """A head without CPUs, where a driver may live, and workers that can be taken away and brought back."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._folder = tempfile.mkdtemp(prefix="sf", dir="/tmp")  # short: socket paths may have 107 characters
        self._variables = dict(variables)
        self._numbers = itertools.count()
        self._head: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def start(self, workers: int) -> None:
        wait_until(self._head_is_up, "the head has not come up")
        for _ in range(workers):
            self.add_worker()

    def mend(self) -> None:
        """Nodes that did not come up in time, since the machine is busy, are started once more."""
        for worker in [worker for worker in self.workers if worker.poll() is not None]:
            self.workers.remove(worker)
            self.add_worker()

    def add_worker(self) -> subprocess.Popen[bytes]:
        worker = self._ray_start(f"--address={self.address}", "--num-cpus=1")
        self.workers.append(worker)
        return worker

    def kill_worker(self, worker: subprocess.Popen[bytes]) -> None:
        """A node is gone at once, with all its processes."""
        self.workers.remove(worker)
        _kill_all([worker])

    def kill_all(self) -> None:
        """The head is gone and, since its state is, the cluster."""
        nodes = [*self.workers, *([self._head] if self._head else [])]
        self.workers, self._head = [], None
        _kill_all(nodes)

    def kill_head(self) -> None:
        """Only the head; workers notice."""
        assert self._head
        head, self._head = self._head, None
        _kill_all([head])

    def processes(self, title: str) -> list[psutil.Process]:
        """Ray's processes whose title holds `title`, sorted by id."""
        nodes = [*self.workers, *([self._head] if self._head else [])]
        found = (process for node in nodes for process in _descendants(node) if title in _title(process))
        return sorted(found, key=lambda process: process.pid)

    def node_of(self, title: str) -> subprocess.Popen[bytes] | None:
        """A worker node on which such a process runs."""
        return next((node for node in self.workers if any(title in _title(item) for item in _descendants(node))), None)

    def close(self) -> None:
        self.kill_all()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ray_start(self, *arguments: str) -> subprocess.Popen[bytes]:
        ports = ("--dashboard-agent-listen-port", "--metrics-export-port", "--dashboard-agent-grpc-port")
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        command += ["--node-ip-address=127.0.0.1", *arguments, f"--object-store-memory={OBJECT_STORE_BYTES}"]
        command += [f"{port}={_free_port()}" for port in ports]
        # A folder each: nodes that start at the same time would take each other's names.
        command.append(f"--temp-dir={self._folder}/{next(self._numbers)}")
        log = Path(self._folder) / ("head.log" if "--head" in arguments else "workers.log")
        variables = {**environment(), **self._variables}
        with log.open("wb" if "--head" in arguments else "ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=output, env=variables, start_new_session=True)

    def _head_is_up(self) -> bool:
        """Starts it where it is not there, or gave up since the machine is busy."""
        if self._head is None or self._head.poll() is not None:
            self.address = f"127.0.0.1:{_free_port()}"
            port = self.address.rpartition(":")[2]
            client = f"--ray-client-server-port={_free_port()}"
            self._head = self._ray_start(
                "--head", "--num-cpus=0", f"--port={port}", "--include-dashboard=false", client
            )
        return "Ray runtime started" in (Path(self._folder) / "head.log").read_text()


@contextmanager
def local_cluster(workers: int, **variables: str) -> Iterator[LocalCluster]:
    """`variables`: of the environment of all nodes."""
    cluster = LocalCluster(variables)
    try:
        cluster.start(workers)
        yield cluster
    finally:
        cluster.close()


def environment(address: str = "") -> dict[str, str]:
    """Of a process of the cluster, or of a driver that joins it: one thread each, so that sums have one order."""
    variables = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    variables |= {"OMP_NUM_THREADS": "1", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    # A dead node is noticed within seconds, so that a test does not wait for Ray's defaults of half a minute.
    variables |= {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "5"}
    variables |= {"RAY_health_check_initial_delay_ms": "1000"}
    variables |= {"RAY_worker_niceness": "0"}  # else whatever else runs there comes first
    variables |= {"RAY_prestart_worker_first_driver": "0"}  # each idle process would import torch
    if address:
        variables["RAY_ADDRESS"] = address
    return variables


def kill(process: psutil.Process) -> None:
    """SIGKILL, and the wait for its end; nothing where it has ended."""
    try:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    except (psutil.NoSuchProcess, psutil.TimeoutExpired):
        return


def kill_while(title: str, process: psutil.Process) -> bool:
    """Ends `process` if it has that title still: it is stopped first, and cannot finish what it is about."""
    try:
        process.suspend()
        if title in _title(process):
            kill(process)
            return True
        process.resume()
    except psutil.NoSuchProcess:
        pass
    return False


def wait_until(reached: Callable[[], bool], complaint: str, timeout_s: float = STUCK_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)


def _kill_all(nodes: list[subprocess.Popen[bytes]]) -> None:
    family = [process for node in nodes for process in _descendants(node)]
    for process in family:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    for node in nodes:
        node.wait()
    psutil.wait_procs(family, timeout=10)


def _descendants(node: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The raylet first of all: it would start what dies before it anew."""
    try:
        root = psutil.Process(node.pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
