"""`ray up cluster/aws.yaml` as far as it goes without a cloud: Ray's own bootstrap and node provider against a server
that speaks AWS's API (moto), with botocore's check of every parameter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import TAG_RAY_NODE_KIND

REGION = "us-east-1"


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)  # of the S3 server
    with mock_aws():
        yield


@pytest.fixture
def filled_in(repository: Path, tmp_path: Path, cloud: None) -> dict[str, Any]:
    """The file, with what it says is to be filled in."""
    text = (repository / "cluster" / "aws.yaml").read_text("utf-8")
    identities = boto3.client("iam", REGION)
    for name in ("HEAD_PROFILE", "WORKER_PROFILE"):
        profile = identities.create_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        text = text.replace(name, profile["Arn"])
    machines = boto3.client("ec2", REGION)
    image = machines.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    config = yaml.safe_load(text.replace("ImageId: AMI", f"ImageId: {image}"))
    key = machines.create_key_pair(KeyName="sead")["KeyMaterial"]
    (tmp_path / "sead.pem").write_text(key)
    config["auth"]["ssh_private_key"] = str(tmp_path / "sead.pem")
    for kind in config["available_node_types"].values():
        kind["node_config"]["KeyName"] = "sead"  # else Ray makes a key in ~/.ssh
    return config


def test_a_head_and_preemptible_workers_start(filled_in: dict[str, Any]) -> None:
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    config = prepare_config(filled_in)
    validate_config(config)
    config = bootstrap_aws(config)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    markets = {}
    for name, kind in config["available_node_types"].items():
        provider.create_node(kind["node_config"], {TAG_RAY_NODE_KIND: name}, 1)
        (node,) = provider.non_terminated_nodes({TAG_RAY_NODE_KIND: name})
        (found,) = boto3.client("ec2", REGION).describe_instances(InstanceIds=[node])["Reservations"]
        (instance,) = found["Instances"]
        assert instance["InstanceType"] == kind["node_config"]["InstanceType"]
        assert instance["IamInstanceProfile"]["Arn"].endswith("HEAD_PROFILE" if name == "head" else "WORKER_PROFILE")
        markets[name] = instance.get("InstanceLifecycle", "on demand")
    assert markets == {"head": "on demand", "gpu": "spot", "cpu": "spot"}
