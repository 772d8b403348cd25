"""What the scoring service answers, for the service and its client alike."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sead_ray.config import ImageConfig, ScoreConfig


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, protected_namespaces=())


class KeyFrames(Answer):
    """The longest run of key frames; length 0 where there is none."""

    start: int
    length: int


class Seconds(Answer):
    """Where the time of a request went, as the service sees it."""

    upload: float
    """Reading the body; from storage, fetching the images too."""
    validation: float
    decode: float
    """Each file is walked to its end first; and each frame's way into the object store."""
    queue: float
    """Waiting for the model, and the way there and back."""
    model: float
    """For all clips that went through it together; most of the shift is computed meanwhile."""
    shift: float
    """What was left of it, and the rest of the score."""
    answer: float


class ClipAnswer(Answer):
    """How much a clip is worth, and why."""

    reason: str
    """Why there is no score; empty where there is one."""
    clip_token: str
    model_version: str
    """Scores of different models are never compared."""
    score: float | None
    """What selection ranks by: the sum of the shifts (SEAD Eq. 3), or their mean where the model's run says so."""
    rank_by: Literal["sum", "mean"]
    shift_agents: list[float]
    shift_map: list[float]
    min_distance_m: list[float | None]
    """Nearest detected road participant of each frame; null where there is none."""
    is_key: list[bool]
    key_frames: KeyFrames
    percentile: float | None
    """How many of a hundred clips of the calibration set score no higher; null until this very model has scored it."""
    decision: Literal["label", "skip"] | None
    """label: at or above the (1 - budget) quantile of the calibration set; null without one."""
    budget: float
    compared_by: Literal["sum", "mean"] | None
    """mean: per transition, since the clips compared differ in length, or the model ranks by it."""
    n_frames: int
    can_bus: Literal["given", "zeros"]
    """zeros: the request has no CAN values, and the model saw zeros as in training on such scenes."""
    seconds: Seconds


class ScoreAnswer(ClipAnswer):
    status: Literal["ok", "failed"]
    intake: Literal["stored", "known", "not_scored", "no_log"] | None = None
    """Whether the clip joins the pool: stored; known: it was there; not_scored: it has no score; no_log: it does not
    say which log it is from. null: there is no intake."""


class SessionAnswer(ClipAnswer):
    """The score of the frames so far."""

    session_id: str
    status: Literal["waiting", "ok", "failed"]
    """waiting: a feature shift needs two frames."""
    n_frames_left: int
    """That the session still takes."""
    expires_in_s: float
    """Unless another frame comes before."""


class SessionList(Answer):
    sessions: list[SessionAnswer]


class JobClip(Answer):
    """One clip of a job."""

    clip_token: str
    status: Literal["queued", "running", "done", "failed", "cancelled"]
    answer: ScoreAnswer | None = None
    error: ErrorAnswer | None = None


class JobAnswer(Answer):
    job_id: str
    status: Literal["queued", "running", "done", "cancelled"]
    """done: every clip has an answer or an error of its own."""
    n_clips: int
    n_done: int
    """Clips with an answer or an error."""
    n_frames: int
    n_frames_done: int
    clips: list[JobClip]


class JobList(Answer):
    jobs: list[JobAnswer]


class ModelInfo(Answer):
    model_version: str
    preset: str
    round: int | None
    n_parameters: int
    image: ImageConfig
    score: ScoreConfig
    n_calibration_clips: int = 0
    """0: percentiles and decisions of this model are null."""


class ModelList(Answer):
    models: list[ModelInfo]
    """The one that scores stands first."""


class Health(Answer):
    status: Literal["ok"]


class ErrorAnswer(Answer):
    error_id: str = Field(min_length=12, max_length=12)
    """Stands in the service's log too."""
    detail: str
    field: str | None
    """Path of the culprit in the `clip` part, such as `frames.3.cameras.CAM_BACK.image`, or the part's name."""


JobClip.model_rebuild()
