"""The Ray resources of cluster/kuberay against KubeRay's own schemas, which are 4 MB and so no part of the repository:

git clone --depth 1 https://github.com/ray-project/kuberay
SEAD_KUBERAY_CRDS=kuberay/ray-operator/config/crd/bases pytest tests/cluster/test_against_crds.py
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.cluster.kubernetes import Resource, resources

FOLDER = os.environ.get("SEAD_KUBERAY_CRDS", "")
OURS = [resource for resource in resources() if resource.body["apiVersion"].startswith("ray.io/")]

pytestmark = pytest.mark.skipif(not FOLDER, reason="SEAD_KUBERAY_CRDS names no folder of KubeRay's CRDs")


@pytest.mark.parametrize("resource", OURS, ids=lambda resource: resource.file)
def test_a_resource_is_valid_and_a_misspelt_key_would_be_noticed(resource: Resource) -> None:
    validator = Draft202012Validator(schema_of(resource))
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(resource.body)] == []
    misspelt = copy.deepcopy(resource.body)
    misspelt["spec"]["raySpec"] = {}
    assert not validator.is_valid(misspelt)


def schema_of(resource: Resource) -> dict[str, Any]:
    plural = f"{resource.kind.lower()}s"
    crd = yaml.safe_load((Path(FOLDER) / f"ray.io_{plural}.yaml").read_text("utf-8"))
    (version,) = [item for item in crd["spec"]["versions"] if item["name"] == resource.body["apiVersion"].split("/")[1]]
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own
    return schema


def strict(schema: Any) -> Any:
    """Refuses unknown keys, as `kubectl apply` does; numbers may be texts where Kubernetes takes both."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: strict(value) for key, value in schema.items()}
    if out.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
    is_open = "additionalProperties" in out or out.get("x-kubernetes-preserve-unknown-fields")
    if "properties" in out and out.get("type") == "object" and not is_open:
        out["additionalProperties"] = False
    return out
