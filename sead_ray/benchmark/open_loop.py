"""Requests to a scoring service at a given rate, whether it keeps up or not, and what became of each. No Ray."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from sead_ray.client import RETRIED, clip_part
from sead_ray.clip_request import File

NO_ANSWER = 0  # in place of a status
LONGEST_WAIT_S = 5.0


@dataclass(frozen=True)
class Request:
    """A clip's JSON and images, sent again and again under names of its own."""

    body: dict[str, Any]
    files: list[File]

    def parts(self, name: str) -> list[File]:
        return [clip_part({**self.body, "clip_token": name}), *self.files]


@dataclass(frozen=True)
class Outcome:
    """
    Attributes:
        started_s: since the beginning of the load. status: of the last try; `NO_ANSWER`: none came.
        is_mine: the answer names the clip that was sent. before: statuses of the tries before the last one.
    """

    name: str
    started_s: float
    seconds: float
    status: int
    is_mine: bool = False
    model_version: str = ""
    score: float | None = None
    before: tuple[int, ...] = ()

    @property
    def tries(self) -> int:
        return 1 + len(self.before)


class Load:
    """Sends `request` to the service at `url`.

    Args:
        tries: of each request, as the typed client does; 1: a refusal is an outcome.
    """

    def __init__(self, url: str, request: Request, token: str = "", timeout_s: float = 120.0, tries: int = 1) -> None:
        self._url, self._request, self._timeout_s, self._tries = url, request, timeout_s, tries
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.outcomes: list[Outcome] = []
        self.n_sent = 0

    async def at_rate(self, per_s: float, seconds: float, seed: int = 0) -> list[Outcome]:
        """Poisson arrivals at `per_s` a second, for so long; returns once all are answered or timed out."""
        rng = np.random.default_rng(seed)
        gaps = rng.exponential(1 / per_s, max(1, round(1.5 * per_s * seconds) + 10))
        arrivals = [value for value in np.cumsum(gaps) if value < seconds]
        async with self._client() as http:
            started = time.perf_counter()
            tasks = []
            for at in arrivals:
                await asyncio.sleep(max(0.0, at - (time.perf_counter() - started)))
                tasks.append(asyncio.create_task(self._send(http, started)))
            await asyncio.gather(*tasks)
        return self.outcomes

    async def closed(self, at_once: int, seconds: float) -> float:
        """So many requests at a time, one after the other; answers a second."""
        async with self._client() as http:
            started = time.perf_counter()

            async def one_after_the_other() -> None:
                while time.perf_counter() - started < seconds:
                    await self._send(http, started)

            await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
            taken = time.perf_counter() - started
        return sum(outcome.status == 200 for outcome in self.outcomes) / taken

    def _client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        return httpx.AsyncClient(
            base_url=self._url, timeout=self._timeout_s, limits=limits, headers=self._headers, trust_env=False
        )

    async def _send(self, http: httpx.AsyncClient, started: float) -> None:
        self.n_sent += 1
        name = f"load-{self.n_sent:06d}"
        parts, sent = self._request.parts(name), time.perf_counter()
        before: list[int] = []
        for attempt in range(1, self._tries + 1):
            wait_s = min(LONGEST_WAIT_S, 0.5 * 2 ** (attempt - 1)) * random.uniform(0.75, 1.25)
            try:
                response = await http.post("/v1/score", files=parts)
                status, answer = response.status_code, response.json()
            except (httpx.TransportError, json.JSONDecodeError):
                status, answer = NO_ANSWER, {}
            if status not in (*RETRIED, NO_ANSWER) or attempt == self._tries:
                break
            before.append(status)
            await asyncio.sleep(wait_s)
        seconds = time.perf_counter() - sent
        mine = answer.get("clip_token") == name
        facts = (answer.get("model_version", ""), answer.get("score"), tuple(before))
        self.outcomes.append(Outcome(name, sent - started, seconds, status, mine, *facts))


def summary(load: Load) -> dict[str, Any]:
    """What became of the requests: each is answered once, refused at once, or counted as lost."""
    outcomes = load.outcomes
    answered = [item for item in outcomes if item.status == 200]
    names = Counter(item.name for item in outcomes)
    return {
        "sent": load.n_sent,
        "statuses": {str(key): count for key, count in sorted(Counter(item.status for item in outcomes).items())},
        "answered": len(answered),
        "lost": load.n_sent - len(names) + sum(item.status == NO_ANSWER for item in outcomes),
        "answered_twice": sum(count - 1 for count in names.values()),
        "answers_to_another": sum(not item.is_mine for item in answered),
        "answered_s": quantiles_s([item.seconds for item in answered]),
        "refused_s": quantiles_s([item.seconds for item in outcomes if item.status == 429]),
        "models": dict(Counter(item.model_version for item in answered)),
        "tries_at_most": max((item.tries for item in outcomes), default=0),
        "tried_again_after": {
            str(status): sum(status in item.before for item in outcomes)
            for status in sorted({status for item in outcomes for status in item.before})
        },
    }


def quantiles_s(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    values = np.quantile(seconds, [0.5, 0.95, 0.99, 1.0])
    return {name: round(float(value), 4) for name, value in zip(("p50", "p95", "p99", "max"), values)}
