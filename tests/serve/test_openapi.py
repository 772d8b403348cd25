"""Schemathesis over the OpenAPI document: no request that it thinks of gets a 500, or an answer off the document.

`SEAD_SCHEMA_EXAMPLES=2000 pytest tests/serve/test_openapi.py` runs that many in all; CI runs a short form. Left out of
schemathesis' checks: that every body of the right schema is accepted, since no schema says what a JPEG is.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from sead_ray.config import ServeConfig
from sead_ray.tokens import append_grant, new_token
from serve.api import build_api
from serve.docs import clip_example, frame_example, stored_clip_example
from serve.models import OneModel
from serve.schemas import ClipIn, FrameIn, StoredClipIn
from serve.scorer import LocalScorer

OPERATIONS = [
    *("GET /healthz", "GET /readyz", "GET /v1/model", "GET /v1/models", "POST /v1/score"),
    *("POST /v1/models/roll_back", "POST /v1/models/promote"),
    *("GET /v1/jobs", "POST /v1/jobs", "GET /v1/jobs/{job_id}", "DELETE /v1/jobs/{job_id}"),
    *("GET /v1/sessions", "POST /v1/sessions", "POST /v1/sessions/{session_id}/frames"),
    *("GET /v1/sessions/{session_id}", "DELETE /v1/sessions/{session_id}"),
]
EXAMPLES = math.ceil(int(os.environ.get("SEAD_SCHEMA_EXAMPLES", "140")) / len(OPERATIONS))
ACCEPTING = ("positive_data_acceptance",)


@pytest.fixture(scope="module")
def service(model_dir: str, data_root: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str]:
    """(application, an admin's token)"""
    tokens = str(tmp_path_factory.mktemp("tokens") / "tokens.txt")
    token, grant = new_token("admin", "ops")
    append_grant(tokens, grant)
    limits = ServeConfig(tokens_file=tokens, auth="required", storage_prefixes=[data_root], max_sessions=10_000)
    return build_api(OneModel(LocalScorer(model_dir, "cpu")), limits, "0.0.0.0"), token


@pytest.mark.parametrize("label", OPERATIONS)
def test_no_fault_and_no_answer_off_the_document(label: str, service: tuple[Any, str]) -> None:
    load_all_checks()
    excluded = [CHECKS.get_one(name) for name in ACCEPTING]
    document = schemathesis.openapi.from_asgi("/openapi.json", service[0])
    method, path = label.split()
    operation = document[path][method]

    @given(case=st.one_of(operation.as_strategy(mode) for mode in GenerationMode))
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=HealthCheck)
    def ask(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {service[1]}"}, excluded_checks=excluded)

    ask()


def test_every_operation_is_tried(service: tuple[Any, str]) -> None:
    paths = service[0].openapi()["paths"]
    assert sorted(OPERATIONS) == sorted(f"{method.upper()} {path}" for path, item in paths.items() for method in item)


def test_the_documents_examples_are_valid() -> None:
    ClipIn.model_validate_json(json.dumps(clip_example()))
    FrameIn.model_validate_json(json.dumps(frame_example(0)))
    StoredClipIn.model_validate_json(json.dumps(stored_clip_example()))
