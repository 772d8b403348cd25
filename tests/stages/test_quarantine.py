"""A clip that kills its workers, or fails each time, is found, named and left out; the others are scored as usual."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.stages import layout, score
from sead_ray.stages.attempts import Attempts, Desk, Failure, open_desk
from sead_ray.stages.clip_scores import clip_features
from sead_ray.stages.quarantine import quarantine, quarantined
from sead_ray.stages.score import pool_tokens, read_scores, score_pool
from sead_ray.stages.select import scoring_scope
from sead_ray.storage import Store


@pytest.fixture
def begun(loop_run: Store, loop_config: RunConfig, tmp_path: Path) -> tuple[Store, RunConfig]:
    """The session's run up to round 0's model."""
    run = Store(str(tmp_path / "run"))
    for folder in (layout.CLIPS, layout.LABELS, layout.selection(0), layout.model(0)):
        shutil.copytree(loop_run.path(folder), run.path(folder))
    return run, loop_config.model_copy(update={"run_dir": run.root})


def test_a_clip_that_kills_its_actor_and_one_that_fails_are_quarantined(
    begun: tuple[Store, RunConfig],
    loop_run: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, config = begun
    scope = scoring_scope(run, config, 1)
    deadly, broken, *rest = sorted(set(pool_tokens(run).to_pylist()) - scope["exclude"])

    def dangerous(model: Any, version: str, clips: Sequence[Any], device: str, config: Any) -> Any:
        for loaded in clips:
            if loaded.clip.clip_token == deadly:
                os.kill(os.getpid(), signal.SIGKILL)  # what the kernel does where memory is out
            if loaded.clip.clip_token == broken:
                raise ValueError("no such shape")
        return clip_features(model, version, clips, device, config)

    monkeypatch.setattr(score, "clip_features", dangerous)
    score_pool(run, config, 1, layout.model(0), **scope)
    scores, undisturbed = read_scores(run, 1), read_scores(loop_run, 1)
    assert scores.keys() == undisturbed.keys()
    assert {token for token, item in scores.items() if item.status == "quarantined"} == {deadly, broken}
    assert "The worker process died 3 times while it was scoring clip" in scores[deadly].reason
    assert deadly in scores[deadly].reason
    assert "no such shape" in scores[broken].reason
    for token in rest:
        assert scores[token].status == "ok"
        assert scores[token].shift_sum == pytest.approx(undisturbed[token].shift_sum, rel=1e-4)
    assert run.manifest(layout.scores(1))["n_quarantined"] == 2
    assert quarantined(run) == {token: scores[token].reason for token in (deadly, broken)}
    assert scoring_scope(run, config, 1)["exclude"] >= {deadly, broken}
    said = capsys.readouterr().err
    assert f"clip {deadly} is quarantined" in said
    assert "2 clips were quarantined" in said


def test_a_task_that_is_ended_by_its_clip_gives_it_up(ray_cluster: None) -> None:
    """As decoding does, which is a task and no actor; with one death allowed."""

    def decode(token: str, attempts: Attempts) -> Any:
        def work(rows: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
            if token == "deadly":
                os._exit(1)
            return [(token, "decoded") for token, _ in rows]

        return attempts.run("decoding", [(token, None)], work)

    task = ray.remote(max_retries=-1, num_cpus=0.5)(decode)
    with open_desk(most=1) as attempts:
        answers = ray.get([task.remote(token, attempts) for token in ("fine", "deadly")], timeout=120)
    assert answers[0] == [("fine", "decoded")]
    ((token, failure),) = answers[1]
    assert token == "deadly"
    assert isinstance(failure, Failure)
    assert "deadly" in failure.reason


def test_of_several_clips_in_a_task_the_one_that_ends_it_is_given_up(ray_cluster: None) -> None:
    """As decoding does: they are told of together, and tried one at a time after a death."""

    def decode(tokens: list[str], attempts: Attempts) -> list[tuple[str, Any]]:
        def work(token: str) -> str:
            if token == "deadly":
                os._exit(1)
            return f"decoded {token}"

        return list(attempts.each("decoding", [(token, token) for token in tokens], work))

    task = ray.remote(max_retries=-1, num_cpus=0.5)(decode)
    with open_desk(most=2) as attempts:
        answers = dict(ray.get(task.remote(["before", "deadly", "after"], attempts), timeout=120))
    assert list(answers) == ["before", "deadly", "after"]
    assert isinstance(answers["deadly"], Failure)
    assert "died 2 times while it was decoding clip deadly" in answers["deadly"].reason
    assert (answers["before"], answers["after"]) == ("decoded before", "decoded after")


def test_the_loss_of_a_node_is_no_clips_fault() -> None:
    desk = Desk(is_alive=lambda node: node == "alive")
    assert desk.begin("lost", "w1", "decoding", ["a"], True) == {}
    assert desk.begin("alive", "w2", "decoding", ["a"], True) == {}
    (died,) = desk.begin("alive", "w3", "scoring", ["a"], False).values()
    assert (died.total, died.alone, died.step) == (1, 1, "decoding")
    desk.end(["a"])
    (died,) = desk.begin("alive", "w4", "scoring", ["a", "b"], False).values()  # ended well: no death more
    assert (died.total, died.alone) == (1, 1)


def test_a_task_that_begins_again_in_the_same_process_did_not_die() -> None:
    desk = Desk(is_alive=lambda node: True)
    desk.begin("n", "w", "scoring", ["a", "b"], False)
    assert desk.begin("n", "w", "scoring", ["a"], True) == {}


def test_the_file_takes_a_list_and_keeps_it(tmp_path: Path) -> None:
    run = Store(str(tmp_path))
    assert quarantined(run) == {}
    run.write_json(layout.QUARANTINE, ["a"])
    quarantine(run, {"b": "why", "a": "another"})
    assert quarantined(run) == {"a": "", "b": "why"}
    for nonsense in (5, [1], {"a": 1}):
        run.write_json(layout.QUARANTINE, nonsense)
        with pytest.raises(InputError, match="must hold a JSON list"):
            quarantined(run)


def test_finishing_is_tried_again_and_gives_a_clip_up_alone() -> None:
    from sead_ray.stages.clip_tasks import finished_or_failed

    seen: list[str] = []

    def finish(rows: Sequence[tuple[str, Any]], bad: str) -> list[dict[str, Any]]:
        for token, result in rows:
            seen.append(token)
            if token == bad and not isinstance(result, Failure):
                raise RuntimeError("will not")
        return [{"clip_token": token, "failed": isinstance(result, Failure)} for token, result in rows]

    rows = [("a", 1), ("b", 2), ("c", 3)]
    made = finished_or_failed(rows, partial(finish, bad="b"), most=2)
    assert [(row["clip_token"], row["failed"]) for row in made] == [("a", False), ("b", True), ("c", False)]
    with pytest.raises(InputError):
        finished_or_failed(rows, _refuse, most=2)


def _refuse(rows: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    raise InputError("the user's to mend.")
