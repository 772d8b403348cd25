"""Settings of the scoring service."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sead_ray.config.schema import Schema


class IntakeConfig(Schema):
    """Scored clips that join the pool of `run_dir`."""

    enabled: bool = False
    """Scored clips that name their log join the pool of the next round."""
    prefix: str | None = None
    """Folder of their images, at or below the run's data root; None: `intake` there."""


class ServeConfig(Schema):
    """The scoring service."""

    run_dir: str | None = None
    """Run folder whose promoted model is served; before any promotion (jobs.promote_model) the newest published one."""
    model_dir: str | None = None
    """A model folder (model.json, weights.safetensors) to serve instead."""
    follow: Literal["promoted", "latest", "off"] = "promoted"
    """What a running service switches to. promoted: what jobs.promote_model promotes; latest: also each new round's
    model once it is published, until it is rolled back; off: nothing."""
    follow_s: float = Field(default=2.0, gt=0)
    """How often it looks."""
    compare: list[str] = []
    """Folders of further models, asked for by `?model=<version>`."""
    budget: float = Field(default=0.1, gt=0, le=1)
    """b: share of clips that the decision labels, by the model's calibration set."""
    intake: IntakeConfig = IntakeConfig()
    tokens_file: str | None = None
    """Hashes of bearer tokens, made by jobs.make_token; read again every second. SEAD_SERVE_TOKENS may hold more."""
    auth: Literal["auto", "required"] = "auto"
    """auto: tokens are required unless the service is bound to loopback and none are configured. required: always, as
    behind a reverse proxy on the same machine."""
    storage_prefixes: list[str] = []
    """Folders (local, s3://, gs://) below which a request in JSON may name images; none: uploads only."""
    max_body_bytes: int = Field(default=256 * 2**20, ge=1)
    """Of a request."""
    max_frames: int = Field(default=80, ge=2)
    """Of one clip of `POST /v1/score`, and of a session."""
    max_image_bytes: int = Field(default=16 * 2**20, ge=1)
    """Of a JPEG file."""
    max_image_pixels: int = Field(default=4_000_000, ge=1)
    """Width times height of an image, before it is decoded."""
    max_image_side: int = Field(default=8192, ge=1)
    """Width or height of an image, before it is decoded."""
    max_decoded_bytes: int = Field(default=2**30, ge=1)
    """Of one clip's images after the resize."""
    body_timeout_s: float = Field(default=120.0, gt=0)
    """A body that takes longer to arrive is refused with 408."""
    max_job_frames: int = Field(default=2000, ge=2)
    """Of all clips of a job together; clips over `max_decoded_bytes` are scored frame by frame."""
    max_jobs: int = Field(default=32, ge=1)
    """Unfinished jobs at a time; further ones get 429."""
    max_job_bytes: int = Field(default=2 * 2**30, ge=1)
    """Uploads of unfinished jobs in memory."""
    job_keep_s: float = Field(default=3600.0, gt=0)
    """Results of a job can be fetched for so long after its end."""
    max_sessions: int = Field(default=64, ge=1)
    """Open sessions at a time; each keeps one BEV (10 MB for VAD-Tiny). Further ones get 429."""
    session_idle_s: float = Field(default=300.0, gt=0)
    """A session without a new frame for so long is forgotten."""
    max_requests: int | None = Field(default=None, ge=1)
    """At work at a time; further ones get 429 at once. None: two batches a replica, what keeps it busy."""
    max_uploads: int = Field(default=32, ge=1)
    """Bodies that arrive at a time; further ones get 429."""
    request_timeout_s: float = Field(default=120.0, gt=0)
    """From the end of the upload to the answer; then 504, and the work is dropped."""
    max_batch_clips: int | None = Field(default=None, ge=1)
    """Clips of several requests that go through the model together. None: 8 on a GPU, 2 on a CPU."""
    batch_wait_s: float = Field(default=0.0, ge=0)
    """How long a clip that finds the model idle waits for others; while it is busy they gather by themselves."""
    replicas: int = Field(default=1, ge=0)
    """Of the model; where `max_replicas` is given the least number, and 0 lets it scale to none."""
    max_replicas: int | None = Field(default=None, ge=1)
    """Replicas are added while requests wait, up to so many; None: always `replicas`."""
    downscale_delay_s: float = Field(default=600.0, ge=0)
    """How long a replica must be idle before it is taken away."""
    cpus_per_replica: float = Field(default=0.5, gt=0)
    """Ray's share of a core for each replica of the model."""
    gpus_per_replica: float | None = None
    """None: one GPU a replica where there is one, else none."""
    ingress_cpus: float = Field(default=0.5, gt=0)
    """CPUs of the process that validates and decodes."""
    decode_threads: int | None = Field(default=None, ge=1)
    """That decode a clip's images; None: one for each core of the machine, 8 at most."""

    @model_validator(mode="after")
    def _replicas_fit(self) -> ServeConfig:
        if self.replicas == 0 and self.max_replicas is None:
            raise ValueError("replicas: 0 needs max_replicas: how many there may be once requests come")
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas is {self.max_replicas}, less than the {self.replicas} of replicas")
        return self
