"""Scoring and evaluation that begin before their model is published come to the same."""

from __future__ import annotations

import shutil
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.stages import layout, model_actor, score
from sead_ray.stages.ahead import judge_ahead, score_ahead
from sead_ray.stages.beside import Beside
from sead_ray.stages.evaluate import evaluate_model
from sead_ray.stages.model_actor import awaited_model, ready_model
from sead_ray.stages.score import read_scores, score_pool
from sead_ray.stages.select import scoring_scope
from sead_ray.storage import Store


@pytest.fixture
def run(loop_run: Store, tmp_path: Path) -> Store:
    """A run whose first model is still being trained."""
    left_out = shutil.ignore_patterns("model", "evaluation", "01")
    shutil.copytree(loop_run.root, tmp_path / "run", ignore=left_out)
    return Store(str(tmp_path / "run"))


def publish_model(run: Store, trained: Store) -> None:
    shutil.copytree(trained.path(layout.model(0)), run.path(layout.model(0)))


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("nothing is left to do")


def test_scores(loop_run: Store, loop_config: RunConfig, run: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = Beside(partial(score_ahead, run, loop_config, 1, threading.Event()), "score-1")
    time.sleep(3)
    publish_model(run, loop_run)
    monkeypatch.setattr(score, "run_pipeline", refuse)
    score_pool(run, loop_config, 1, layout.model(0), ahead=ahead, **scoring_scope(run, loop_config, 1))
    assert read_scores(run, 1) == read_scores(loop_run, 1)
    assert not run.exists(layout.score_parts(1))


def test_evaluation(loop_run: Store, loop_config: RunConfig, run: Store) -> None:
    ahead = Beside(partial(judge_ahead, run, loop_config, 0, threading.Event()), "judge-0")
    time.sleep(3)
    publish_model(run, loop_run)
    assert ahead.result() is not None
    evaluate_model(run, loop_config, 0, ahead=ahead)
    file = f"{layout.evaluation(0)}/evaluation.json"
    assert run.read_bytes(file) == loop_run.read_bytes(file)


def test_what_came_to_nothing_is_done_by_the_stage(loop_run: Store, loop_config: RunConfig, run: Store) -> None:
    def fails() -> None:
        raise InputError("The model was not published.")

    publish_model(run, loop_run)
    scope = scoring_scope(run, loop_config, 1)
    score_pool(run, loop_config, 1, layout.model(0), ahead=Beside(fails, "score-1"), **scope)
    assert read_scores(run, 1) == read_scores(loop_run, 1)
    evaluate_model(run, loop_config, 0, ahead=Beside(fails, "judge-0"))
    file = f"{layout.evaluation(0)}/evaluation.json"
    assert run.read_bytes(file) == loop_run.read_bytes(file)


def test_it_ends_where_the_round_does(loop_run: Store, loop_config: RunConfig, run: Store) -> None:
    publish_model(run, loop_run)
    stopped = threading.Event()
    stopped.set()
    score_ahead(run, loop_config, 1, stopped)
    assert judge_ahead(run, loop_config, 0, stopped) is None


def test_a_model_that_does_not_come_is_not_waited_for_forever(
    loop_run: Store, run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_actor, "COMES_WITHIN_S", 0.5)
    with pytest.raises(InputError, match=r"rounds/00/model was not published within"):
        awaited_model(run.root, layout.model(0), "cpu", "fp32")
    publish_model(run, loop_run)
    _, version = awaited_model(run.root, layout.model(0), "cpu", "fp32")
    assert version == ready_model(run.root, layout.model(0), "cpu", "fp32")[1]
