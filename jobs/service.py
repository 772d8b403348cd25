"""How jobs reach a running scoring service."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

import httpx

from sead_ray.client import ScoringClient
from sead_ray.errors import InputError

TOKEN_VARIABLE = "SEAD_TOKEN"


def service_client(url: str) -> ScoringClient:
    """With the token of the environment, where there is one."""
    return ScoringClient(url, os.environ.get(TOKEN_VARIABLE) or None)


@contextmanager
def service_errors(url: str) -> Generator[None, None, None]:
    """A service that is away, as a sentence."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise InputError(f"The service at {url} answered {error.response.status_code}; try again later.") from None
    except httpx.HTTPError as error:
        raise InputError(f"The service at {url} cannot be reached ({error}): is it running?") from None
    except httpx.InvalidURL as error:
        raise InputError(f"{url} is not the address of a service: {error}.") from None
