"""The files of a folder, local or in a bucket.

A path is local or s3://, gs:// through pyarrow.fs, with the credentials and endpoint of the usual environment
(AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL for S3-compatible stores, GOOGLE_APPLICATION_CREDENTIALS, …). A file
becomes visible whole or not at all.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
import uuid
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.fs as pafs

from sead_ray.errors import InputError, StorageError
from sead_ray.fence import require_held
from sead_ray.objects import ConflictError, write_object

SCHEMES = ("s3", "gs")
CHUNK_BYTES = 8 * 2**20
GS_RETRY_S = 30

# What a disk answers that is full or takes nothing; EFBIG: a limit of the shell.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)

Names = list[str]  # inside the class, `list` is its method


@dataclass(frozen=True)
class Files:
    """A folder, local or in a bucket. Picklable: the file system is opened where it is used."""

    root: str

    def __post_init__(self) -> None:
        root = self.root.removeprefix("file://")
        scheme, separator, rest = root.partition("://")
        if separator and (scheme not in SCHEMES or not rest.strip("/")):
            raise InputError(f"{self.root} is neither a local path nor s3://bucket/folder or gs://bucket/folder.")
        object.__setattr__(self, "root", root.rstrip("/") if separator else os.path.abspath(root))

    @property
    def is_local(self) -> bool:
        return "://" not in self.root

    def path(self, key: str = "") -> str:
        """The full path or URI of `key`; refuses one that leaves the folder."""
        if key.startswith("/") or ".." in key.split("/"):
            raise InputError(f"{key!r} is not a path below {self.root}.")
        return f"{self.root}/{key}" if key else self.root

    def below(self, key: str) -> Self:
        return type(self)(self.path(key))

    def read_bytes(self, key: str) -> bytes:
        with self._reading(key) as (fs, path), fs.open_input_file(path) as file:
            return file.read()

    def read_chunks(self, key: str, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The file piece by piece, for what is too large to hold."""
        with self._reading(key) as (fs, path), fs.open_input_stream(path, buffer_size=chunk_bytes) as stream:
            while chunk := stream.read(chunk_bytes):
                yield chunk

    @contextmanager
    def local_copy(self, key: str) -> Generator[Path, None, None]:
        """A local folder that holds `key`, for libraries that open paths: the root itself, or a temporary copy."""
        if self.is_local:
            yield Path(self.root)
            return
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / key
            target.parent.mkdir(parents=True)
            target.write_bytes(self.read_bytes(key))
            yield Path(folder)

    def write_bytes(self, key: str, data: bytes | pa.Buffer) -> None:
        """Atomic: readers see the old content or the whole new one."""
        require_held(self.path(key))
        if self.is_local:
            with self.replacing(key) as temporary, open(temporary, "wb") as file:
                file.write(data)
            return
        with self._reaching(key) as (fs, path), fs.open_output_stream(path) as stream:
            stream.write(data)  # all in one call: closing the stream is what makes the object visible

    @contextmanager
    def replacing(self, key: str) -> Generator[str, None, None]:
        """A temporary local file whose content becomes that of `key` where the block ends without an error."""
        if not self.is_local:
            with tempfile.TemporaryDirectory() as folder:
                temporary = f"{folder}/content"
                yield temporary
                with pa.memory_map(temporary) as mapped:
                    self.write_bytes(key, mapped.read_buffer())
            return
        with self._temporary(key) as temporary:
            yield temporary
            _synchronised(temporary)
            require_held(self.path(key))
            os.replace(temporary, self.path(key))

    def create_bytes(self, key: str, data: bytes) -> bool:
        """Writes a file that is not there yet, whole; False where it is, and stays as it is."""
        require_held(self.path(key), certain=True)
        if not self.is_local:
            try:
                write_object(self.path(key), data, expected=None)
            except ConflictError:
                return False
            return True
        with self._temporary(key) as temporary:
            Path(temporary).write_bytes(data)
            _synchronised(temporary)
            return _linked(temporary, self.path(key))

    @contextmanager
    def _temporary(self, key: str) -> Generator[str, None, None]:
        """Beside `key`; gone after the block. A disk that takes nothing more is the user's to mend."""
        path = self.path(key)
        temporary = f"{path}.{uuid.uuid4().hex}.tmp"
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            yield temporary
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            raise StorageError(f"{path} cannot be written: {os.strerror(error.errno)}.") from None
        finally:
            Path(temporary).unlink(missing_ok=True)

    def read_json(self, key: str) -> Any:
        try:
            return json.loads(self.read_bytes(key))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{self.path(key)} is not valid JSON: {error}.") from None

    def write_json(self, key: str, value: Any) -> None:
        self.write_bytes(key, json_bytes(value))

    def exists(self, key: str) -> bool:
        with self._reaching(key) as (fs, path):
            return fs.get_file_info(path).type != pafs.FileType.NotFound

    def list(self, key: str = "", suffix: str = "") -> Names:
        """Names of the files directly below `key`, sorted; unfinished ones (.tmp) are left out."""
        return sorted(name for name in self.sizes(key) if name.endswith(suffix))

    def sizes(self, key: str = "") -> dict[str, int]:
        """Bytes of each file directly below `key`, by name: one listing instead of a question a file."""
        with self._reaching(key) as (fs, path):
            infos = fs.get_file_info(pafs.FileSelector(path, allow_not_found=True))
        return {
            info.base_name: info.size
            for info in infos
            if info.type == pafs.FileType.File and not info.base_name.endswith(".tmp")
        }

    def stamps(self, keys: Iterable[str]) -> dict[str, str]:
        """Size and time of the last change of each file, to tell whether it is still the one that was read."""
        wanted = [*keys]
        fs, _ = self.filesystem("")
        with self._reaching(""):
            infos = fs.get_file_info([self.filesystem(key)[1] for key in wanted])
        return {key: f"{info.size}-{info.mtime_ns}" for key, info in zip(wanted, infos, strict=True)}

    def find(self, key: str, suffix: str) -> dict[str, str]:
        """Keys of all files below `key`, at any depth, that end so, in order, with a stamp as of `stamps`."""
        with self._reaching(key) as (fs, path):
            infos = fs.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
        start = len(self.filesystem("")[1]) + 1
        found = {info.path[start:]: f"{info.size}-{info.mtime_ns}" for info in infos if info.type == pafs.FileType.File}
        return {name: found[name] for name in sorted(found) if name.endswith(suffix)}

    def file_sizes(self, keys: Names) -> dict[str, int | None]:
        """Bytes of each file; None where there is none. Files that lie apart: of a whole folder ask `sizes`."""
        with self._reaching("") as (fs, _):
            infos = fs.get_file_info([self.filesystem(key)[1] for key in keys])
        is_file = pafs.FileType.File
        return {key: info.size if info.type == is_file else None for key, info in zip(keys, infos, strict=True)}

    def remove(self, key: str) -> None:
        """Removes a file or a folder with all it holds; nothing happens where there is none."""
        require_held(self.path(key))
        with self._reaching(key) as (fs, path):
            kind = fs.get_file_info(path).type
            if kind == pafs.FileType.Directory:
                fs.delete_dir(path)
            elif kind == pafs.FileType.File:
                fs.delete_file(path)

    @contextmanager
    def _reading(self, key: str) -> Generator[tuple[pafs.FileSystem, str], None, None]:
        try:
            yield self.filesystem(key)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise InputError(f"{self.path(key)} does not exist.") from None
        except OSError as error:
            kind = InputError if self.is_local else StorageError
            raise kind(f"{self.path(key)} cannot be read: {reason_of(error)}.") from None

    @contextmanager
    def _reaching(self, key: str) -> Generator[tuple[pafs.FileSystem, str], None, None]:
        """Of a bucket, wrong credentials, names and endpoints are the user's to mend; a local disk's faults are not."""
        try:
            yield self.filesystem(key)
        except OSError as error:
            if self.is_local:
                raise
            raise StorageError(f"{self.path(key)} cannot be reached: {reason_of(error)}.") from None

    def filesystem(self, key: str = "") -> tuple[pafs.FileSystem, str]:
        """Arrow's file system, and the path of `key` in it."""
        full = self.path(key)
        if self.is_local:
            return pafs.LocalFileSystem(), full
        scheme, _, path = full.partition("://")
        try:
            return _bucket_filesystem(f"{scheme}://{path.partition('/')[0]}"), path
        except (OSError, pa.ArrowInvalid) as error:
            raise StorageError(f"{full} cannot be opened: {reason_of(error)}.") from None


def json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _synchronised(path: str) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _linked(temporary: str, path: str) -> bool:
    """Gives the file its name where nothing has it: one step of the file system."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if os.path.exists(path):  # a file system without links: two steps are what there is
            return False
        os.replace(temporary, path)
    return True


@lru_cache(maxsize=16)
def _bucket_filesystem(uri: str) -> pafs.FileSystem:
    """One client a bucket and process: a new one each time would look up region and credentials again."""
    if uri.startswith("gs://"):  # Arrow's client would try for a quarter of an hour where nobody answers
        uri += f"?retry_limit_seconds={GS_RETRY_S}"
    return pafs.FileSystem.from_uri(uri)[0]


def reason_of(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
