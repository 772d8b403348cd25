"""The files for Ray's cluster launcher, against Ray's own schema and checks, and the local provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLOUDS = ["aws", "gcp"]


@pytest.fixture(params=CLOUDS)
def cluster(request: pytest.FixtureRequest, repository: Path) -> dict[str, Any]:
    return yaml.safe_load((repository / "cluster" / f"{request.param}.yaml").read_text("utf-8"))


def test_ray_up_takes_the_file(cluster: dict[str, Any]) -> None:
    """What `ray up` does before it asks the cloud for anything."""
    validate_config(prepare_config(cluster))


def test_workers_are_preemptible_and_start_from_none(cluster: dict[str, Any]) -> None:
    workers = {name: kind for name, kind in cluster["available_node_types"].items() if name != "head"}
    assert sum(kind["max_workers"] for kind in workers.values()) <= cluster["max_workers"]
    for kind in workers.values():
        assert kind["min_workers"] == 0
        node = kind["node_config"]
        assert node.get("InstanceMarketOptions") == {"MarketType": "spot"} or node["scheduling"]["preemptible"]
    assert workers["gpu"]["resources"]["GPU"] == 1
    assert cluster["available_node_types"][cluster["head_node_type"]]["resources"] == {"CPU": 0}


def test_the_token_reaches_every_node_and_no_key_does(cluster: dict[str, Any]) -> None:
    assert cluster["file_mounts"] == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}
    for kind in cluster["available_node_types"].values():
        assert {"IamInstanceProfile", "serviceAccounts"} & kind["node_config"].keys()


def test_nodes_export_metrics_and_the_dashboard_stays_on_the_head(cluster: dict[str, Any]) -> None:
    head, worker = (cluster[f"{role}_start_ray_commands"][-1] for role in ("head", "worker"))
    assert "--metrics-export-port=8080" in head
    assert "--metrics-export-port=8080" in worker
    assert "--dashboard-host=127.0.0.1" in head
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head


def test_a_wrong_key_would_be_noticed(cluster: dict[str, Any]) -> None:
    from jsonschema import ValidationError

    with pytest.raises(ValidationError, match="min_worker"):
        validate_config(prepare_config({**cluster, "min_worker": 0}))
