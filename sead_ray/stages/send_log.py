"""Scenes of a nuScenes folder to a running scoring service, one after the other; no Ray in here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sead_ray.client import ScoringClient
from sead_ray.errors import InputError
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.records import Clip
from sead_ray.stages.inspect import Scene
from sead_ray.stages.progress import Progress

Via = Literal["score", "job", "session"]


@dataclass(frozen=True)
class Sent:
    """What became of the scenes."""

    n_sent: int
    n_failed: int
    n_known: int


def send_scenes(client: ScoringClient, folder: NuScenesFolder, scenes: Sequence[Scene], via: Via, output: str) -> Sent:
    """Sends the scenes that `output` does not hold, and appends an answer a line, as it comes.

    Raises:
        InputError: the service refuses a scene, in its own words; `output` is none of ours.
        httpx.HTTPError: it cannot be reached.
    """
    known = sent_tokens(output)
    _cut_unfinished(output)
    left = [scene for scene in scenes if scene[0] not in known]
    n_failed = 0
    with Progress("send scenes", len(scenes), "scene", done=len(scenes) - len(left)) as progress:
        for token, role in left:
            answer = send_clip(client, folder.clip(token, role), folder.data.root, via)
            n_failed += answer["status"] != "ok"
            with open(output, "a", encoding="utf-8") as file:
                file.write(json.dumps(answer, allow_nan=False) + "\n")
            progress.advance()
    return Sent(len(left), n_failed, len(scenes) - len(left))


def send_clip(client: ScoringClient, clip: Clip, data_root: str, via: Via) -> dict[str, Any]:
    """One clip's answer as plain values, the same whichever way it goes."""
    if via == "score":
        return client.score(clip, data_root).model_dump(mode="json")
    if via == "job":
        (done,) = client.wait(client.submit([clip], data_root).job_id).clips
        if done.answer is None:
            raise InputError(f"Clip {clip.clip_token}: {done.error.detail if done.error else 'its job was cancelled'}")
        return done.answer.model_dump(mode="json")
    with client.session(clip.clip_token) as session:
        answers = [session.add(clip, index, data_root) for index in range(len(clip.frames))]
    return answers[-1].model_dump(mode="json", exclude={"session_id", "n_frames_left", "expires_in_s"})


def sent_tokens(output: str) -> set[str]:
    """Clips that `output` holds; a last line without its end, as of a killed command, does not count."""
    try:
        return {json.loads(line)["clip_token"] for line in _whole_lines(output).splitlines()}
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{output} is not a file of this command: a line is not an answer in JSON.") from None


def _whole_lines(output: str) -> bytes:
    path = Path(output)
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1]


def _cut_unfinished(output: str) -> None:
    whole = _whole_lines(output)
    if Path(output).exists() and len(whole) < Path(output).stat().st_size:
        Path(output).write_bytes(whole)
