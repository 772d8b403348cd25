"""Stages of neighbouring rounds at the same time: the same run, sooner."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sead_ray.config import RunConfig, ScoreConfig, TrainConfig
from sead_ray.errors import InputError
from sead_ray.stages import layout, overlap
from sead_ray.stages.overlap import Overlap, shared_out
from sead_ray.stages.rounds import run_rounds
from sead_ray.stages.select import read_selection
from sead_ray.stages.standby import Standby
from sead_ray.storage import Store
from tests.stages.free_cpus import wait_until_free


@pytest.fixture(scope="module")
def config(loop_config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    train = loop_config.train.model_copy(update={"cpus_per_worker": 0.5})
    run_dir = str(tmp_path_factory.mktemp("runs") / "overlapping")
    return loop_config.model_copy(update={"run_dir": run_dir, "overlap": True, "train": train})


@pytest.fixture(scope="module")
def run(config: RunConfig, ray_cluster: None) -> Store:
    return run_rounds(config)


def log(run: Store, number: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.read_bytes(f"{layout.model(number)}/metrics.jsonl").splitlines()]


def test_the_run_is_the_same(run: Store, loop_run: Store) -> None:
    for number in (0, 1):
        assert run.is_published(layout.evaluation(number))
        assert read_selection(run, number) == read_selection(loop_run, number)
        mine, theirs = log(run, number), log(loop_run, number)
        assert [entry["step"] for entry in mine] == [entry["step"] for entry in theirs]
        assert [entry["loss"] for entry in mine] == pytest.approx([entry["loss"] for entry in theirs], rel=1e-3)


def test_its_workers_built_the_model_before_they_knew_the_clips(run: Store) -> None:
    for number in (0, 1):
        assert list(log(run, number)[0]["start_up_s"]) == ["model", "selection", "data", "recording", "first batch"]


def test_nothing_is_left_of_what_it_needed(run: Store) -> None:
    for number in (0, 1):
        assert not run.exists(layout.train_work(number))
    beside = ("standby", "evaluate", "look-ahead", "ahead")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(beside)]


def test_workers_that_wait_can_be_sent_away(config: RunConfig, run: Store) -> None:
    wait_until_free()
    standby = Standby(run, config, 7)
    standby.end()
    assert not [thread for thread in threading.enumerate() if thread.name == "standby-7"]
    wait_until_free()
    with pytest.raises(Exception, match=r"actor|controller"):
        standby.go_on_with({})


class MadeUp:
    """Stands in for workers that got ready."""

    ended: ClassVar[list[int]] = []

    def __init__(self, _run: Store, _config: RunConfig, number: int) -> None:
        self.number = number

    def end(self) -> None:
        self.ended.append(self.number)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> type[MadeUp]:
    monkeypatch.setattr(overlap, "Standby", MadeUp)
    monkeypatch.setattr(MadeUp, "ended", [])
    return MadeUp


def test_only_rounds_whose_clips_are_still_to_be_chosen_get_ready(
    config: RunConfig, run: Store, tmp_path: Path, made_up: type[MadeUp]
) -> None:
    with Overlap(run, config) as rounds:  # both are finished
        for number in (0, 1, 2):
            rounds.get_ready(number)
            assert rounds.standby(number) is None
    with Overlap(Store(str(tmp_path)), config) as rounds:
        rounds.get_ready(1)
        assert rounds.standby(0) is None
        assert isinstance(rounds.standby(1), MadeUp)
    assert made_up.ended == [1]


def test_workers_are_sent_away_whatever_happens(config: RunConfig, tmp_path: Path, made_up: type[MadeUp]) -> None:
    rounds = Overlap(Store(str(tmp_path)), config)
    rounds.get_ready(0)
    with pytest.raises(KeyboardInterrupt), rounds:
        raise KeyboardInterrupt
    assert made_up.ended == [0]


def test_labels_that_people_bring_are_not_waited_for_with_workers(
    config: RunConfig, tmp_path: Path, made_up: type[MadeUp]
) -> None:
    waiting = config.model_copy(update={"labels": config.labels.model_copy(update={"mode": "wait"})})
    with Overlap(Store(str(tmp_path)), waiting) as rounds:
        rounds.get_ready(0)
        assert rounds.standby(0) is None
        assert rounds.evaluates_later(0)


@pytest.mark.parametrize(
    ("cluster", "train", "score", "shares"),
    [
        pytest.param({"CPU": 2}, {}, {}, (None, None, None), id="no GPU"),
        pytest.param({"CPU": 16, "GPU": 1}, {}, {}, (0.33, 0.33, 1), id="one GPU by thirds"),
        pytest.param(
            {"CPU": 16, "GPU": 1}, {"gpus_per_worker": 0.8}, {"gpus_per_actor": 0.1}, (0.8, 0.1, 1), id="as asked"
        ),
        pytest.param({"CPU": 64, "GPU": 4}, {}, {}, (None, None, 3), id="what training leaves"),
        pytest.param({"CPU": 64, "GPU": 4}, {"num_workers": 3}, {"max_actors": 1}, (None, None, 1), id="fewer"),
    ],
)
def test_how_gpus_are_shared(
    loop_config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    cluster: dict[str, float],
    train: dict[str, Any],
    score: dict[str, Any],
    shares: tuple[float | None, float | None, int | None],
) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: cluster)
    monkeypatch.setattr(overlap, "connect", lambda: None)
    asked = loop_config.model_copy(
        update={
            "train": loop_config.train.model_copy(update=train),
            "score": loop_config.score.model_copy(update=score),
        }
    )
    assert shared_out(asked) == asked
    shared = shared_out(asked.model_copy(update={"overlap": True}))
    assert (shared.train.gpus_per_worker, shared.score.gpus_per_actor, shared.score.max_actors) == shares
    assert shared.evaluate.max_actors == shares[2]


@pytest.mark.parametrize(
    ("train", "score"),
    [
        pytest.param({"num_workers": 2, "cpus_per_worker": 1.0}, {}, id="CPUs"),
        pytest.param({"gpus_per_worker": 0.5}, {"gpus_per_actor": 0.6}, id="GPUs"),
    ],
)
def test_without_room_stages_come_one_after_the_other(
    config: RunConfig,
    ray_cluster: None,
    tmp_path: Path,
    made_up: type[MadeUp],
    capsys: pytest.CaptureFixture[str],
    train: dict[str, Any],
    score: dict[str, Any],
) -> None:
    larger = config.model_copy(
        update={
            "train": TrainConfig.model_validate({**config.train.model_dump(), **train}),
            "score": ScoreConfig.model_validate({**config.score.model_dump(), **score}),
        }
    )
    with Overlap(Store(str(tmp_path)), larger) as rounds:
        rounds.get_ready(0)
        assert rounds.standby(0) is None
        assert not rounds.evaluates_later(0)
    assert "stages come one after the other" in capsys.readouterr().err


def test_an_evaluation_beside_a_training_tells_its_error_at_the_end(
    config: RunConfig, run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise InputError("Val clip abc cannot be evaluated.")

    monkeypatch.setattr(overlap, "evaluate_model", fails)
    trained = False
    with pytest.raises(InputError, match="Val clip abc"), Overlap(run, config).evaluating(0):
        trained = True
    assert trained


def test_an_evaluation_stops_where_the_training_beside_it_fails(
    config: RunConfig, run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def evaluates(_run: Store, _config: RunConfig, _number: int, stopped: threading.Event) -> None:
        seen.append(stopped.wait(60))

    monkeypatch.setattr(overlap, "evaluate_model", evaluates)
    with pytest.raises(InputError, match="no label"), Overlap(run, config).evaluating(0):
        raise InputError("There is no label.")
    for thread in threading.enumerate():
        if thread.name == "evaluate-0":
            thread.join(60)
    assert seen == [True]


@pytest.fixture
def begun(made_up: type[MadeUp], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was begun beside a training that is about to end."""
    names: list[str] = []

    def begins(name: str) -> Callable[[Store, RunConfig, int, threading.Event], str]:
        def begin(_run: Store, _config: RunConfig, number: int, _stopped: threading.Event) -> str:
            names.append(f"{name} {number}")
            return f"{name} of {number}"

        return begin

    monkeypatch.setattr(overlap, "score_ahead", begins("score"))
    monkeypatch.setattr(overlap, "judge_ahead", begins("judge"))
    monkeypatch.setattr(overlap, "LOOK_EVERY_S", 0.01)
    return names


def trains(run: Store, number: int, steps: int, of: int) -> None:
    """Writes down steps as a worker does, ten a second."""
    for step in range(1, steps + 1):
        run.write_json(layout.train_progress(number), {"step": step, "steps": of, "loss": 1.0})
        time.sleep(0.1)


def test_what_follows_begins_before_a_training_has_ended(config: RunConfig, tmp_path: Path, begun: list[str]) -> None:
    run = Store(str(tmp_path))
    with Overlap(run, config) as rounds:
        with rounds.looking_ahead(0):
            time.sleep(0.1)
            assert rounds.standby(1) is None
            trains(run, 0, steps=8, of=60)
            ready, scores = rounds.standby(1), rounds.scores(1)
            assert isinstance(ready, MadeUp)
            assert scores is not None
            assert scores.result() == "score of 1"
        rounds.get_ready(1)
        assert rounds.standby(1) is ready
        run.remove(layout.train_progress(0))
        with rounds.looking_ahead(1):
            trains(run, 1, steps=8, of=60)
        judged = rounds.judged(1)
        assert judged is not None
        assert judged.result() == "judge of 1"
        assert rounds.judged(0) is rounds.scores(0) is None
    assert begun == ["score 1", "judge 1"]


def test_a_training_that_still_takes_long_is_left_alone(config: RunConfig, tmp_path: Path, begun: list[str]) -> None:
    run = Store(str(tmp_path))
    with Overlap(run, config) as rounds, rounds.looking_ahead(0):
        trains(run, 0, steps=8, of=1000)
        assert rounds.standby(1) is None
    assert not begun


def test_without_room_for_two_trainings_nothing_begins_early(
    config: RunConfig, tmp_path: Path, begun: list[str]
) -> None:
    run = Store(str(tmp_path))
    large = config.model_copy(update={"train": config.train.model_copy(update={"cpus_per_worker": 1.0})})
    with Overlap(run, large) as rounds:
        with rounds.looking_ahead(0):
            trains(run, 0, steps=8, of=60)
            assert rounds.standby(1) is None
        rounds.get_ready(1)
        assert isinstance(rounds.standby(1), MadeUp)
    assert not begun


def test_a_strategy_that_needs_no_scores_computes_none_ahead(
    config: RunConfig, tmp_path: Path, begun: list[str]
) -> None:
    run = Store(str(tmp_path))
    random = config.model_copy(update={"select": config.select.model_copy(update={"incremental": "random"})})
    with Overlap(run, random) as rounds, rounds.looking_ahead(0):
        trains(run, 0, steps=8, of=60)
        assert isinstance(rounds.standby(1), MadeUp)
        assert rounds.scores(1) is None
    assert not begun


def test_clips_that_wait_for_the_next_round_are_scored_with_it(
    config: RunConfig, tmp_path: Path, begun: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap, "is_pool_complete", lambda _run: False)
    run = Store(str(tmp_path))
    with Overlap(run, config) as rounds, rounds.looking_ahead(0):
        trains(run, 0, steps=8, of=60)
        assert isinstance(rounds.standby(1), MadeUp)
        assert rounds.scores(1) is None
    assert not begun
