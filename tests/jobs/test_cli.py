"""The command line: precedence, what people type, exit codes, and one sentence for each mistake."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.cli import parse, run_job
from sead_ray.config import RunConfig
from sead_ray.errors import InputError, LabelsPending

REPOSITORY = Path(__file__).parents[2]
JOBS = sorted(path.stem for path in (REPOSITORY / "jobs").glob("*.py") if "__main__" in path.read_text())


@pytest.fixture(autouse=True)
def _sigterm_restored() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_yaml(text: str | bytes) -> str:
        path = tmp_path / "config.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write_yaml


def config_of(*argv: str) -> RunConfig:
    config, dry_run = parse("A job.", argv)
    assert not dry_run
    assert type(config) is RunConfig
    return config


def outcome(capsys: pytest.CaptureFixture[str], argv: list[str], job: Any = lambda config: "done") -> tuple[int, str]:
    """Exit code and the only line on stderr; nothing may be on stdout."""
    with pytest.raises(SystemExit) as exit_:
        run_job("A job.", job, lambda config: "plan", argv=argv, prog="job")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.endswith(".\n")
    assert isinstance(exit_.value.code, int)
    return exit_.value.code, captured.err


def test_options_beat_the_file_and_the_file_beats_the_defaults(write: Any) -> None:
    path = write("seed: 5\ntrain: {epochs: 7, augment: false}\nselect: {rounds: [0.2, 0.4]}\n")
    assert config_of() == RunConfig()
    config = config_of("--config", path, "--train.epochs", "3", "--select.rounds", "[0.1]")
    assert config.train.epochs == 3
    assert config.select.rounds == [0.1]
    assert config.seed == 5
    assert config.train.augment is False
    assert config.train.global_batch == RunConfig().train.global_batch
    assert config_of("--train.augment", f"--config={path}").train.augment is True


def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED", "9")
    monkeypatch.setenv("RUN_DIR", "elsewhere")
    assert config_of() == RunConfig()


@pytest.mark.parametrize(
    ("argv", "key", "value"),
    [
        (["--train.epochs=3"], "train.epochs", 3),
        (["--seed", "-3"], "seed", -3),
        (["--train.learning_rate", "1e-3"], "train.learning_rate", 1e-3),
        (["--select.rounds", "[0.1,0.2]"], "select.rounds", [0.1, 0.2]),
        (["--select.rounds=[0.1, 0.2]"], "select.rounds", [0.1, 0.2]),
        (["--select.rounds", "0.1,0.2"], "select.rounds", [0.1, 0.2]),
        (["--select.rounds", "0.1", "--select.rounds", "0.2"], "select.rounds", [0.1, 0.2]),
        (["--no-select.key_frames"], "select.key_frames", False),
        (["--select.key_frames", "false"], "select.key_frames", False),
        (["--select.key_frames=False"], "select.key_frames", False),
        (["--data.allow_shared_logs"], "data.allow_shared_logs", True),
        (["--data.allow_shared_logs", "true"], "data.allow_shared_logs", True),
        (["--data.allow_shared_logs", "--seed", "1"], "data.allow_shared_logs", True),
        (["--train.max_steps", "12"], "train.max_steps", 12),
        (["--train.max_steps", "null"], "train.max_steps", None),
        (["--labels.delivery", "/in"], "labels.delivery", "/in"),
        (["--model.overrides", '{"embed_dim": 32}'], "model.overrides", {"embed_dim": 32}),
        (["--run_dir", "a folder, with [signs]"], "run_dir", "a folder, with [signs]"),
        (["--run_dir", "7"], "run_dir", "7"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value and isinstance(value[0], str) else None,
)
def test_spellings(argv: list[str], key: str, value: Any) -> None:
    found: Any = config_of(*argv)
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


def test_dry_run_prints_the_plan_and_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def job(_: RunConfig) -> str:
        raise AssertionError("the job ran")

    run_job("A job.", job, lambda config: f"seed {config.seed}", argv=["--dry-run", "--seed", "4"])
    assert capsys.readouterr() == ("seed 4\n", "")


def test_the_answer_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    run_job("A job.", lambda config: f"seed {config.seed}", lambda _: "plan", argv=["--seed", "4"])
    run_job("A job.", lambda _: None, lambda _: "plan", argv=[])
    assert capsys.readouterr() == ("seed 4\n", "")


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--train.epoch", "3"], "--train.epoch"),
        (["--train.epoch=3"], "--train.epoch=3"),
        (["--run-dir", "x"], "--run-dir"),
        (["stray"], "stray"),
        (["--train.epochs"], "--train.epochs"),
        (["--train.epochs", "three"], "train.epochs"),
        (["--train.epochs", "1.5"], "train.epochs"),
        (["--train.epochs", "0"], "train.epochs"),
        (["--image.decode", "half"], "image.decode"),
        (["--select.key_frames", "perhaps"], "select.key_frames"),
        (["--select.rounds", "[0.2, 0.1]"], "select.rounds"),
        (["--select.rounds", "some"], "select.rounds"),
        (["--dry-run=1"], "--dry-run"),
        (["--config"], "--config"),
        (["--config="], "--config"),
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_one_sentence_and_code_2(
    capsys: pytest.CaptureFixture[str], argv: list[str], named: str
) -> None:
    code, line = outcome(capsys, argv)
    assert code == 2
    assert named in line


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("train: {epoch: 3}", "train.epoch "),
        ("tarin: {epochs: 3}", "tarin "),
        ("train: {epochs: ten}", "train.epochs"),
        ("train: 3", "train "),
        ("train:", "train "),
        ("select: {rounds: [0.3, 0.2]}", "select.rounds"),
        ("select: {rounds: 0.3}", "select.rounds"),
        ("- seed: 1", "keys and values"),
        ("seed", "keys and values"),
        ("a: [1", "not valid YAML"),
        ("a: 'x\n\n  b: !!python/object:os.system {}", "not valid YAML"),
        (b"seed: \xff\xfe", "UTF-8"),
    ],
)
def test_a_wrong_file_is_one_sentence_and_code_2(
    capsys: pytest.CaptureFixture[str], write: Any, text: str | bytes, named: str
) -> None:
    path = write(text)
    code, line = outcome(capsys, ["--config", path])
    assert code == 2
    assert path in line
    assert named in line


def test_a_wrong_option_is_not_blamed_on_the_file(capsys: pytest.CaptureFixture[str], write: Any) -> None:
    path = write("seed: 1")
    assert path not in outcome(capsys, ["--config", path, "--train.epochs", "0"])[1]


def test_an_empty_file_is_all_defaults(write: Any) -> None:
    assert config_of("--config", write("# nothing\n")) == RunConfig()


def test_a_file_that_cannot_be_read_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        code, line = outcome(capsys, ["--config", str(path)])
        assert code == 2
        assert str(path) in line


def raising(error: BaseException) -> Any:
    def job(_: RunConfig) -> str:
        raise error

    return job


def test_exit_codes_of_the_jobs_errors(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = outcome(capsys, [], raising(InputError("Table scene.json\nis missing.")))
    assert (code, line) == (2, "Table scene.json is missing.\n")
    code, line = outcome(capsys, [], raising(LabelsPending("/run/request.json")))
    assert code == 3
    assert "/run/request.json" in line
    assert outcome(capsys, [], raising(KeyboardInterrupt()))[0] == 130


def test_the_plans_errors_count_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run_job("A job.", lambda _: "done", raising(InputError("No data.")), argv=["--dry-run"])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "No data.\n"


def test_a_programmers_error_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_job("A job.", lambda _: str(1 // 0), lambda _: "plan", argv=[])


def test_sigterm_is_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    def job(_: RunConfig) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        return "not stopped"

    assert outcome(capsys, [], job)[0] == 130


def test_help_lists_the_keys_with_what_they_mean(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run_job("What this job does.", lambda _: "done", lambda _: "plan", argv=["--help"], prog="python -m jobs.x")
    assert exit_.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "What this job does." in text
    assert "usage: python -m jobs.x" in text
    for group, field in RunConfig.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        for option in [f"{group}.{name}" for name in inner] if inner else [group]:
            assert f"--{option}" in text
    for part in ("--config FILE", "--dry-run", "Width after the resize", "(default: vad_tiny)", "'[0.1, 0.2]'"):
        assert part in text


def test_every_job_is_known_to_these_tests() -> None:
    assert {"run_rounds", "prepare_clips", "train_model", "score_pool", "select_clips", "evaluate_model"} <= set(JOBS)


@pytest.mark.parametrize("job", JOBS)
def test_every_job_has_help(job: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [job, "--help"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module(f"jobs.{job}", run_name="__main__")
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert f"python -m jobs.{job}" in out
    assert "--config FILE" in out
    assert "--dry-run" in out


def test_a_process_ends_with_the_code_and_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs.generate_world", "--world.scene", "3"]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == "Unknown option --world.scene: see --help for the keys of the configuration.\n"


def test_selection_settings_from_the_command_line() -> None:
    config = config_of("--select.preset", "sead_bev", "--select.terms", '{"shift": 1, "nearness": 0.5}')
    assert (config.select.incremental, config.select.shift, config.select.key_frames) == ("sead", "bev", True)
    assert config.select.terms == {"shift": 1.0, "nearness": 0.5}
    counts = config_of("--select.rounds", "[70, 140]", "--select.amounts", "count", "--select.budget_in", "frames")
    assert counts.select.rounds == [70, 140]
    with pytest.raises(InputError, match=r"select\.preset 'magic' is none of random, stratified_random"):
        config_of("--select.preset", "magic")
