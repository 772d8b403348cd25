"""Reading files of tensors that others made: wrappers come off, everything else is refused in one sentence."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sead_ray.errors import InputError
from sead_ray.model.tensor_file import read_tensor_file

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.num_batches_tracked": torch.tensor(7)}


class Trap:
    """Unpickled the usual way, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE},
        {f"module.{key}": value for key, value in STATE.items()},
        {"state_dict": {f"module.{key}": value for key, value in STATE.items()}, "meta": {"epoch": 60}},
        {"state_dict": STATE, "meta": {"best": np.float64(0.5)}, "optimizer": {"state": {0: {"step": 3}}}},
        {**STATE, "meta": {"epoch": 60}, "optimizer": {"state": {}}},
    ],
    ids=["bare", "wrapped", "prefixed", "both", "mmcv", "bare and more"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_wrappers_come_off(content: Any, zipped: bool, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    file = read_tensor_file(str(tmp_path / "x.pth"))
    assert list(file.tensors) == list(STATE)
    assert all(torch.equal(file.tensors[key], value) for key, value in STATE.items())
    assert file.meta == content.get("meta", {})


def saved(content: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, **options)
    return out.getvalue()


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("readme.txt", "hello")
    return out.getvalue()


def program() -> bytes:
    out = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), out)
    return out.getvalue()


BAD: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "empty": (lambda _: b"", "is empty"),
    "text": (lambda _: b"hello world\n" * 20, "not a PyTorch checkpoint"),
    "zip": (lambda _: archive(), "not a PyTorch checkpoint"),
    "truncated": (lambda _: saved(STATE)[:-60], "is truncated"),
    "truncated early": (lambda _: saved(STATE)[:40], "is truncated"),
    "old format truncated": (lambda _: saved(STATE, _use_new_zipfile_serialization=False)[:-4], "is truncated"),
    "code in meta": (lambda trap: saved({"state_dict": STATE, "meta": Trap(trap)}), r"holds _?io\.open.*nothing of it"),
    "code among tensors": (lambda trap: saved({**STATE, "b": Trap(trap)}), r"holds _?io\.open"),
    "code, old format": (lambda trap: saved(Trap(trap), _use_new_zipfile_serialization=False), r"holds _?io\.open"),
    "code in a plain pickle": (lambda trap: pickle.dumps(Trap(trap)), "is a pickle, but no checkpoint"),
    "code in an old pickle": (lambda trap: pickle.dumps(Trap(trap), 2), "nothing of it was executed"),
    "a module": (lambda _: saved(torch.nn.Linear(2, 2)), "holds torch.nn.modules.linear.Linear"),
    "torchscript": (lambda _: program(), "TorchScript"),
    "a list": (lambda _: saved([STATE]), "holds a list"),
    "a tensor": (lambda _: saved(torch.zeros(2)), "holds a Tensor"),
    "no tensors": (lambda _: saved({"state_dict": {}}), "holds no tensor"),
    "numbers": (
        lambda _: saved({"state_dict": {**STATE, "lr": 0.1, "name": "x"}}),
        "more than named tensors: 'lr', 'name'",
    ),
    "odd keys": (lambda _: saved({**STATE, 3: torch.zeros(1)}), "more than named tensors: 3"),
    "sparse": (lambda _: saved({"a": torch.eye(3).to_sparse()}), "more than named tensors: 'a'"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore")
def test_anything_else_is_one_sentence_and_runs_nothing(case: str, tmp_path: Path) -> None:
    make, expected = BAD[case]
    path, trap = tmp_path / "x.pth", tmp_path / "trap"
    path.write_bytes(make(trap))
    with pytest.raises(InputError, match=expected) as raised:
        read_tensor_file(str(path))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not trap.exists()


def test_the_trap_works(tmp_path: Path) -> None:
    """Else the tests above would prove nothing."""
    pickle.loads(pickle.dumps(Trap(tmp_path / "trap"))).close()
    assert (tmp_path / "trap").exists()


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pth does not exist"):
        read_tensor_file(str(tmp_path / "none.pth"))
    with pytest.raises(InputError, match="is a folder"):
        read_tensor_file(str(tmp_path))
