"""The HTTP interface with a real model in this process."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from sead_ray.client import clip_part, clip_request
from sead_ray.config import ImageConfig, ScoreConfig, ServeConfig
from sead_ray.model.weights import load_model
from sead_ray.records import CAMERAS, Clip, ClipScore
from sead_ray.stages import layout
from sead_ray.stages.clip_runner import LoadedClip, load_clip
from sead_ray.stages.clip_scores import score_loaded_clips
from sead_ray.storage import Store
from serve.api import build_api
from serve.errors import ApiError
from serve.models import OneModel
from serve.schemas import ModelInfo
from serve.scorer import LocalScorer, Scored

LIMITS = ServeConfig(max_body_bytes=2**20, max_frames=6, max_image_pixels=200_000)
Request = tuple[dict[str, Any], list[Any]]


@pytest.fixture(scope="module")
def scorer(model_dir: str) -> LocalScorer:
    return LocalScorer(model_dir, "cpu")


@pytest.fixture(scope="module")
def client(scorer: LocalScorer) -> Iterator[TestClient]:
    with TestClient(build_api(OneModel(scorer), LIMITS), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def request_parts(clip: Clip, data_root: str) -> Request:
    body, files = clip_request(clip, data_root)
    return copy.deepcopy(body), files


def post(client: TestClient, body: dict[str, Any] | str, files: list[Any]) -> Any:
    text = body if isinstance(body, str) else json.dumps(body)
    return client.post("/v1/score", files=[("clip", (None, text.encode(), "application/json")), *files])


def refused(response: Any, status: int, field: str | None) -> str:
    """The sentence of an error whose body is whole and names the field."""
    assert response.status_code == status, response.text
    error = response.json()
    assert set(error) == {"error_id", "detail", "field"}
    assert len(error["error_id"]) == 12
    assert error["field"] == field
    assert "Traceback" not in response.text
    return error["detail"]


class TestScore:
    @pytest.mark.parametrize("can", ["given", "zeros"])
    def test_equals_the_pools_score(
        self, client: TestClient, clip: Clip, clip_without_can: Clip, data_root: str, served_run: Store, can: str
    ):
        mine = clip if can == "given" else clip_without_can
        model, card = load_model(served_run, layout.model(1))
        loaded = load_clip(mine, data_root, ImageConfig(**card["info"]["image"]))
        (expected,) = score_loaded_clips(model, card["model_version"], [loaded], "cpu", ScoreConfig())
        body, files = clip_request(mine, data_root)
        response = post(client, body, files)
        assert response.status_code == 200, response.text
        got = response.json()
        assert expected.status == got["status"] == "ok"
        assert got["score"] == pytest.approx(expected.shift_sum, rel=1e-6)
        assert got["score"] > 0
        assert got["shift_agents"] == pytest.approx(expected.shift_agents, rel=1e-6)
        assert got["shift_map"] == pytest.approx(expected.shift_map, rel=1e-6)
        assert [math.inf if value is None else value for value in got["min_distance_m"]] == expected.min_distance_m
        assert got["is_key"] == expected.is_key
        assert got["key_frames"] == {"start": expected.key_start, "length": expected.key_length}
        assert (got["n_frames"], got["can_bus"], got["clip_token"]) == (len(mine.frames), can, "clip-a")
        assert got["model_version"] == card["model_version"]
        assert got["seconds"]["decode"] > 0
        assert got["seconds"]["model"] > 0

    def test_can_values_change_the_score(self, client: TestClient, request_parts: Request):
        body, files = request_parts
        with_can = post(client, body, files).json()["score"]
        for frame in body["frames"]:
            del frame["can"]
        assert post(client, body, files).json()["score"] != with_can

    def test_clip_part_may_be_a_file(self, client: TestClient, request_parts: Request):
        body, files = request_parts
        as_file = ("clip", ("clip.json", json.dumps(body).encode(), "application/json"))
        answers = [
            client.post("/v1/score", files=[part, *files]).json()["score"] for part in (clip_part(body), as_file)
        ]
        assert answers[0] == answers[1]

    def test_order_of_image_parts_does_not_matter(self, client: TestClient, request_parts: Request):
        body, files = request_parts
        assert post(client, body, files).json()["score"] == post(client, body, files[::-1]).json()["score"]

    def test_clip_at_another_rate_is_answered_with_the_reason(self, client: TestClient, request_parts: Request):
        body, files = request_parts
        for index, frame in enumerate(body["frames"]):
            frame["timestamp_us"] = 1_000_000 + 5_000_000 * index
        response = post(client, body, files)
        assert response.status_code == 200
        got = response.json()
        assert (got["status"], got["score"], got["shift_agents"]) == ("failed", None, [])
        assert "0.5 s apart" in got["reason"]

    def test_rank_by_mean(self, model_dir: str, request_parts: Request):
        class MeanScorer(LocalScorer):
            async def info(self) -> ModelInfo:
                info = await super().info()
                return info.model_copy(update={"score": ScoreConfig(rank_by="mean")})

        with TestClient(build_api(OneModel(MeanScorer(model_dir, "cpu")), LIMITS)) as client:
            got = post(client, *request_parts).json()
        assert got["rank_by"] == "mean"
        shifts = np.add(got["shift_agents"], got["shift_map"])
        assert got["score"] == pytest.approx(shifts.mean(), rel=1e-6)


Change = Callable[[dict[str, Any]], Any]
CAMERA = "frames.1.cameras.CAM_BACK"


def set_at(path: str, value: Any) -> Change:
    def change(body: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        node: Any = body
        for key in parents:
            node = node[int(key)] if isinstance(node, list) else node[key]
        if isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value

    return change


class TestBadClip:
    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("frames.0.global_from_ego.translation_m.1", math.nan),
            ("frames.2.ego_from_lidar.translation_m.0", math.inf),
            ("frames.2.can.velocity_mps.2", -math.inf),
            (f"{CAMERA}.intrinsics.0.2", math.nan),
            ("frames.0.global_from_ego.translation_m.1", 1e300),
            ("frames.0.global_from_ego.translation_m.1", "4"),
            ("frames.0.global_from_ego.translation_m.1", None),
            ("frames.0.global_from_ego.rotation_wxyz", [1.0, 0.0, 0.0, 0.1]),
            (f"{CAMERA}.ego_from_camera.rotation_wxyz", [0.0, 0.0, 0.0, 0.0]),
            (f"{CAMERA}.intrinsics", [[-1.0, 0, 0], [0, 1.0, 0], [0, 0, 1]]),
            (f"{CAMERA}.timestamp_us", 1.5),
            ("frames.1.timestamp_us", 10**30),
            ("frames.1.timestamp_us", -1),
            ("frames.1.surprise", 1),
            (f"{CAMERA}.surprise", 1),
            ("label", "car"),
            ("frames.0.cameras.CAM_TOP", {}),
            ("clip_token", ""),
            (f"{CAMERA}.image", "absent.jpg"),
            (f"{CAMERA}.image", "000_CAM_FRONT.jpg"),
        ],
    )
    def test_is_refused_with_the_fields_path(self, client: TestClient, request_parts: Request, path: str, value: Any):
        body, files = request_parts
        set_at(path, value)(body)
        detail = refused(post(client, body, files), 422, path)
        assert detail.endswith(".")
        assert "\n" not in detail

    def test_non_unit_within_tolerance_is_taken(self, client: TestClient, request_parts: Request):
        body, files = request_parts
        rotation = body["frames"][0]["global_from_ego"]["rotation_wxyz"]
        body["frames"][0]["global_from_ego"]["rotation_wxyz"] = [value * 1.0005 for value in rotation]
        assert post(client, body, files).status_code == 200

    @pytest.mark.parametrize("camera", [CAMERAS[0], CAMERAS[5]])
    def test_missing_camera(self, client: TestClient, request_parts: Request, camera: str):
        body, files = request_parts
        del body["frames"][2]["cameras"][camera]
        refused(post(client, body, files), 422, f"frames.2.cameras.{camera}")

    @pytest.mark.parametrize("later_us", [0, -1])
    def test_time_must_go_forward(self, client: TestClient, request_parts: Request, later_us: int):
        body, files = request_parts
        body["frames"][2]["timestamp_us"] = body["frames"][1]["timestamp_us"] + later_us
        refused(post(client, body, files), 422, "frames.2.timestamp_us")

    def test_can_in_some_frames_only(self, client: TestClient, request_parts: Request):
        body, files = request_parts
        del body["frames"][1]["can"]
        assert "can" in refused(post(client, body, files), 422, "clip")

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", "nan", '{"frames": 3', "[" * 10_000, "\x00", '"\ud83d"'])
    def test_not_json_of_a_clip(self, client: TestClient, request_parts: Request, text: str):
        response = client.post(
            "/v1/score",
            files=[("clip", (None, text.encode("utf-8", "surrogatepass"), "application/json")), *request_parts[1]],
        )
        refused(response, 422, "clip")

    def test_too_many_and_too_few_frames(self, client: TestClient, request_parts: Request):
        body, files = request_parts
        few = {**body, "frames": body["frames"][:1]}
        refused(post(client, few, files[:6]), 422, "frames")
        body["frames"] = [
            {**copy.deepcopy(body["frames"][0]), "timestamp_us": 500_000 * index}
            for index in range(LIMITS.max_frames + 1)
        ]
        detail = refused(post(client, body, files), 422, "frames")
        assert "7 frames" in detail
        assert "6 at most" in detail

    def test_clip_larger_than_is_decoded(self, scorer: LocalScorer, request_parts: Request):
        limits = ServeConfig(max_decoded_bytes=100_000)
        with TestClient(build_api(OneModel(scorer), limits)) as client:
            refused(post(client, *request_parts), 422, "frames")


class TestBadImages:
    @pytest.mark.parametrize("kind", ["empty", "text", "truncated", "header only", "png"])
    def test_undecodable_names_part_and_field(
        self, client: TestClient, request_parts: Request, kind: str, make_jpeg: Callable[..., bytes]
    ):
        body, files = request_parts
        whole = make_jpeg(np.random.default_rng(1))
        data = {
            "empty": b"",
            "text": b"not an image",
            "truncated": whole[: len(whole) // 2],
            "header only": whole[:20],
            "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
        }[kind]
        name = body["frames"][1]["cameras"]["CAM_BACK"]["image"]
        changed = [(part, (file[0], data if file[0] == name else file[1], file[2])) for part, file in files]
        detail = refused(post(client, body, changed), 422, f"{CAMERA}.image")
        assert name in detail

    @pytest.mark.parametrize("seed", range(8))
    def test_damaged_bytes_are_never_a_fault(self, client: TestClient, request_parts: Request, seed: int):
        body, files = request_parts
        rng = np.random.default_rng(seed)
        data = np.frombuffer(files[9][1][1], np.uint8).copy()
        positions = rng.integers(0, len(data), 30)
        data[positions] = rng.integers(0, 256, 30)
        files = [*files[:9], ("images", (files[9][1][0], data.tobytes(), "image/jpeg")), *files[10:]]
        assert post(client, body, files).status_code in (200, 422)

    def test_other_size(self, client: TestClient, request_parts: Request, make_jpeg: Callable[..., bytes]):
        body, files = request_parts
        small = make_jpeg(np.random.default_rng(1), 80, 44)
        name = body["frames"][1]["cameras"]["CAM_BACK"]["image"]
        changed = [(part, (file[0], small if file[0] == name else file[1], file[2])) for part, file in files]
        assert "80 x 44" in refused(post(client, body, changed), 422, f"{CAMERA}.image")
        del body["frames"][1]["cameras"]["CAM_BACK"]["width"], body["frames"][1]["cameras"]["CAM_BACK"]["height"]
        assert "80 x 44" in refused(post(client, body, changed), 422, f"{CAMERA}.image")

    def test_size_that_the_intrinsics_are_not_for(self, client: TestClient, request_parts: Request):
        body, files = request_parts
        body["frames"][0]["cameras"]["CAM_FRONT"]["width"] = 1600
        refused(post(client, body, files), 422, "frames.0.cameras.CAM_FRONT.image")

    def test_too_many_pixels_are_refused_by_the_header(
        self, client: TestClient, request_parts: Request, make_jpeg: Callable[..., bytes]
    ):
        body, files = request_parts
        large = make_jpeg(np.random.default_rng(1), 800, 450)
        name = body["frames"][0]["cameras"]["CAM_FRONT"]["image"]
        changed = [(part, (file[0], large if file[0] == name else file[1], file[2])) for part, file in files]
        assert "200000" in refused(post(client, body, changed), 422, "frames.0.cameras.CAM_FRONT.image")


class TestBadParts:
    def test_unknown_part_missing_clip_and_two_clips(self, client: TestClient, request_parts: Request):
        body, files = request_parts
        refused(post(client, body, [*files, ("extra", (None, b"1", "text/plain"))]), 422, "extra")
        refused(client.post("/v1/score", files=files), 422, "clip")
        refused(post(client, body, [clip_part(body), *files]), 422, "clip")

    def test_images_nobody_names_or_of_one_name(self, client: TestClient, request_parts: Request):
        body, files = request_parts
        surplus = ("images", ("surplus.jpg", b"x", "image/jpeg"))
        assert "surplus.jpg" in refused(post(client, body, [*files, surplus]), 422, "images")
        refused(post(client, body, [*files, files[0]]), 422, "images")
        refused(post(client, body, [*files, ("images", (None, b"x", "image/jpeg"))]), 422, "images")

    def test_more_parts_than_any_clip_has(self, client: TestClient, request_parts: Request):
        body, files = request_parts
        many = [("images", (f"{index}.jpg", b"x", "image/jpeg")) for index in range(100)]
        refused(post(client, body, [*files, *many]), 422, "body")

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("multipart/form-data", b"x"),
            ("multipart/form-data; boundary=abc", b"no boundary here"),
            ("multipart/form-data; boundary=abc", b"--abc\r\nContent-Disposition: form-data\r\n\r\nx\r\n--abc--\r\n"),
            ("application/x-www-form-urlencoded", b"clip=%7B%7D"),
            ("application/json", b"{}"),
            ("", b""),
        ],
    )
    def test_other_bodies(self, client: TestClient, content_type: str, body: bytes):
        response = client.post("/v1/score", content=body, headers={"content-type": content_type})
        assert response.status_code == 422, response.text
        assert set(response.json()) == {"error_id", "detail", "field"}

    def test_too_large_by_content_length(self, client: TestClient):
        response = client.post(
            "/v1/score",
            content=b"",
            headers={
                "content-length": str(LIMITS.max_body_bytes + 1),
                "content-type": "multipart/form-data; boundary=a",
            },
        )
        refused(response, 413, "body")

    def test_too_large_while_reading(self, client: TestClient):
        sent = 0

        def chunks() -> Iterator[bytes]:  # no content-length
            nonlocal sent
            yield b'--a\r\nContent-Disposition: form-data; name="images"; filename="f"\r\n\r\n'
            for _ in range(64):
                sent += 1
                yield bytes(2**16)

        headers = {"content-type": "multipart/form-data; boundary=a"}
        refused(client.post("/v1/score", content=chunks(), headers=headers), 413, "body")
        assert sent > 1


class TestOtherRoutes:
    def test_model(self, client: TestClient, served_run: Store):
        model, card = load_model(served_run, layout.model(1))
        got = client.get("/v1/model").json()
        assert got["model_version"] == card["model_version"]
        assert (got["preset"], got["round"]) == ("vad_nano", 1)
        assert got["n_parameters"] == sum(value.numel() for value in model.parameters())
        assert got["image"] == {"width": 160, "decode": "full"}

    def test_models(self, client: TestClient):
        assert client.get("/v1/models").json() == {"models": [client.get("/v1/model").json()]}

    @pytest.mark.parametrize("path", ["/healthz", "/readyz"])
    def test_health(self, client: TestClient, path: str):
        response = client.get(path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})

    def test_alive_but_not_ready_while_the_model_loads(self, model_dir: str):
        class Loading(LocalScorer):
            async def info(self) -> ModelInfo:
                raise ApiError(503, "The model is not loaded yet.")

        with TestClient(build_api(OneModel(Loading(model_dir, "cpu")), LIMITS)) as client:
            assert client.get("/healthz").status_code == 200
            refused(client.get("/readyz"), 503, None)

    def test_unknown_path_and_method_have_the_same_error_body(self, client: TestClient):
        refused(client.get("/v1/nothing"), 404, None)
        refused(client.get("/v1/score"), 405, None)

    def test_openapi_is_served(self, client: TestClient):
        paths = client.get("/openapi.json").json()["paths"]
        assert {"/v1/score", "/v1/jobs", "/v1/sessions", "/v1/model", "/v1/models", "/healthz", "/readyz"} <= set(paths)
        assert "multipart/form-data" in paths["/v1/score"]["post"]["requestBody"]["content"]


def test_a_fault_shows_an_id_that_the_log_has_too(
    model_dir: str, request_parts: Request, caplog: pytest.LogCaptureFixture
):
    class Broken(LocalScorer):
        async def score(self, loaded: LoadedClip) -> Scored:
            raise RuntimeError("secret path /srv/models")

    with TestClient(build_api(OneModel(Broken(model_dir, "cpu")), LIMITS)) as client:
        response = post(client, *request_parts)
    detail = refused(response, 500, None)
    assert "secret" not in detail
    assert response.json()["error_id"] in caplog.text
    assert "secret path" in caplog.text


def test_infinite_distance_is_null(model_dir: str, request_parts: Request):
    class Nobody(LocalScorer):
        async def score(self, loaded: LoadedClip) -> Scored:
            frames = len(loaded.clip.frames)
            far = ClipScore("c", "v", "ok", min_distance_m=[math.inf] * (frames - 1) + [2.5], is_key=[False] * frames)
            return Scored(far, 0.0)

    with TestClient(build_api(OneModel(Nobody(model_dir, "cpu")), LIMITS)) as client:
        assert post(client, *request_parts).json()["min_distance_m"] == [None, None, None, 2.5]
