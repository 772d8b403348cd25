"""Hostile uploads: each gets the right 4xx with the same error body, and nothing large is ever decoded."""

from __future__ import annotations

import copy
import gzip
import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from sead_ray.clip_request import clip_part, clip_request, frame_request, stored_clip
from sead_ray.config import ServeConfig
from sead_ray.records import Clip
from serve.api import build_api
from serve.errors import ApiError
from serve.jpeg_header import read_header
from serve.models import OneModel
from serve.scorer import LocalScorer
from serve.storage_keys import check_key
from tests.serve.hostile_images import IMAGES, saved, with_size
from tests.serve.hostile_uploads import FIELD, KEYS, TEXTS, VALUES, at

Parts = tuple[dict[str, Any], list[Any]]


@pytest.fixture(scope="module")
def limits(data_root: str) -> ServeConfig:
    return ServeConfig(
        max_body_bytes=2 * 2**20,
        max_frames=6,
        max_job_frames=20,
        max_image_bytes=100_000,
        max_image_pixels=200_000,
        body_timeout_s=0.3,
        storage_prefixes=[data_root],
    )


@pytest.fixture(scope="module")
def client(model_dir: str, limits: ServeConfig) -> Iterator[TestClient]:
    with TestClient(
        build_api(OneModel(LocalScorer(model_dir, "cpu")), limits), raise_server_exceptions=False
    ) as client:
        yield client


@pytest.fixture
def parts(clip: Clip, data_root: str) -> Parts:
    body, files = clip_request(clip, data_root)
    return copy.deepcopy(body), files


@pytest.fixture(scope="module")
def whole(make_jpeg: Callable[..., bytes]) -> bytes:
    return make_jpeg(np.random.default_rng(1))


def refused(response: Any, status: int, field: str | None) -> str:
    assert response.status_code == status, response.text[:500]
    error = response.json()
    assert set(error) == {"error_id", "detail", "field"}
    assert error["field"] == field, error
    assert len(response.content) < 2000
    assert "Traceback" not in response.text
    return error["detail"]


def replaced(parts: Parts, data: bytes) -> list[Any]:
    name = parts[0]["frames"][1]["cameras"]["CAM_BACK"]["image"]
    return [(part, (file[0], data if file[0] == name else file[1], file[2])) for part, file in parts[1]]


class TestImages:
    @pytest.mark.parametrize("kind", IMAGES)
    def test_hostile_images_name_their_camera(self, client: TestClient, parts: Parts, whole: bytes, kind: str):
        for path in ("/v1/score", "/v1/jobs"):
            response = client.post(path, files=[clip_part(parts[0]), *replaced(parts, IMAGES[kind](whole))])
            if path == "/v1/jobs" and kind == "no tables":  # known only once it is decoded
                assert response.status_code == 202
                continue
            refused(response, 422, f"{FIELD}.image")

    @pytest.mark.parametrize("kind", IMAGES)
    def test_the_same_in_a_session(self, client: TestClient, clip: Clip, data_root: str, whole: bytes, kind: str):
        session = client.post("/v1/sessions").headers["location"]
        frame, files = frame_request(clip, 0, data_root)
        if kind != "other size":  # a first frame of another size is as good as any
            files[3] = ("images", (files[3][1][0], IMAGES[kind](whole), "image/jpeg"))
            name = clip.frames[0].cameras[3].name
            refused(
                client.post(f"{session}/frames", files=[clip_part(frame, "frame"), *files]),
                422,
                f"cameras.{name}.image",
            )
        client.delete(session)

    def test_too_many_bytes(self, client: TestClient, parts: Parts, whole: bytes):
        response = client.post("/v1/score", files=[clip_part(parts[0]), *replaced(parts, whole + bytes(100_000))])
        assert "100000 bytes" in refused(response, 422, "images")

    def test_nothing_is_decoded_for_a_bomb(self, client: TestClient, parts: Parts, whole: bytes):
        files = replaced(parts, with_size(whole, 65535, 65535))
        tracemalloc.start()
        try:
            refused(client.post("/v1/score", files=[clip_part(parts[0]), *files]), 422, f"{FIELD}.image")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 30 * 2**20

    @pytest.mark.parametrize(
        "options", [{}, {"progressive": True}, {"quality": 95, "subsampling": 0}, {"optimize": True}]
    )
    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_what_cameras_write_is_taken(self, options: dict[str, Any], mode: str):
        header = read_header(saved("JPEG", mode, **options) + b"\x00" * 100)
        assert (header.width, header.height) == (160, 90)

    @pytest.mark.parametrize("seed", range(300))
    def test_damage_is_never_a_fault_of_ours(self, whole: bytes, seed: int):
        rng = np.random.default_rng(seed)
        data = np.frombuffer(whole, np.uint8).copy()
        positions = rng.integers(0, len(data) if seed % 2 else 700, rng.integers(1, 20))
        data[positions] = rng.integers(0, 256, len(positions))
        cut = rng.integers(1, len(data) + 1) if seed % 3 == 0 else len(data)
        with suppress(ValueError):  # anything else would be a fault
            read_header(data.tobytes()[:cut])


class TestJson:
    @pytest.mark.parametrize(("path", "value"), VALUES, ids=lambda value: str(value)[:40])
    def test_values(self, client: TestClient, parts: Parts, path: str, value: Any):
        at(path, value)(parts[0])
        text = json.dumps(parts[0]).encode()
        for route in ("/v1/score", "/v1/jobs"):
            refused(client.post(route, files=[("clip", (None, text, "application/json")), *parts[1]]), 422, path)

    @pytest.mark.parametrize("kind", TEXTS)
    def test_texts(self, client: TestClient, parts: Parts, kind: str):
        text = TEXTS[kind]
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        response = client.post("/v1/score", files=[("clip", (None, data, "application/json")), *parts[1]])
        assert response.status_code == 422, response.text
        assert len(response.content) < 2000
        for route in ("/v1/score", "/v1/jobs", "/v1/sessions"):
            response = client.post(route, content=data, headers={"content-type": "application/json"})
            assert response.status_code == 422, (route, response.text)

    def test_more_frames_than_a_job_takes(self, client: TestClient, clip: Clip, data_root: str):
        body = {"clips": [stored_clip(clip, data_root)] * 6}
        assert "24 frames" in refused(client.post("/v1/jobs", json=body), 422, "frames")


class TestBodies:
    def test_compressed(self, client: TestClient):
        for encoding in ("gzip", "br", "deflate"):
            headers = {"content-type": "application/json", "content-encoding": encoding}
            refused(client.post("/v1/score", content=gzip.compress(bytes(10**7)), headers=headers), 415, "body")

    @pytest.mark.parametrize("length", ["99999999999", "9" * 5000])
    def test_declared_too_large(self, client: TestClient, length: str):
        headers = {"content-type": "application/json", "content-length": length}
        refused(client.post("/v1/jobs", content=b"{}", headers=headers), 413, "body")

    def test_larger_json_than_any_clip(self, client: TestClient):
        refused(client.post("/v1/sessions", content=bytes(3 * 2**20)), 413, "body")

    def test_part_headers_without_end(self, client: TestClient):
        data = b"--a\r\n" + b"X-Y: z\r\n" * 50_000
        response = client.post("/v1/score", content=data, headers={"content-type": "multipart/form-data; boundary=a"})
        refused(response, 422, "body")

    @pytest.mark.parametrize("boundary", ["", "a" * 3000, '"', "\x80"])
    def test_boundaries(self, client: TestClient, boundary: str):
        headers = {"content-type": f"multipart/form-data; boundary={boundary}".encode("latin-1")}
        response = client.post("/v1/score", content=b"--a--", headers=headers)
        assert response.status_code == 422, response.text

    @pytest.mark.parametrize(
        "name", ["../../etc/passwd", "..\\x", "/etc/passwd", "a\x00b", "http://169.254.169.254/", "%2e%2e/"]
    )
    def test_file_names_are_names_and_no_paths(self, client: TestClient, parts: Parts, name: str):
        """A part may be called whatever it likes: it is looked up by its name, and never opened."""
        parts[0]["frames"][1]["cameras"]["CAM_BACK"]["image"] = name
        response = client.post("/v1/score", files=[clip_part(parts[0]), *parts[1]])
        refused(response, 422, f"{FIELD}.image")

    async def _slow(self, messages: list[dict[str, Any]], api: Any) -> int:
        import asyncio

        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop(0)
            await asyncio.sleep(60)
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"multipart/form-data; boundary=a"), (b"content-length", b"1000")]
        scope = {"type": "http", "method": "POST", "path": "/v1/score", "raw_path": b"/v1/score", "headers": headers}
        await api({**scope, "query_string": b"", "http_version": "1.1", "scheme": "http"}, receive, send)
        return sent[0]["status"]

    def test_a_body_that_never_ends(self, model_dir: str, limits: ServeConfig):
        import asyncio

        api = build_api(OneModel(LocalScorer(model_dir, "cpu")), limits)
        start = {"type": "http.request", "body": b"--a\r\n", "more_body": True}
        assert asyncio.run(self._slow([start], api)) == 408


class TestStorage:
    @pytest.mark.parametrize("key", KEYS)
    def test_keys_are_plain_paths(self, client: TestClient, clip: Clip, data_root: str, key: str):
        with pytest.raises(ApiError, match="plain path"):
            check_key(key, "image")
        body = stored_clip(clip, data_root)
        body["frames"][1]["cameras"]["CAM_BACK"]["image"] = key
        refused(client.post("/v1/score", json=body), 422, f"{FIELD}.image")
        refused(client.post("/v1/jobs", json={"clips": [body]}), 422, f"clips.0.{FIELD}.image")

    @pytest.mark.parametrize("suffix", ["/", "/..", "/samples", "x"])
    def test_folders_are_those_that_the_operator_spelled(
        self, client: TestClient, clip: Clip, data_root: str, suffix: str
    ):
        refused(client.post("/v1/score", json=stored_clip(clip, data_root + suffix)), 422, "storage")

    @pytest.mark.parametrize("storage", ["/", "/etc", "s3://fleet", "http://localhost/", "file:///", "gs://a/b", "."])
    def test_other_folders(self, client: TestClient, clip: Clip, storage: str):
        detail = refused(client.post("/v1/score", json=stored_clip(clip, storage)), 422, "storage")
        assert detail == "This folder is not among those that this service reads."

    def test_links_out_of_the_folder_fifos_and_folders(
        self, client: TestClient, clip: Clip, data_root: str, tmp_path: Path, whole: bytes
    ):
        (tmp_path / "secret.jpg").write_bytes(whole)
        root = Path(data_root)
        made = {
            "link.jpg": lambda path: path.symlink_to(tmp_path / "secret.jpg"),
            "fifo.jpg": os.mkfifo,
            "dir.jpg": Path.mkdir,
        }
        for name, make in made.items():
            make(root / name)
            try:
                body = stored_clip(clip, data_root)
                body["frames"][1]["cameras"]["CAM_BACK"]["image"] = name
                detail = refused(client.post("/v1/score", json=body), 422, f"{FIELD}.image")
                assert str(tmp_path) not in detail
            finally:
                (root / name).rmdir() if name == "dir.jpg" else (root / name).unlink()

    def test_a_file_that_is_too_large_is_not_read(self, client: TestClient, clip: Clip, data_root: str):
        path = Path(data_root) / "large.jpg"
        with open(path, "wb") as file:
            file.truncate(2**40)  # sparse
        try:
            body = stored_clip(clip, data_root)
            body["frames"][1]["cameras"]["CAM_BACK"]["image"] = "large.jpg"
            refused(client.post("/v1/score", json=body), 422, f"{FIELD}.image")
        finally:
            path.unlink()

    def test_without_allowed_folders_none_is_read(self, model_dir: str, clip: Clip, data_root: str):
        with TestClient(build_api(OneModel(LocalScorer(model_dir, "cpu")), ServeConfig())) as client:
            refused(client.post("/v1/score", json=stored_clip(clip, data_root)), 422, "storage")


@pytest.mark.parametrize(
    "path", ["/v1/jobs/..%2f..%2fetc", "/v1/sessions/%00", "/v1/jobs/" + "x" * 5000, "/v1/sessions/%ff%fe"]
)
def test_ids_are_only_looked_up(client: TestClient, path: str):
    assert client.get(path).status_code in (404, 422)


def test_logs_carry_no_image_and_no_json(
    client: TestClient, parts: Parts, whole: bytes, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG", logger="ray.serve.sead_ray")
    marker = b"SECRETPIXELS" * 20
    client.post("/v1/score", files=[clip_part(parts[0]), *replaced(parts, whole + marker)])
    at("frames.0.global_from_ego.translation_m.0", 123456789.25)(parts[0])
    client.post("/v1/score", files=[clip_part(parts[0]), *parts[1]])
    ours = [record.getMessage() for record in caplog.records if record.name == "ray.serve.sead_ray"]
    assert len(ours) == 2
    assert "SECRETPIXELS" not in caplog.text
    assert "123456789.25" not in "".join(ours)
