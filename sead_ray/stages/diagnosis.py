"""Why nothing moves: what a stuck stage waits for, against what the cluster has."""

from __future__ import annotations

from collections import Counter
from typing import Any

import ray

from sead_ray.errors import InputError

_SHOWN = ("CPU", "GPU", "memory", "object_store_memory")


def stuck(what: str, seconds: float, asked: str, said: str = "") -> InputError:
    """The error of a stage in which nothing happened for so long.

    Args:
        what: did not happen ("No clip was finished").
        asked: resources that the stage asks for, in words.
        said: what Ray says of it.
    """
    sentence = f"{what} for {seconds:.0f} s: {asked}; {_resources()}{_waiting()}"
    return InputError(f"{sentence}; Ray says: {' '.join(said.split())[:400]}" if said else f"{sentence}.")


def is_timeout(error: Exception) -> bool:
    """Whether Ray Data ended a dataset since nothing moved; its error class is not public."""
    return type(error).__name__ == "ExecutionTimeoutError"


def _resources() -> str:
    """What the cluster has, and how much of it is free."""
    try:
        total, free = ray.cluster_resources(), ray.available_resources()
    except Exception as error:  # the head is gone: that is the diagnosis
        return f"the cluster does not answer ({' '.join(str(error).split())[:100]})"
    parts = [_free(name, free.get(name, 0), total[name]) for name in _SHOWN if name in total]
    nodes = sum(node["Alive"] for node in ray.nodes())
    without = "" if "GPU" in total else ", no GPU"
    return f"the cluster of {nodes} nodes has {', '.join(parts)}{without}"


def _free(name: str, free: float, total: float) -> str:
    if name.endswith("memory"):
        return f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB {name.replace('_', ' ')} free"
    return f"{free:g} of {total:g} {name} free"


def _waiting() -> str:
    """Tasks, actors and groups that wait for a place, as the autoscaler would see them."""
    try:
        from ray.autoscaler.v2.sdk import get_cluster_status

        demands = get_cluster_status(ray.get_runtime_context().gcs_address, timeout=5).resource_demands
        counts: Counter[str] = Counter()
        for demand in (*demands.ray_task_actor_demand, *demands.placement_group_demand):
            for bundles in demand.bundles_by_count:
                counts[_bundle(bundles.bundle)] += bundles.count
    except Exception:  # a developers' interface of Ray: the rest of the diagnosis stands without it
        return ""
    return (
        "; waiting for a place: " + ", ".join(f"{count} x {bundle}" for bundle, count in counts.items())
        if counts
        else ""
    )


def _bundle(resources: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {value:g}" for name, value in sorted(resources.items())) + "}"
