"""Jobs: long clips and batches, scored one clip after the other while the client polls. Held in memory, by one process.

A job belongs to the token that sent it. Its uploads are dropped clip by clip as they are done; what can be fetched
afterwards is the answers, for `job_keep_s`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sead_ray.config import ServeConfig
from sead_ray.tokens import Grant
from sead_ray.wire import ErrorAnswer, JobAnswer, JobClip, ScoreAnswer
from serve.errors import ApiError, busy
from serve.guard import FAULT, error_answer

BUSY_RETRY_S = 1.0
BUSY_TRIES = 300

Status = Literal["queued", "running", "done", "failed", "cancelled"]
# Scores one clip; calls its argument after every part of it with the frames done, which raises once it is cancelled.
Work = Callable[[Callable[[int], None]], Awaitable[ScoreAnswer]]


class Cancelled(Exception):
    """The clip's job was cancelled meanwhile."""


@dataclass
class JobItem:
    """One clip. `work` holds its upload, and goes when it is done."""

    clip_token: str
    n_frames: int
    work: Work | None
    status: Status = "queued"
    frames_done: int = 0
    answer: ScoreAnswer | None = None
    error: ErrorAnswer | None = None

    def finish(self, status: Status) -> None:
        self.status, self.work = status, None


@dataclass
class Job:
    job_id: str
    owner: str
    items: list[JobItem]
    n_bytes: int
    digest: str
    is_cancelled: bool = False
    ended_at: float | None = field(default=None)

    def to_answer(self) -> JobAnswer:
        done = [item for item in self.items if item.status in ("done", "failed")]
        started = any(item.status != "queued" for item in self.items)
        status = "done" if self.ended_at else "running" if started else "queued"
        return JobAnswer(
            job_id=self.job_id,
            status="cancelled" if self.is_cancelled else status,
            n_clips=len(self.items),
            n_done=len(done),
            n_frames=sum(item.n_frames for item in self.items),
            n_frames_done=sum(item.frames_done for item in self.items),
            clips=[
                JobClip(clip_token=item.clip_token, status=item.status, answer=item.answer, error=item.error)
                for item in self.items
            ],
        )


class JobDesk:
    """All jobs of this process, in the order in which they came."""

    def __init__(self, limits: ServeConfig) -> None:
        self._limits = limits
        self._jobs: dict[str, Job] = {}
        self._by_key: dict[tuple[str, str], str] = {}
        self._worker: asyncio.Task[None] | None = None

    def submit(self, caller: Grant, items: Sequence[JobItem], n_bytes: int, digest: str, key: str | None = None) -> Job:
        """Takes the job on; with an idempotency key that was seen before, returns the job that it made.

        Raises:
            ApiError: 429 where too many jobs wait, 409 where the key came with another request.
        """
        self._forget()
        known = self._jobs.get(self._by_key.get((caller.name, key or ""), ""))
        if key and known:
            if known.digest != digest:
                raise ApiError(409, "This idempotency key was used for another request.", "Idempotency-Key")
            return known
        open_jobs = [job for job in self._jobs.values() if job.ended_at is None]
        if len(open_jobs) >= self._limits.max_jobs:
            raise busy(f"{len(open_jobs)} jobs are waiting; come again later.", 30)
        if sum(job.n_bytes for job in open_jobs) + n_bytes > self._limits.max_job_bytes:
            raise busy("The jobs that wait fill the memory set aside for them; come again later.", 30)
        job = Job(secrets.token_urlsafe(16), caller.name, list(items), n_bytes, digest)
        self._jobs[job.job_id] = job
        if key:
            self._by_key[caller.name, key] = job.job_id
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._run())
        return job

    def find(self, caller: Grant, job_id: str) -> Job:
        """The caller's job; anybody's for an admin. 404 is all that others learn."""
        self._forget()
        job = self._jobs.get(job_id)
        if job is None or not caller.may_see(job.owner):
            raise ApiError(404, "There is no such job; results are kept for a limited time.", "job_id")
        return job

    def cancel(self, job: Job) -> None:
        """Clips not yet done never will be; one under way stops after its frame. An ended job stays as it is."""
        if job.ended_at is not None:
            return
        job.is_cancelled, job.ended_at = True, time.monotonic()
        for item in job.items:
            if item.status in ("queued", "running"):
                item.finish("cancelled")

    def all(self) -> list[Job]:
        self._forget()
        return list(self._jobs.values())

    def _forget(self) -> None:
        oldest = time.monotonic() - self._limits.job_keep_s
        for job in [job for job in self._jobs.values() if job.ended_at is not None and job.ended_at < oldest]:
            del self._jobs[job.job_id]
        self._by_key = {key: job_id for key, job_id in self._by_key.items() if job_id in self._jobs}

    async def _run(self) -> None:
        """Until no clip is queued."""
        while True:
            waiting = ((job, item) for job in self._jobs.values() for item in job.items if item.status == "queued")
            job, item = next(waiting, (None, None))
            if job is None or item is None:
                return
            item.status = "running"
            await _score(item)
            if all(item.work is None for item in job.items) and job.ended_at is None:
                job.ended_at = time.monotonic()


async def _score(item: JobItem) -> None:
    def progress(frames_done: int) -> None:
        if item.status == "cancelled":
            raise Cancelled
        item.frames_done = frames_done

    assert item.work is not None
    try:
        answer = await _patiently(item.work, progress)
        progress(item.n_frames)
        item.answer = answer
        item.finish("done")
    except Cancelled:
        pass
    except Exception as error:
        fault = error if isinstance(error, ApiError) else ApiError(500, FAULT)
        if item.status == "running":
            item.error = error_answer(fault, trace=fault is not error)
            item.finish("failed")


async def _patiently(work: Work, progress: Callable[[int], None]) -> ScoreAnswer:
    """A job waits for a model that is busy or restarts; single clips, whose clients wait, go before it."""
    for _ in range(BUSY_TRIES):
        try:
            return await work(progress)
        except ApiError as error:
            if error.status not in (429, 503):
                raise
            progress(0)
        await asyncio.sleep(BUSY_RETRY_S)
    raise ApiError(503, "The model stayed busy or away; send the clip again.")
