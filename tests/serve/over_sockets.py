"""What tests of the service behind Serve's proxy do besides asking: sockets of their own, a look at its processes."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import ray

from sead_ray.client import clip_part, clip_request
from sead_ray.records import Clip
from tests.serve.hostile_uploads import Upload


def longer(clip: Clip, n_frames: int) -> Clip:
    """Its frames again and again, while time goes on."""
    frames = []
    for index in range(n_frames):
        frame, later_us = clip.frames[index % len(clip.frames)], 500_000 * index
        stamp = clip.frames[0].timestamp_us + later_us
        cameras = tuple(replace(camera, timestamp_us=stamp) for camera in frame.cameras)
        frames.append(replace(frame, timestamp_us=stamp, cameras=cameras))
    return replace(clip, frames=tuple(frames))


def sent(service: str, token: str, clip: Clip, data_root: str) -> socket.socket:
    """A clip on its way to be scored, whose answer nobody has read yet."""
    body, files = clip_request(clip, data_root)
    headers = {"Authorization": f"Bearer {token}"}
    request = httpx.Request("POST", f"{service}/v1/score", headers=headers, files=[clip_part(body), *files])
    data = request.read()
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    connection = socket.create_connection((request.url.host, request.url.port or 80), timeout=60)
    connection.sendall(f"POST /v1/score HTTP/1.1\r\n{head}\r\n".encode() + data)
    return connection


def slow_body(service: str, ask: httpx.Client) -> socket.socket:
    """A request whose body never ends."""
    url = httpx.URL(service)
    head = f"Host: {url.host}\r\nAuthorization: {ask.headers['authorization']}\r\nContent-Length: 1000\r\n"
    kind = "Content-Type: multipart/form-data; boundary=a\r\n"
    connection = socket.create_connection((url.host, url.port or 80), timeout=60)
    connection.sendall(f"POST /v1/score HTTP/1.1\r\n{head}{kind}\r\n--a\r\n".encode())
    return connection


def status_of(connection: socket.socket) -> int:
    with connection:
        return int(connection.recv(4096).split()[1])


def refused(ask: httpx.Client, upload: Upload) -> None:
    response = ask.post(upload.route, **upload.request)
    assert response.status_code in upload.statuses, (upload.name, upload.route, response.text[:500])
    assert "Traceback" not in response.text


def replica(deployment: str) -> Any:
    """The one replica of the deployment, as an actor."""
    names = [item["name"] for item in ray.util.list_named_actors(all_namespaces=True)]
    (name,) = [name for name in names if f"#{deployment}#" in name]
    return ray.get_actor(name, namespace="serve")


def resident_mib() -> dict[str, float]:
    """Of each replica's process, without what it sees of the shared object store."""

    def own(_: Any) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        (kib,) = [line.split()[1] for line in lines if line.startswith("RssAnon:")]
        return int(kib) / 1024

    return {name: ray.get(replica(name).__ray_call__.remote(own)) for name in ("Ingress", "Model")}
