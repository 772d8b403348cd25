"""The unpickler of VAD's infos: every way numpy writes arrays is read, and nothing else is let in."""

from __future__ import annotations

import collections
import io
import os
import pickle
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest

from sead_ray.errors import InputError
from sead_ray.nuscenes.infos_pickle import read_infos

CONTENT: dict[str, Any] = {
    "infos": [
        {
            "token": "a",
            "floats": np.arange(6.0).reshape(2, 3),
            "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "half": np.float32([[1.5]]),
            "flags": np.array([True, False]),
            "names": np.array(["car", "pedestrian"]),
            "objects": np.array(["car", None], dtype=object),
            "empty": np.zeros((0, 7)),
            "scalar": np.float64(3.5),
            "whole": np.int64(7),
            "ordered": collections.OrderedDict(a=1),
            "sets": {1, 2},
            "bytes": b"",
            "more": b"\xff\x00",
            "plain": [1, 2.5, "x", None, True, (1, 2)],
        }
    ],
    "metadata": {"version": "v1.0-mini"},
}


class OtherNumpy(pickle._Pickler):
    """Writes numpy's private helpers by the module names of the other numpy, 1 or 2."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_global(self, obj: Any, name: str | None = None) -> None:
        module = obj.__module__ or "builtins"
        renamed = module.replace("numpy._core", "numpy.core") if "_core" in module else module
        if renamed == module:
            renamed = module.replace("numpy.core", "numpy._core")
        if not module.startswith("numpy"):
            return super().save_global(obj, name)
        self.write(b"c" + f"{renamed}\n{name or obj.__qualname__}\n".encode())
        self.memoize(obj)
        return None

    dispatch[FunctionType] = save_global
    dispatch[type] = save_global


def write(path: Path, content: Any, protocol: int) -> str:
    path.write_bytes(pickle.dumps(content, protocol))
    return str(path)


def assert_same(read: dict[str, Any]) -> None:
    for name, expected in CONTENT["infos"][0].items():
        if isinstance(expected, np.ndarray):
            assert isinstance(read[name], np.ndarray)
            assert read[name].dtype == expected.dtype
            np.testing.assert_array_equal(np.asarray(read[name]), expected, strict=True)
        else:
            assert read[name] == expected


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_containers_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    assert_same(read_infos(write(tmp_path / "infos.pkl", CONTENT, protocol))[0])


@pytest.mark.parametrize("protocol", range(2, 6))
def test_files_of_the_other_numpy(tmp_path: Path, protocol: int) -> None:
    buffer = io.BytesIO()
    OtherNumpy(buffer, protocol).dump(CONTENT)
    own = b"numpy._core" if int(np.__version__.split(".")[0]) > 1 else b"numpy.core"
    assert own not in buffer.getvalue()
    (tmp_path / "infos.pkl").write_bytes(buffer.getvalue())
    assert_same(read_infos(str(tmp_path / "infos.pkl"))[0])


def test_a_bare_list_of_infos_is_read(tmp_path: Path) -> None:
    assert read_infos(write(tmp_path / "infos.pkl", CONTENT["infos"], 4))[0]["token"] == "a"


class Runs:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("named", "harm"),
    [
        ("system", lambda mark: Runs(os.system, f"touch {mark}")),
        ("exec", lambda mark: Runs(exec, f"open({str(mark)!r}, 'w')")),
        ("eval", lambda mark: Runs(eval, f"open({str(mark)!r}, 'w')")),
        ("open", lambda mark: Runs(open, str(mark), "w")),
        ("getattr", lambda mark: Runs(getattr, Runs(__import__, "os"), "system")),
        ("memmap", lambda mark: Runs(np.memmap, str(mark), "uint8", "w+", 0, (1,))),
        ("Path", lambda mark: mark),
    ],
)
def test_a_pickle_that_runs_something_is_refused(tmp_path: Path, named: str, harm: Any, protocol: int) -> None:
    mark = tmp_path / "mark"
    path = write(tmp_path / "infos.pkl", {"infos": [{"token": "a", "harm": harm(mark)}]}, protocol)
    with pytest.raises(InputError) as error:
        read_infos(path)
    assert "asks for" in str(error.value)
    assert named in str(error.value) or "import" in str(error.value)
    assert not mark.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.",  # a dotted name
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct.__self__\n.",
        b"\x80\x02cos\nsystem\n(S'echo'\ntR.",
        b"\x80\x02ccopy_reg\n_reconstructor\n.",
        b"\x80\x02P1\n.",  # a persistent object
        b"\x80\x02\x82\x01.",  # an extension code
    ],
)
def test_programs_written_by_hand_are_refused(tmp_path: Path, program: bytes) -> None:
    (tmp_path / "infos.pkl").write_bytes(program)
    with pytest.raises(InputError, match=r"infos\.pkl"):
        read_infos(str(tmp_path / "infos.pkl"))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "infos.pkl"
    whole = pickle.dumps(CONTENT, 4)
    for data in (b"", whole[:100], whole[: len(whole) // 2], b"no pickle", b"PK\x03\x04", whole.replace(b"f8", b"O8")):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"infos\.pkl"):
            read_infos(str(path))
    with pytest.raises(InputError, match="No such file"):
        read_infos(str(tmp_path / "none.pkl"))
    for content in ({"infos": 3}, {"infos": [1]}, {"infos": []}, {"data": []}, 5):
        with pytest.raises(InputError, match=r"infos\.pkl"):
            read_infos(write(path, content, 4))
