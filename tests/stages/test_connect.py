"""Joining Ray leaves the job's answer to SIGTERM in place (Ray installs its own, which exits with code 1)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from sead_ray.stages.cluster import KEEP_IDLE_WORKERS, _without, connect, device_for, gpus_each


@pytest.fixture
def ray_that_takes_sigterm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: signal.signal(signal.SIGTERM, signal.default_int_handler))
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("ray_that_takes_sigterm")
def test_the_jobs_handler_survives_and_rays_stays_where_there_is_none() -> None:
    def on_sigterm(*_: Any) -> None: ...

    signal.signal(signal.SIGTERM, on_sigterm)
    connect()
    assert signal.getsignal(signal.SIGTERM) is on_sigterm
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    connect()
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler


@pytest.mark.usefixtures("ray_that_takes_sigterm")
@pytest.mark.parametrize(("set_before", "then"), [(None, "600000"), ("5", "5")])
def test_a_ray_of_ones_own_keeps_idle_workers(
    monkeypatch: pytest.MonkeyPatch, set_before: str | None, then: str
) -> None:
    name, _ = KEEP_IDLE_WORKERS
    monkeypatch.setenv(name, set_before or "")  # so that the test's end puts back what was there
    if set_before is None:
        monkeypatch.delenv(name)
    connect()
    assert os.environ[name] == then


def test_only_the_greeting_is_left_out_of_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with _without(b"log level"):
        os.write(2, b"[I] Set ray log level to 3\nno place\n")
    os.write(2, b"behind\n")
    assert capfd.readouterr().err == "no place\nbehind\n"


def test_what_the_user_asks_of_gpus_is_taken() -> None:
    assert gpus_each(0.5) == 0.5
    assert gpus_each(0.0) == 0.0
    assert [device_for(gpus) for gpus in (0.0, 0.5)] == ["cpu", "cuda"]
