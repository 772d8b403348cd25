"""The files of cluster/kuberay, read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "cluster" / "kuberay"
FILES = sorted(FOLDER.glob("*.yaml"))

# kind -> (API version, keys that its spec needs)
KINDS: dict[str, tuple[str, set[str]]] = {
    "Namespace": ("v1", set()),
    "ServiceAccount": ("v1", set()),
    "Service": ("v1", {"selector", "ports"}),
    "StatefulSet": ("apps/v1", {"serviceName", "replicas", "selector", "template", "volumeClaimTemplates"}),
    "NetworkPolicy": ("networking.k8s.io/v1", {"podSelector", "policyTypes", "ingress"}),
    "PodMonitor": ("monitoring.coreos.com/v1", {"selector", "podMetricsEndpoints"}),
    "RayCluster": ("ray.io/v1", {"headGroupSpec", "workerGroupSpecs", "rayVersion"}),
    "RayJob": ("ray.io/v1", {"entrypoint", "rayClusterSpec", "backoffLimit", "activeDeadlineSeconds"}),
    "RayService": ("ray.io/v1", {"serveConfigV2", "rayClusterConfig", "upgradeStrategy"}),
    "RayCronJob": ("ray.io/v1", {"schedule", "jobTemplate", "timeZone"}),
}


@dataclass(frozen=True)
class Resource:
    file: str
    body: dict[str, Any]

    @property
    def kind(self) -> str:
        return self.body["kind"]

    @property
    def spec(self) -> dict[str, Any]:
        return self.body.get("spec", {})


def resources(kind: str | None = None) -> list[Resource]:
    found = [Resource(path.name, body) for path in FILES for body in yaml.safe_load_all(path.read_text("utf-8"))]
    return [resource for resource in found if kind is None or resource.kind == kind]


def one(kind: str) -> dict[str, Any]:
    """The spec of the only resource of this kind."""
    (resource,) = resources(kind)
    return resource.spec


def clusters() -> dict[str, dict[str, Any]]:
    """The Ray cluster in each file that has one."""
    return {
        "raycluster.yaml": one("RayCluster"),
        "rayjob.yaml": one("RayJob")["rayClusterSpec"],
        "raycronjob.yaml": one("RayCronJob")["jobTemplate"]["rayClusterSpec"],
        "rayservice.yaml": one("RayService")["rayClusterConfig"],
    }


def jobs() -> list[dict[str, Any]]:
    return [one("RayJob"), one("RayCronJob")["jobTemplate"]]


def templates(body: Any) -> Iterator[dict[str, Any]]:
    """Every pod template below `body`."""
    if isinstance(body, dict):
        if "containers" in body.get("spec", {}):
            yield body
        for value in body.values():
            yield from templates(value)
    elif isinstance(body, list):
        for value in body:
            yield from templates(value)
