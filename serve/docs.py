"""What the OpenAPI document says beyond the routes' types: bodies that routes read themselves, errors, examples."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from sead_ray.records import CAMERAS
from sead_ray.wire import ErrorAnswer
from serve.schemas import ClipIn, FrameIn, SessionIn, StoredClipIn, StoredClipsIn

_REF = "#/components/schemas/"
_BODIES = (ClipIn, FrameIn, SessionIn, StoredClipIn, StoredClipsIn)
_TEXTS = {
    400: "The request broke off",
    401: "No token, or one that is not known",
    403: "The token's scope does not include this",
    404: "No such thing, or not yours",
    408: "The body took too long",
    409: "In conflict with what is there",
    413: "The body is too large",
    415: "The body is compressed",
    422: "The request is wrong; `field` is the path of the culprit",
    429: "Busy; Retry-After says when to come again",
    500: "Fault of the service",
    503: "The model is loading or restarting",
    504: "The answer took too long",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for FastAPI's `responses`; every route below /v1 needs a token."""
    return {
        status: {"model": ErrorAnswer, "description": _TEXTS[status]} | _headers(status)
        for status in sorted({401, 403, 422, 500, *statuses})
    }


def body_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Those of a route that reads a body and asks the model."""
    return errors(400, 408, 413, 415, 422, 429, 503, *statuses)


def _headers(status: int) -> dict[str, Any]:
    if status == 429:
        return {"headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds"}}}
    if status == 401:
        return {"headers": {"WWW-Authenticate": {"schema": {"type": "string"}}}}
    return {}


def clip_body(stored: str, several: bool = False) -> dict[str, Any]:
    """A body of clips: multipart, or JSON of the schema `stored`."""
    one = {"$ref": f"{_REF}ClipIn"}
    clips = {"type": "array", "items": one, "minItems": 1} if several else one
    json_example = stored_clip_example()
    return _body(
        multipart=_multipart("clip", clips),
        json={"schema": {"$ref": _REF + stored}, "example": {"clips": [json_example]} if several else json_example},
    )


def frame_body() -> dict[str, Any]:
    return _body(multipart=_multipart("frame", {"$ref": f"{_REF}FrameIn"}))


def session_body() -> dict[str, Any]:
    schema = {"schema": {"$ref": f"{_REF}SessionIn"}, "example": {"clip_token": "drive-17"}}
    return {"requestBody": {"required": False, "content": {"application/json": schema}}}


def _body(multipart: dict[str, Any], json: dict[str, Any] | None = None) -> dict[str, Any]:
    content = {"multipart/form-data": multipart} | ({"application/json": json} if json else {})
    return {"requestBody": {"required": True, "content": content}}


def _multipart(part: str, schema: dict[str, Any]) -> dict[str, Any]:
    images = {
        "type": "array",
        "minItems": len(CAMERAS),
        "items": {"type": "string", "format": "binary", "contentMediaType": "image/jpeg"},
        "description": "JPEGs, each under the file name by which a camera refers to it.",
    }
    return {
        "schema": {
            "type": "object",
            "required": [part, "images"],
            "properties": {part: schema, "images": images},
            "additionalProperties": False,
        },
        "encoding": {part: {"contentType": "application/json"}, "images": {"contentType": "image/jpeg"}},
    }


def describe(api: FastAPI) -> None:
    """Adds the schemas of the bodies to the document, with an example of each."""
    generate = api.openapi

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            document = generate()
            _, found = models_json_schema(
                [(model, "validation") for model in _BODIES], ref_template=_REF + "{model}", by_alias=True
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(found["$defs"])
            schemas["ClipIn"]["examples"] = [clip_example()]
            schemas["FrameIn"]["examples"] = [frame_example(0)]
        assert api.openapi_schema is not None
        return api.openapi_schema

    api.openapi = openapi  # type: ignore[method-assign]


def clip_example() -> dict[str, Any]:
    return {"clip_token": "drive-17", "frames": [frame_example(0), frame_example(1)]}


def stored_clip_example() -> dict[str, Any]:
    return {"storage": "s3://fleet/uploads", **clip_example()}


def frame_example(index: int) -> dict[str, Any]:
    """Half a second a frame, 4 m ahead each; cameras turned evenly round the vehicle."""
    stamp_us = 1_532_402_927_000_000 + 500_000 * index
    pose = {"translation_m": [600.0 + 4 * index, 1600.0, 0.0], "rotation_wxyz": [1.0, 0.0, 0.0, 0.0]}
    cameras = {}
    for name in CAMERAS:
        cameras[name] = {
            "image": f"{index:03d}_{name}.jpg",
            "intrinsics": [[1266.0, 0.0, 816.0], [0.0, 1266.0, 491.0], [0.0, 0.0, 1.0]],
            "ego_from_camera": {"translation_m": [1.7, 0.0, 1.5], "rotation_wxyz": [0.5, -0.5, 0.5, -0.5]},
            "timestamp_us": stamp_us + 12_000,
            "global_from_ego": pose,
        }
    return {
        "timestamp_us": stamp_us,
        "global_from_ego": pose,
        "ego_from_lidar": {"translation_m": [0.94, 0.0, 1.84], "rotation_wxyz": [0.7071068, 0.0, 0.0, -0.7071068]},
        "can": {
            "acceleration_mps2": [0.3, 0.1, 9.8],
            "rotation_rate_radps": [0.0, 0.0, 0.02],
            "velocity_mps": [8.0, 0.0, 0.0],
        },
        "cameras": cameras,
    }
