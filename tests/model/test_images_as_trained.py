"""A model is shown images decoded as in its training, or none."""

from __future__ import annotations

from typing import Any

import pytest

from sead_ray.config import ImageConfig
from sead_ray.errors import InputError
from sead_ray.model.weights import require_images_as_trained

DCT = {"info": {"image": {"width": 640, "decode": "dct"}}}
FULL = {"info": {"image": {"width": 640, "decode": "full"}}}
UNKNOWN: dict[str, Any] = {"info": {}}


@pytest.mark.parametrize(("card", "decode"), [(DCT, "dct"), (FULL, "full"), (UNKNOWN, "full")])
def test_the_same_decode_is_accepted(card: dict[str, Any], decode: Any) -> None:
    require_images_as_trained(card, ImageConfig(width=640, decode=decode), "m")


@pytest.mark.parametrize(("card", "decode"), [(DCT, "full"), (FULL, "dct"), (UNKNOWN, "dct")])
def test_another_decode_is_refused_by_name(card: dict[str, Any], decode: Any) -> None:
    with pytest.raises(InputError, match=r"rounds/00/model.*image\.decode="):
        require_images_as_trained(card, ImageConfig(width=640, decode=decode), "rounds/00/model")
