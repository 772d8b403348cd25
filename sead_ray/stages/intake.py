"""Clips that a service takes into the pool of a run: images below the data root, one row a clip in the run folder.

A clip is known by its content: sent again, under whatever name, it is not stored twice. Its row is written last, so a
broken-off intake leaves nothing that a round could take up. No Ray in here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.commands import behaviour_of
from sead_ray.nuscenes.conditions import is_night, is_rainy
from sead_ray.nuscenes.drive import clip_dynamics, driven_frames
from sead_ray.records import Clip, Frame
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.storage import MANIFEST, Store

WRITERS = 8  # images at a time: in a bucket each takes a round trip

Outcome = Literal["stored", "known"]


class Refused(Exception):
    """A clip that the pool may not have: the field that says so, a sentence, and whether it is another's name."""

    def __init__(self, field: str, sentence: str, is_conflict: bool = False) -> None:
        super().__init__(sentence)
        self.field, self.sentence, self.is_conflict = field, sentence, is_conflict


@dataclass(frozen=True)
class Roles:
    """What the run holds: the role of each clip, and the logs of val."""

    of_clip: Mapping[str, str]
    val_logs: frozenset[str]


class Intake:
    """The pool's door."""

    def __init__(self, run: Store, prefix: str | None = None) -> None:
        """
        Args:
            prefix: folder of the images, at or below the run's data root; None: `intake` there.

        Raises:
            InputError: the run has no clips yet, or the prefix lies elsewhere.
        """
        if not run.exists(layout.CONFIG) or not run.is_published(layout.CLIPS):
            raise InputError(f"{run.root} holds no run with prepared clips, which intake needs: jobs.run_rounds first.")
        self.run = run
        self._config = RunConfig.model_validate(run.read_json(layout.CONFIG))
        self._data = Store(self._config.data.root)
        root = Store(prefix).root if prefix else self._data.path("intake")
        if root != self._data.root and not root.startswith(self._data.root + "/"):
            raise InputError(f"intake.prefix {root} must lie below the run's data root {self._data.root}.")
        self._folder = root[len(self._data.root) :].strip("/")
        self._stamp = ""
        self._roles = Roles({}, frozenset())

    def check(self, clip_token: str | None, log_token: str) -> None:
        """Raises `Refused` where the clip or its log belongs to val."""
        roles = self._current_roles()
        if log_token in roles.val_logs:
            raise Refused("log_token", "This log belongs to val, on which the models are judged; send it elsewhere.")
        if clip_token and roles.of_clip.get(clip_token) == "val":
            raise Refused("clip_token", "This clip belongs to val, on which the models are judged.")

    def take(
        self,
        clip: Clip,
        images: Mapping[str, bytes],
        digest: str,
        named: bool,
        key: str | None = None,
        score: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """Stores the clip, unless it is known.

        Args:
            clip: its cameras' keys are names in `images`.
            digest: of the clip's content, in hex. named: whether the sender gave the clip its token.
            key: an idempotency key, with its sender.
            score: what the service answers, for people to look at; selection scores the clip anew.

        Raises:
            Refused: the token or the key belongs to another clip.
        """
        token = clip.clip_token if named else f"intake-{digest}"
        if self._current_roles().of_clip.get(token) == "pool" and not self._holds(digest):
            return "known"  # the data set's own
        claims = [(f"tokens/{_short(token)}", "clip_token", "This clip_token names another clip of the pool.")]
        if key is not None:
            claims.append((f"keys/{_short(key)}", "Idempotency-Key", "This idempotency key came with another clip."))
        for name, field, sentence in claims:
            self._claim(f"{layout.INTAKE}/{name}.json", digest, field, sentence)
        if self._holds(digest):
            return "known"
        record = self._record(clip, token, digest)
        with ThreadPoolExecutor(WRITERS) as pool:
            pairs = [
                (new.key, images[old.key])
                for frame, sent in zip(record.frames, clip.frames)
                for new, old in zip(frame.cameras, sent.cameras)
            ]
            list(pool.map(lambda pair: self._data.write_bytes(*pair), pairs))
        if score is not None:
            at = datetime.now(UTC).isoformat(timespec="seconds")
            self.run.write_json(layout.intake_score(digest), {"at": at, "clip_token": token, "answer": score})
        self.run.write_table(layout.intake_clip(digest), [record.to_row()], CLIP_SCHEMA)
        return "stored"

    def _claim(self, path: str, digest: str, field: str, sentence: str) -> None:
        if self.run.exists(path):
            if self.run.read_json(path)["digest"] != digest:
                raise Refused(field, sentence, is_conflict=True)
            return
        self.run.write_json(path, {"digest": digest})

    def _holds(self, digest: str) -> bool:
        return self.run.exists(layout.intake_clip(digest))

    def _record(self, clip: Clip, token: str, digest: str) -> Clip:
        """The clip as preparation makes one: what free data say of it. Of CAN only the frames' values are there, too
        few for Acc, so that it is ranked among the clips without."""
        data = self._config.data
        frames = driven_frames(clip.frames, None, None, clip.location)
        acc, yaw = clip_dynamics(frames, None)
        return replace(
            clip,
            clip_token=token,
            name=token,
            is_night=is_night(clip.description),
            is_rainy=is_rainy(clip.description),
            behaviour=behaviour_of([frame.command for frame in frames], data.overtake_frames),
            acc_std_mps2=acc,
            yaw_sum_rad=yaw,
            dynamics_source="pose",
            frames=tuple(self._frame(frame, index, token, digest) for index, frame in enumerate(frames)),
        )

    def _frame(self, frame: Frame, index: int, token: str, digest: str) -> Frame:
        folder = f"{self._folder}/{digest}".strip("/")
        cameras = tuple(replace(camera, key=f"{folder}/{index:03d}_{camera.name}.jpg") for camera in frame.cameras)
        return replace(frame, token=f"{token}-{index:03d}", cameras=cameras)

    def _current_roles(self) -> Roles:
        """Read again where the run's clips have changed: a round takes up what came in."""
        (stamp,) = self.run.stamps([f"{layout.CLIPS}/{MANIFEST}"]).values()
        if stamp != self._stamp:
            columns = ["clip_token", "log_token", "split"]
            rows = list(self.run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA, columns=columns))
            logs = frozenset(row["log_token"] for row in rows if row["split"] == "val" and row["log_token"])
            self._roles, self._stamp = Roles({row["clip_token"]: row["split"] for row in rows}, logs), stamp
        return self._roles


def _short(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
