"""Scoring and evaluation that begin before their model is published come to the same."""

from __future__ import annotations

import shutil
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from sead_ray.config import LabelConfig, RunConfig
from sead_ray.errors import InputError
from sead_ray.stages import layout, score
from sead_ray.stages.ahead import judge_ahead, score_ahead
from sead_ray.stages.beside import Beside
from sead_ray.stages.evaluate import evaluate_model
from sead_ray.stages.model_actor import awaited_model, ready_model
from sead_ray.stages.overlap import Overlap
from sead_ray.stages.score import read_scores, score_pool
from sead_ray.stages.select import scoring_scope
from sead_ray.storage import Store
from tests.stages.free_cpus import wait_until_free


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
    run.write_json(layout.expected(layout.model(0)), {})
    ahead = Beside(partial(score_ahead, run, loop_config, 1, threading.Event()), "score-1")
    time.sleep(3)
    publish_model(run, loop_run)
    monkeypatch.setattr(score, "run_pipeline", refuse)
    score_pool(run, loop_config, 1, layout.model(0), ahead=ahead, **scoring_scope(run, loop_config, 1))
    assert read_scores(run, 1) == read_scores(loop_run, 1)
    assert not run.exists(layout.score_parts(1))


def test_evaluation(loop_run: Store, loop_config: RunConfig, run: Store) -> None:
    run.write_json(layout.expected(layout.model(0)), {})
    ahead = Beside(partial(judge_ahead, run, loop_config, 0, threading.Event()), "judge-0")
    time.sleep(3)
    publish_model(run, loop_run)
    assert ahead.result() is not None
    evaluate_model(run, loop_config, 0, ahead=ahead)
    file = f"{layout.evaluation(0)}/evaluation.json"
    assert run.read_bytes(file) == loop_run.read_bytes(file)


def test_what_came_to_nothing_is_done_by_the_stage(loop_run: Store, loop_config: RunConfig, run: Store) -> None:
    publish_model(run, loop_run)
    scope = scoring_scope(run, loop_config, 1)
    score_pool(run, loop_config, 1, layout.model(0), ahead=Beside(lambda: None, "score-1"), **scope)
    assert read_scores(run, 1) == read_scores(loop_run, 1)
    evaluate_model(run, loop_config, 0, ahead=Beside(lambda: None, "judge-0"))
    file = f"{layout.evaluation(0)}/evaluation.json"
    assert run.read_bytes(file) == loop_run.read_bytes(file)


def test_it_ends_where_the_round_does(loop_run: Store, loop_config: RunConfig, run: Store) -> None:
    publish_model(run, loop_run)
    stopped = threading.Event()
    stopped.set()
    score_ahead(run, loop_config, 1, stopped)
    assert judge_ahead(run, loop_config, 0, stopped) is None


def test_a_model_that_nobody_expects_is_not_waited_for(loop_run: Store, loop_config: RunConfig, run: Store) -> None:
    assert awaited_model(run.root, layout.model(0), "cpu", "fp32") == (None, "")
    with pytest.raises(InputError, match="not expected any more"):
        score_ahead(run, loop_config, 1, threading.Event())
    publish_model(run, loop_run)
    _, version = awaited_model(run.root, layout.model(0), "cpu", "fp32")
    assert version == ready_model(run.root, layout.model(0), "cpu", "fp32")[1]


def test_nothing_is_left_of_what_waits_for_a_training_that_fails(
    loop_config: RunConfig, run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Overlap, "_look_ahead", lambda self, number, _: self._begin_behind(number))
    train = loop_config.train.model_copy(update={"cpus_per_worker": 0.5})
    labels = LabelConfig(mode="wait")  # no next training: its workers are another test's
    config = loop_config.model_copy(update={"overlap": True, "train": train, "labels": labels})

    def fails(rounds: Overlap) -> None:
        with rounds.looking_ahead(0):
            time.sleep(3)
            assert rounds.scores(1) is not None
            raise InputError("There is no label.")

    with Overlap(run, config) as rounds, pytest.raises(InputError, match="no label"):
        fails(rounds)
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead-1"]
    assert not run.exists(layout.expected(layout.model(0)))
    wait_until_free()
