"""A cloud on this machine: a Ray head with its autoscaler, and Ray's provider of nodes that are processes.

Ray's own `AutoscalingCluster` ends every Ray of the machine.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

HEAD_ID = "f" * 51 + "00000"  # fake_multi_node.node_provider.FAKE_HEAD_NODE_ID
NOTHING = (
    *("setup_commands", "head_setup_commands", "worker_setup_commands", "initialization_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files"),
)
HEAD_TYPE = "ray.head.default"


class FakeCloud:
    """Use as a context manager; then drivers join at `address`.

    Args:
        workers: node types below `available_node_types`, such as {"gpu": {"resources": {"CPU": 1, "GPU": 1}, …}}.
        head: the head's resources.
    """

    def __init__(self, workers: dict[str, dict[str, Any]], head: dict[str, int], idle_s: float = 6.0) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fc"))  # short: Ray's sockets lie below it
        self._port = _free_port()
        self.address = f"127.0.0.1:{self._port}"
        self._head = head
        types = {HEAD_TYPE: {"resources": head, "node_config": {}, "max_workers": 0}}
        types |= {name: {"node_config": {}, "min_workers": 0, **kind} for name, kind in workers.items()}
        self._config = {
            "cluster_name": "fake",
            "max_workers": sum(kind["max_workers"] for kind in types.values()),
            "idle_timeout_minutes": idle_s / 60,
            "upscaling_speed": 1000.0,
            "provider": {
                "type": "external",  # "fake_multinode" reads defaults from a file that the wheel lacks
                "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
                "gcs_address": self.address,
                "launch_multiple": True,
                "head_node_id": HEAD_ID,
            },
            "auth": {"ssh_user": "nobody"},
            **{key: [] for key in NOTHING},
            "file_mounts": {},
            "head_node_type": HEAD_TYPE,
            "available_node_types": types,
        }

    def __enter__(self) -> FakeCloud:
        file = self._folder / "cloud.json"
        file.write_text(json.dumps(self._config))
        ports = {name: _free_port() for name in ("ray-client-server", "dashboard-agent-listen", "metrics-export")}
        command = [str(Path(sys.executable).parent / "ray"), "start", "--head", f"--port={self._port}"]
        command += ["--node-ip-address=127.0.0.1", "--include-dashboard=false", f"--autoscaling-config={file}"]
        command += [f"--temp-dir={self._folder}", "--disable-usage-stats", f"--object-store-memory={200 * 2**20}"]
        command += [f"--num-cpus={self._head.get('CPU', 0)}", "--num-gpus=0"]
        command += [f"--{name}-port={port}" for name, port in ports.items()]
        environment = {
            **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        }
        with open(self._folder / "head.log", "wb") as log:
            subprocess.run(command, env=environment, stdout=log, stderr=log, check=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the processes of this cluster, and no other: all of them name its folder or its address."""
        deadline = time.monotonic() + 20
        while (found := self._processes()) and time.monotonic() < deadline:
            for process in found:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.2)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _processes(self) -> list[psutil.Process]:
        names = (str(self._folder), self.address)
        others = [process for process in psutil.process_iter(["cmdline"]) if process.pid != os.getpid()]
        return [process for process in others if _names(process, names)]

    def preempt(self, node_id: str) -> None:
        """The node goes without a word, as a spot instance: its raylet is killed, and its workers with it."""
        for process in self._processes():
            words = process.info["cmdline"] or []
            if Path(words[0]).name == "raylet" and any(node_id in word for word in words):
                process.kill()
                return
        raise RuntimeError(f"no process of node {node_id}")


def _names(process: psutil.Process, names: tuple[str, ...]) -> bool:
    return any(name in word for word in process.info["cmdline"] or [] for name in names)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
