"""A typed client of the scoring service, which comes again where the service is busy or restarts."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx

from sead_ray.clip_request import File, clip_part, clip_request, frame_request, stored_clip
from sead_ray.errors import InputError
from sead_ray.records import Clip
from sead_ray.wire import Answer, JobAnswer, ModelInfo, ModelList, ScoreAnswer, SessionAnswer

__all__ = ["ScoringClient", "Session", "clip_part", "clip_request", "score_clip", "stored_clip"]

RETRIED = (429, 502, 503, 504)
LONGEST_WAIT_S = 30.0

Kind = TypeVar("Kind", bound=Answer)


class ScoringClient:
    """Talks to the service at `url`; use it as a context manager, or `close` it.

    Every request but a roll-back may be sent again without harm: scoring changes nothing, a job carries an
    idempotency key, and a session takes the same frame twice as one.

    Args:
        token: a bearer token of jobs.make_token, where the service asks for one.
        tries: of each request, while the service is busy (429), away (502, 503, 504) or not to be reached.
        first_wait_s: before the second try; doubled for each further one, unless the service says when to come again.
        http: an httpx client to use instead of a new one, with the service as its `base_url`.

    Every method raises `InputError` with the service's own sentence where it refuses the request, and
    `httpx.HTTPError` where it cannot be reached or fails after all tries.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout_s: float = 300.0,
        tries: int = 5,
        first_wait_s: float = 0.5,
        http: httpx.Client | None = None,
    ) -> None:
        self._http = http or httpx.Client(base_url=url.rstrip("/"), timeout=timeout_s, follow_redirects=False)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tries, self._first_wait_s = tries, first_wait_s

    def __enter__(self) -> ScoringClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def score(self, clip: Clip, data_root: str, model: str | None = None, key: str | None = None) -> ScoreAnswer:
        """Sends a clip with its images, which lie below `data_root`.

        Args:
            model: a version of `models`, else the first.
            key: an idempotency key, where the service takes clips into its pool; without one the content is the key.
        """
        body, files = clip_request(clip, data_root)
        headers = {"Idempotency-Key": key} if key else {}
        files = [clip_part(body), *files]
        return self._ask(ScoreAnswer, "POST", "/v1/score", params=_of(model), headers=headers, files=files)

    def score_stored(self, clip: Clip, storage: str, model: str | None = None) -> ScoreAnswer:
        """Names a clip's images below the folder `storage`, which the service reads itself."""
        return self._ask(ScoreAnswer, "POST", "/v1/score", params=_of(model), json=stored_clip(clip, storage))

    def submit(
        self, clips: Sequence[Clip], data_root: str, key: str | None = None, model: str | None = None
    ) -> JobAnswer:
        """Sends clips as one job. `key`: sent again with the same clips, it returns the job that it made."""
        parts: list[File] = []
        for number, clip in enumerate(clips):
            body, files = clip_request(clip, data_root)
            _prefix_images(body, files, f"{number:04d}_")
            parts += [clip_part(body), *files]
        return self._submit(key, model, files=parts)

    def submit_stored(
        self, clips: Sequence[Clip], storage: str, key: str | None = None, model: str | None = None
    ) -> JobAnswer:
        return self._submit(key, model, json={"clips": [stored_clip(clip, storage) for clip in clips]})

    def job(self, job_id: str) -> JobAnswer:
        return self._ask(JobAnswer, "GET", f"/v1/jobs/{job_id}")

    def cancel(self, job_id: str) -> JobAnswer:
        return self._ask(JobAnswer, "DELETE", f"/v1/jobs/{job_id}")

    def wait(
        self,
        job_id: str,
        timeout_s: float = 3600.0,
        poll_s: float = 1.0,
        on_poll: Callable[[JobAnswer], None] = lambda _: None,
    ) -> JobAnswer:
        """Polls until the job has ended. Raises `TimeoutError`."""
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self.job(job_id)
            on_poll(answer)
            if answer.status in ("done", "cancelled"):
                return answer
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {job_id} has {answer.n_done} of {answer.n_clips} clips after {timeout_s:g} s")
            time.sleep(poll_s)

    @contextmanager
    def session(self, clip_token: str | None = None, model: str | None = None) -> Generator[Session, None, None]:
        """A session for one clip, closed at the end of the block."""
        body = {"clip_token": clip_token} if clip_token else {}
        opened = self._ask(SessionAnswer, "POST", "/v1/sessions", params=_of(model), json=body)
        try:
            yield Session(self, opened.session_id)
        finally:
            self._send("DELETE", f"/v1/sessions/{opened.session_id}")  # one that has expired is closed too

    def model(self) -> ModelInfo:
        return self._ask(ModelInfo, "GET", "/v1/model")

    def models(self) -> list[ModelInfo]:
        return self._ask(ModelList, "GET", "/v1/models").models

    def promote(self, number: int) -> ModelInfo:
        """Serves the model of that round; needs an admin's token."""
        return self._ask(ModelInfo, "POST", "/v1/models/promote", params={"round": number})

    def roll_back(self) -> ModelInfo:
        """Brings the model before the last promotion back; needs an admin's token."""
        return self._ask(ModelInfo, "POST", "/v1/models/roll_back")

    def is_ready(self) -> bool:
        """Whether the model is loaded; asked once."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _submit(self, key: str | None, model: str | None, **body: Any) -> JobAnswer:
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        return self._ask(JobAnswer, "POST", "/v1/jobs", params=_of(model), headers=headers, **body)

    def _ask(self, kind: type[Kind], method: str, path: str, **body: Any) -> Kind:
        response = self._send(method, path, **body)
        if 400 <= response.status_code < 500 and response.status_code != 429:
            raise InputError(_refusal(response))
        response.raise_for_status()
        return kind.model_validate_json(response.content)

    def _send(self, method: str, path: str, **body: Any) -> httpx.Response:
        headers = {**self._headers, **body.pop("headers", {})}
        for attempt in range(1, self._tries + 1):
            wait_s = self._first_wait_s * 2 ** (attempt - 1)
            try:
                response = self._http.request(method, path, headers=headers, **body)
            except httpx.TransportError:
                if attempt == self._tries:
                    raise
            else:
                if response.status_code not in RETRIED or attempt == self._tries:
                    return response
                wait_s = max(wait_s, _retry_after_s(response))
            time.sleep(min(wait_s, LONGEST_WAIT_S) * random.uniform(0.75, 1.25))  # not all clients at once
        raise AssertionError("the last try returns or raises")


class Session:
    """A clip whose frames go one by one."""

    def __init__(self, client: ScoringClient, session_id: str) -> None:
        self._client, self.session_id = client, session_id

    def add(self, clip: Clip, index: int, data_root: str) -> SessionAnswer:
        """Sends frame `index` of the clip; answers with the score of all frames so far."""
        frame, files = frame_request(clip, index, data_root)
        path = f"/v1/sessions/{self.session_id}/frames"
        return self._client._ask(SessionAnswer, "POST", path, files=[clip_part(frame, "frame"), *files])


def score_clip(
    url: str, clip: Clip, data_root: str, timeout_s: float = 300.0, token: str | None = None
) -> dict[str, Any]:
    """Sends a clip to the service at `url` and returns its answer as plain values.

    Raises:
        InputError: the service refuses the clip, in its own words.
        httpx.HTTPError: it cannot be reached, or failed.
    """
    with ScoringClient(url, token, timeout_s) as client:
        return client.score(clip, data_root).model_dump(mode="json")


def _of(model: str | None) -> dict[str, str]:
    return {} if model is None else {"model": model}


def _prefix_images(body: dict[str, Any], files: list[File], prefix: str) -> None:
    """Two clips of one job must not use the same names."""
    for frame in body["frames"]:
        for camera in frame["cameras"].values():
            camera["image"] = prefix + camera["image"]
    files[:] = [(part, (f"{prefix}{name}", data, kind)) for part, (name, data, kind) in files]


def _refusal(response: httpx.Response) -> str:
    try:
        error = response.json()
        field = f"field {error['field']}, " if error["field"] else ""
        return f"{error['detail']} ({field}error {error['error_id']})"
    except (ValueError, KeyError, TypeError):  # something else listens at this address
        return f"{response.url} answered {response.status_code}, and not as the scoring service does."


def _retry_after_s(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else 0.0
