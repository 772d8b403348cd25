"""`/v1/jobs`: long clips and batches; send, poll, cancel."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from sead_ray.config import ServeConfig
from sead_ray.tokens import Grant
from sead_ray.wire import JobAnswer, JobList
from serve.auth import Authority, requires
from serve.docs import body_errors, clip_body, errors
from serve.guard import GuardedRoute
from serve.idempotency import IdempotencyKey, check_key
from serve.intake_door import IntakeDoor, IntakeWanted
from serve.job_desk import JobDesk, JobItem
from serve.job_work import clip_work
from serve.models import ModelName, Models
from serve.sources import read_batch

JobId = Annotated[str, Path(max_length=64)]


def job_router(models: Models, limits: ServeConfig, authority: Authority, door: IntakeDoor | None) -> APIRouter:
    router = APIRouter(route_class=GuardedRoute, tags=["jobs"])
    desk, sender, admin = JobDesk(limits), requires(authority, "score"), requires(authority, "admin")

    @router.post(
        "/v1/jobs",
        status_code=202,
        response_model=JobAnswer,
        responses=body_errors(404, 409),
        openapi_extra=clip_body("StoredClipsIn", several=True),
    )
    async def submit(
        request: Request,
        response: Response,
        caller: Grant = sender,
        model: ModelName = None,
        intake: IntakeWanted = True,
        idempotency_key: IdempotencyKey = None,
    ) -> JobAnswer:
        """Takes clips on, all for one model; their scores are fetched from the job.

        Several `clip` parts, or `clips` in JSON. Where the service has an intake, each clip joins the pool once it is
        scored; a job with one whose log belongs to val is refused.
        """
        check_key(idempotency_key)
        served = await models.pick(model)
        batch = await read_batch(request, served.info.image, limits)
        keep = door if intake else None
        if keep is not None:
            for source in batch.clips:
                await keep.check(source.clip_in, source.root)
        items = []
        for index, source in enumerate(batch.clips):
            key = None if idempotency_key is None else f"{idempotency_key}\n{index}"
            take = None if keep is None else partial(keep.take, caller=caller, key=key)
            work = clip_work(source.load, served, limits, take)
            items.append(JobItem(source.clip_in.clip_token or "upload", len(source.clip_in.frames), work))
        job = desk.submit(caller, items, batch.n_bytes, batch.digest, idempotency_key)
        response.headers["Location"] = f"/v1/jobs/{job.job_id}"
        return job.to_answer()

    @router.get("/v1/jobs", response_model=JobList, responses=errors())
    async def jobs(caller: Grant = admin) -> JobList:
        """Everybody's jobs; needs an admin's token."""
        return JobList(jobs=[job.to_answer() for job in desk.all()])

    @router.get("/v1/jobs/{job_id}", response_model=JobAnswer, responses=errors(404, 422))
    async def job(job_id: JobId, caller: Grant = sender) -> JobAnswer:
        """How far the job is, and the answers that it has so far."""
        return desk.find(caller, job_id).to_answer()

    @router.delete("/v1/jobs/{job_id}", response_model=JobAnswer, responses=errors(404, 422))
    async def cancel(job_id: JobId, caller: Grant = sender) -> JobAnswer:
        """Cancels what is not done yet; answers that are there stay."""
        found = desk.find(caller, job_id)
        desk.cancel(found)
        return found.to_answer()

    return router
