"""jobs.check_labels on a whole run: the model looks at every labelled frame, and its doubts are written down."""

from __future__ import annotations

import pytest

from jobs.check_labels import CheckLabelsConfig, job, plan
from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.stages import layout
from sead_ray.storage import Store


def test_every_bought_frame_is_looked_at(loop_run: Store, loop_config: RunConfig) -> None:
    config = CheckLabelsConfig(**loop_config.model_dump(), min_score=0.0, show=3)
    asked = {
        token
        for number in (0, 1)
        for tokens in loop_run.read_json(layout.label_request(number))["clips"].values()
        for token in tokens
    }
    assert f"up to {len(asked)} frames" in plan(config)
    answer = job(config)
    suspects = loop_run.read_json(layout.label_check(1))
    assert f"{len(suspects)} suspicious labels" in answer.splitlines()[-1]
    assert len(answer.splitlines()) == 4
    scores = [item["score"] for item in suspects]
    assert scores == sorted(scores, reverse=True)
    assert {item["frame_token"] for item in suspects} <= asked
    assert len({item["frame_token"] for item in suspects}) > 0.5 * len(asked)  # with no bar, it doubts everywhere


def test_without_a_model_there_is_nothing_to_ask(tiny_run: Store, tiny_config: RunConfig) -> None:
    with pytest.raises(InputError, match="has no model yet"):
        plan(CheckLabelsConfig(**tiny_config.model_dump()))
