"""Uploads that no honest client sends: values, texts, keys and bodies; and all of them, one after the other."""

from __future__ import annotations

import copy
import gzip
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sead_ray.clip_request import clip_part, clip_request, stored_clip
from sead_ray.records import Clip
from tests.serve.hostile_images import IMAGES

FIELD = "frames.1.cameras.CAM_BACK"
DAMAGED = 220


def at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        node: Any = body
        for key in parents:
            node = node[int(key)] if isinstance(node, list) else node[key]
        node[int(last) if isinstance(node, list) else last] = value

    return change


VALUES: list[tuple[str, Any]] = [
    *(
        (f"frames.0.global_from_ego.translation_m.{axis}", value)
        for axis, value in enumerate([math.nan, math.inf, 1e9])
    ),
    *(("frames.0.global_from_ego.rotation_wxyz", value) for value in ([0, 0, 0, 0], [1, 1, 1, 1], [2, 0, 0, 0])),
    ("frames.0.ego_from_lidar.translation_m.0", 1e4),
    (f"{FIELD}.ego_from_camera.translation_m.2", -1e3),
    ("frames.0.can.velocity_mps.0", -math.inf),
    ("frames.1.timestamp_us", 10**400),
    ("frames.1.timestamp_us", -(2**63)),
    ("frames.1.timestamp_us", True),
    ("frames.1.timestamp_us", "1532402927000000"),
    ("frames.1.timestamp_us", 0),
    (f"{FIELD}.timestamp_us", 0),
    *(
        (f"{FIELD}.intrinsics", value)
        for value in (
            [[0, 0, 80], [0, 100, 45], [0, 0, 1]],
            [[100, 0, 80], [0, -100, 45], [0, 0, 1]],
            [[100, 0, 80], [5, 100, 45], [0, 0, 1]],
            [[100, 500, 80], [0, 100, 45], [0, 0, 1]],
            [[100, 0, 80], [0, 100, 45], [0, 0, 2]],
            [[100, 0, 80], [0, 1e5, 45], [0, 0, 1]],
            [[0.1, 0, 80], [0, 0.1, 45], [0, 0, 1]],
            [[1e5, 0, 80], [0, 1e5, 45], [0, 0, 1]],
            [[100, 0, 4000], [0, 100, 45], [0, 0, 1]],
            [[100, 0, 80], [0, 100, -500], [0, 0, 1]],
        )
    ),
    (f"{FIELD}.width", 10**9),
    (f"{FIELD}.image", ["a"]),
    (f"{FIELD}.image", "x" * 5000),
    ("frames.1.cameras.CAM_LEFT", {}),
    ("frames.1.label", "car"),
    ("clip_token", "x" * 201),
    ("__proto__", {"admin": True}),
    ("frames", {}),
]

TEXTS = {
    "deep list": "[" * 100_000,
    "deep object": '{"frames":' * 50_000,
    "deep and closed": "[" * 5000 + "]" * 5000,
    "deep field": '{"frames": ' + "[" * 5000 + "]" * 5000 + "}",
    "nan": "NaN",
    "nan field": '{"frames": NaN}',
    "huge integer": '{"frames": ' + "9" * 100_000 + "}",
    "huge exponent": '{"frames": 1e999999999}',
    "nul": "\x00",
    "byte order mark": "\ufeff{}",
    "lone surrogate": '{"clip_token": "\\ud800", "frames": []}',
    "not utf-8": b"\xff\xfe{}",
    "two values": "{}{}",
    "comment": "/* */{}",
    "xml": '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
    "long name": json.dumps({"x" * 10_000: 1, "frames": []}),
}

KEYS = (
    *(
        "../secret.jpg",
        "samples/../../secret.jpg",
        "/etc/passwd",
        "samples//a.jpg",
        "./a.jpg",
        "samples/./a.jpg",
        "~/a",
    ),
    *("http://169.254.169.254/latest", "https://evil.example/a.jpg", "s3://other/a.jpg", "file:///etc/passwd", ".env"),
    *(
        "a\x00.jpg",
        "samples\\a.jpg",
        "%2e%2e/a.jpg",
        "a.arrow#0",
        "a?x=1",
        "a b.jpg",
        "\uff41.jpg",
        "a\n.jpg",
        "a.jpg\n",
    ),
    *("samples/", "-rf", "a/.b/c.jpg"),
)


@dataclass(frozen=True)
class Upload:
    """A POST and the statuses that it may get."""

    name: str
    route: str
    request: dict[str, Any]
    statuses: tuple[int, ...] = (422,)


def all_uploads(clip: Clip, data_root: str, jpeg: bytes) -> Iterator[Upload]:
    """Some 500, none of which ends: slow ones need a socket. `jpeg`: a whole one of the clip's image size."""
    body, files = clip_request(clip, data_root)
    for route in ("/v1/score", "/v1/jobs"):
        for name, make in IMAGES.items():
            if (name, route) != ("no tables", "/v1/jobs"):  # that one is known only once it is decoded
                yield _with_image(name, route, body, files, make(jpeg))
        for path, value in VALUES:
            changed = copy.deepcopy(body)
            at(path, value)(changed)
            text = json.dumps(changed).encode()
            yield Upload(f"{path} {value}"[:60], route, {"files": [_json_part(text), *files]})
        for key in KEYS:
            yield _stored(f"key {key!r}", route, clip, data_root, key)
        for suffix in ("/", "/..", "/samples", "x"):
            yield _stored(f"folder {suffix}", route, clip, data_root + suffix, None)
        for name in ("../../etc/passwd", "..\\x", "a\x00b", "http://169.254.169.254/", "%2e%2e/"):
            renamed = copy.deepcopy(body)
            renamed["frames"][1]["cameras"]["CAM_BACK"]["image"] = name
            yield Upload(f"file {name!r}", route, {"files": [clip_part(renamed), *files]})
    for name, text in TEXTS.items():
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        yield Upload(f"text {name}", "/v1/score", {"files": [_json_part(data), *files]})
        for route in ("/v1/score", "/v1/jobs", "/v1/sessions"):
            yield Upload(f"json {name}", route, {"content": data, "headers": {"content-type": "application/json"}})
    yield from _bodies()
    yield from _damaged(body, files, jpeg)


def _bodies() -> Iterator[Upload]:
    bomb = gzip.compress(bytes(10**7))
    for route in ("/v1/score", "/v1/jobs", "/v1/sessions"):
        for encoding in ("gzip", "br", "deflate"):
            headers = {"content-type": "application/json", "content-encoding": encoding}
            yield Upload(f"{encoding} bomb", route, {"content": bomb, "headers": headers}, (415,))
        yield Upload("larger than any", route, {"content": bytes(3 * 2**20)}, (413, 422))
    for boundary in ("", "a" * 3000, '"'):
        headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
        yield Upload(f"boundary {boundary[:5]}", "/v1/score", {"content": b"--a--", "headers": headers})
    endless = b"--a\r\n" + b"X-Y: z\r\n" * 50_000
    headers = {"content-type": "multipart/form-data; boundary=a"}
    yield Upload("headers without end", "/v1/score", {"content": endless, "headers": headers})


def _damaged(body: dict[str, Any], files: list[Any], jpeg: bytes) -> Iterator[Upload]:
    """Bytes changed at random: what still decodes is scored."""
    for seed in range(DAMAGED):
        rng = np.random.default_rng(seed)
        data = np.frombuffer(jpeg, np.uint8).copy()
        positions = rng.integers(0, len(data) if seed % 2 else 700, rng.integers(1, 20))
        data[positions] = rng.integers(0, 256, len(positions))
        upload = _with_image(f"damage {seed}", "/v1/score", body, files, data.tobytes())
        yield Upload(upload.name, upload.route, upload.request, (200, 422))


def _with_image(name: str, route: str, body: dict[str, Any], files: list[Any], data: bytes) -> Upload:
    mine = body["frames"][1]["cameras"]["CAM_BACK"]["image"]
    swapped = [(part, (file[0], data if file[0] == mine else file[1], file[2])) for part, file in files]
    return Upload(f"image {name}", route, {"files": [clip_part(body), *swapped]})


def _stored(name: str, route: str, clip: Clip, storage: str, key: str | None) -> Upload:
    body = stored_clip(clip, storage)
    if key is not None:
        body["frames"][1]["cameras"]["CAM_BACK"]["image"] = key
    return Upload(name, route, {"json": body if route == "/v1/score" else {"clips": [body]}})


def _json_part(text: bytes) -> Any:
    return ("clip", (None, text, "application/json"))
