"""How many workers an elastic training may have now.

Ray Train asks a coordinator, whose view of the cluster is up to 20 s old and knows no labels: a training whose node has
just died would wait for a place for as many workers as before, and one that may run on some nodes only would count all.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray.train.v2._internal.execution.scaling_policy import ElasticScalingPolicy, NoopDecision, ResizeDecision

# Where as many as were counted found no place the training goes on with the fewest, and tries for more after this.
CONTENT_S = 300.0

_Policy: Any = ElasticScalingPolicy  # Any: not a public interface, and untyped


class ElasticPolicy(_Policy):
    """Ray Train's policy by what the cluster has at the moment, and with fewer where workers find no place."""

    def __init__(self, scaling_config: Any, labels: Mapping[str, str]) -> None:
        super().__init__(scaling_config)
        self._labels = dict(labels)
        self._asked_for: int | None = None  # workers that do not run yet
        self._content_until = float("-inf")

    def make_decision_for_non_running_worker_group(self) -> Any:
        decision = super().make_decision_for_non_running_worker_group()
        if not isinstance(decision, ResizeDecision):
            return decision
        if self._asked_for is not None and decision.num_workers >= self._asked_for > self.scaling_config.min_workers:
            self._content_until = time.monotonic() + CONTENT_S
            decision = self._get_resize_decision(self.scaling_config.min_workers)
        self._asked_for = decision.num_workers
        return decision

    def make_decision_for_running_worker_group(self, worker_group_state: Any, worker_group_status: Any) -> Any:
        decision = super().make_decision_for_running_worker_group(worker_group_state, worker_group_status)
        self._asked_for = None
        if not isinstance(decision, ResizeDecision):
            return decision
        if decision.num_workers > worker_group_state.num_workers and time.monotonic() < self._content_until:
            return NoopDecision()
        self._asked_for = decision.num_workers
        return decision

    def _count_possible_workers(self, reserved_resources: Any) -> int:
        if self._labels:  # no coordinator knows them
            reserved_resources = {
                node["NodeID"]: node["Resources"]
                for node in ray.nodes()
                if node["Alive"] and matches(node["Labels"] or {}, self._labels)
            }
        return super()._count_possible_workers(reserved_resources)

    def _get_reserved_resources(self) -> Any:
        """The coordinator answers in turn: it looks at the cluster before it is asked."""
        if time.monotonic() - self._latest_reserved_resources_query_time >= self.GET_RESERVED_RESOURCES_INTERVAL_S:
            self._autoscaling_coordinator.get_reserved_resources.remote(self._requester_id, recompute=True)
        return super()._get_reserved_resources()


def matches(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether a node with `labels` is one that `selector` means, in Ray's words: value, !value, in(a, b), !in(a, b)."""
    return all(_means(wanted, labels.get(key)) for key, wanted in selector.items())


def _means(wanted: str, value: str | None) -> bool:
    negated, wanted = wanted.startswith("!"), wanted.removeprefix("!")
    listed = re.fullmatch(r"in\((.*)\)", wanted)
    values = [item.strip() for item in listed.group(1).split(",")] if listed else [wanted]
    return (value in values) != negated
