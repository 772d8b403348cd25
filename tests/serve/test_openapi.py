"""Schemathesis over the OpenAPI document: no request that it thinks of gets a 500, or an answer off the document.

`SEAD_SCHEMA_EXAMPLES=2000 pytest tests/serve/test_openapi.py` runs that many in all; CI runs a short form. Left out of
schemathesis' checks: that every body of the right schema is accepted, since no schema says what a JPEG is.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CHECKS, load_all_checks

from sead_ray.config import ServeConfig
from sead_ray.tokens import append_grant, new_token
from serve.api import build_api
from serve.docs import clip_example, frame_example, stored_clip_example
from serve.schemas import ClipIn, FrameIn, StoredClipIn
from serve.scorer import LocalScorer

N_OPERATIONS = 14
EXAMPLES = max(2, int(os.environ.get("SEAD_SCHEMA_EXAMPLES", "140")) // N_OPERATIONS)
ACCEPTING = ("positive_data_acceptance",)


@pytest.fixture(scope="module")
def service(model_dir: str, data_root: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str]:
    """(application, an admin's token)"""
    tokens = str(tmp_path_factory.mktemp("tokens") / "tokens.txt")
    token, grant = new_token("admin", "ops")
    append_grant(tokens, grant)
    limits = ServeConfig(tokens_file=tokens, auth="required", storage_prefixes=[data_root], max_sessions=10_000)
    return build_api(LocalScorer(model_dir, "cpu"), limits, "0.0.0.0"), token


@pytest.fixture
def document(service: tuple[Any, str]) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", service[0])


schema = schemathesis.pytest.from_fixture("document")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_fault_and_no_answer_off_the_document(case: Any, service: tuple[Any, str]) -> None:
    load_all_checks()
    excluded = [CHECKS.get_one(name) for name in ACCEPTING]
    case.call_and_validate(headers={"Authorization": f"Bearer {service[1]}"}, excluded_checks=excluded)


def test_the_documents_examples_are_valid() -> None:
    ClipIn.model_validate_json(json.dumps(clip_example()))
    FrameIn.model_validate_json(json.dumps(frame_example(0)))
    StoredClipIn.model_validate_json(json.dumps(stored_clip_example()))


def test_every_operation_is_tried(service: tuple[Any, str]) -> None:
    paths = service[0].openapi()["paths"]
    assert sum(len(methods) for methods in paths.values()) == N_OPERATIONS
