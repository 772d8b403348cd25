"""One object of a bucket by compare-and-set, which Arrow's file systems lack: conditional writes of S3 and GCS.

S3 answers `If-None-Match: *` and `If-Match: <etag>`; GCS has preconditions on the generation. obstore speaks both, with
the credentials of the usual environment; AWS profiles are found through boto3 where it is installed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from sead_ray.errors import StorageError

# Shorter than a heartbeat's patience: a driver that cannot reach its bucket must learn it in time.
TIMEOUT = timedelta(seconds=10)
RETRIES: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}


class ConflictError(Exception):
    """The object is no longer, or already, what the caller expected."""


@dataclass(frozen=True)
class Tag:
    """Which content of an object was seen."""

    e_tag: str | None
    version: str | None


def read_object(uri: str) -> tuple[bytes, Tag] | None:
    """Content and tag of the object at s3://… or gs://…; None where there is none.

    Raises:
        StorageError: the bucket cannot be reached, or refuses.
    """
    import obstore
    import obstore.exceptions as errors

    store, key = _opened(uri)
    try:
        found = obstore.get(store, key)
        return bytes(found.bytes()), Tag(found.meta["e_tag"], found.meta["version"])
    except FileNotFoundError:
        return None
    except (errors.BaseError, OSError) as error:
        raise _unreachable(uri, error) from None


def write_object(uri: str, data: bytes, expected: Tag | None) -> Tag:
    """Writes the object where it is still as `expected`; None: where there is none.

    Raises:
        ConflictError: it is not; nothing is written.
        StorageError: the bucket cannot be reached, or refuses.
    """
    import obstore
    import obstore.exceptions as errors

    store, key = _opened(uri)
    mode: Any = "create" if expected is None else {name: tag for name, tag in vars(expected).items() if tag is not None}
    try:
        written = obstore.put(store, key, data, mode=mode)
    except (errors.AlreadyExistsError, errors.PreconditionError, FileExistsError):
        raise ConflictError(uri) from None
    except (errors.BaseError, OSError) as error:
        raise _unreachable(uri, error) from None
    return Tag(written["e_tag"], written["version"])


def _opened(uri: str) -> tuple[Any, str]:
    scheme, _, path = uri.partition("://")
    bucket, _, key = path.partition("/")
    return _bucket(f"{scheme}://{bucket}"), key


@lru_cache(maxsize=16)
def _bucket(uri: str) -> Any:
    from obstore.store import from_url

    client: Any = {"timeout": TIMEOUT, "allow_http": True}
    options: dict[str, Any] = {}
    if uri.startswith("s3://"):
        if provider := _aws_profile():
            options["credential_provider"] = provider
        if region := _region(uri.removeprefix("s3://")):
            options["region"] = region
    try:
        return from_url(uri, client_options=client, retry_config=RETRIES, **options)
    except Exception as error:  # obstore's own, ValueError: a half-set environment
        raise _unreachable(uri, error) from None


def _region(bucket: str) -> str | None:
    """Where the bucket lies, as Arrow finds it out; obstore would take the environment's word, or us-east-1."""
    if os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL_S3"):
        return None
    try:
        return pafs.resolve_s3_region(bucket)
    except (OSError, pa.ArrowInvalid):
        return None


def _aws_profile() -> Any:
    """obstore reads the environment and the machine's identity; the files below ~/.aws only through boto3."""
    if os.environ.get("AWS_ACCESS_KEY_ID") or not _has_aws_files():
        return None
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider

        return Boto3CredentialProvider()
    except (ImportError, ValueError):
        return None


def _has_aws_files() -> bool:
    named = os.environ.get("AWS_SHARED_CREDENTIALS_FILE"), os.environ.get("AWS_CONFIG_FILE")
    usual = "~/.aws/credentials", "~/.aws/config"
    return any(os.path.exists(os.path.expanduser(path)) for path in (*named, *usual) if path)


def _unreachable(uri: str, error: Exception) -> StorageError:
    said = " ".join(str(error).partition("Debug source")[0].split()).rstrip(".")
    return StorageError(f"{uri} cannot be reached: {said[:300]}.")
