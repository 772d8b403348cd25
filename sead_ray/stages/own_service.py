"""A scoring service of one's own, for measurements: `serve run` on this process' Ray, ended with it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import ray
import yaml
from ray import serve

from sead_ray.config import ImageConfig, ModelConfig, ScoreConfig, ServeConfig
from sead_ray.errors import InputError
from sead_ray.model.vad import build_model
from sead_ray.model.weights import save_model
from sead_ray.stages import layout
from sead_ray.stages.cluster import connect
from sead_ray.storage import Store

START_S = 600.0
ENTRY = "import sys; from ray.serve.scripts import cli; sys.exit(cli())"  # `serve`, which need not be on the PATH


def random_models(run: Store, model: ModelConfig, image: ImageConfig, score: ScoreConfig, n: int = 1) -> None:
    """Models at random as the rounds of a run folder, unless they are there."""
    import torch

    for number in range(n):
        if run.is_published(layout.model(number)):
            continue
        torch.manual_seed(number)
        info = {"round": number, "image": image.model_dump(), "score": score.model_dump()}
        save_model(run, layout.model(number), build_model(model), info)
        run.publish(layout.model(number), {})


@contextmanager
def own_service(config: ServeConfig) -> Generator[str, None, None]:
    """The address of a service of this configuration, once its model is loaded.

    Raises:
        InputError: it does not start; with the end of what it printed.
    """
    connect()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    application = {
        "name": "sead_ray",
        "route_prefix": "/",
        "import_path": "serve.app:build",
        "args": config.model_dump(mode="json"),
    }
    deployed = {
        "http_options": {"host": "127.0.0.1", "port": port, "request_timeout_s": 300},
        "applications": [{**application, "args": config.model_dump(mode="json")}],
    }
    with tempfile.TemporaryDirectory() as folder:
        path, printed = Path(folder) / "service.yaml", Path(folder) / "printed"
        path.write_text(yaml.safe_dump(deployed), "utf-8")
        address = ray.get_runtime_context().gcs_address
        with open(printed, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", ENTRY, "run", str(path)],
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "RAY_ADDRESS": address},
            )
        try:
            url = f"http://127.0.0.1:{port}"
            _await_ready(url, process, printed)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=60)
            serve.shutdown()  # its replicas belong to this Ray, and would stay


def kill_replica(deployment: str) -> bool:
    """Kills one replica of the deployment, as a lost node would; False where none was found."""
    names = [item["name"] for item in ray.util.list_named_actors(all_namespaces=True) if item["namespace"] == "serve"]
    for name in names:
        if f"#{deployment}#" in name:
            ray.kill(ray.get_actor(name, namespace="serve"))
            return True
    return False


def _await_ready(url: str, process: subprocess.Popen[bytes], printed: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    tail = " ".join(printed.read_text("utf-8", "replace").split())[-600:]
    raise InputError(f"The service did not start: {tail}")
