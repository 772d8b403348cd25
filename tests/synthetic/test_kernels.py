"""Compiled code: once a machine, whoever comes first; in memory where nothing may be written."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sead_ray.synthetic import kernels
from sead_ray.synthetic.kernels import once_a_machine


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kernels, "cache_folder", lambda: tmp_path)
    return tmp_path


def test_a_part_is_compiled_once_by_whoever_comes_first(folder: Path) -> None:
    compiled = []

    def part() -> None:
        time.sleep(0.2)
        compiled.append(threading.get_ident())

    workers = [threading.Thread(target=once_a_machine, args=("goals", part, True)) for _ in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(compiled) == 1
    assert once_a_machine("goals", part, wait=False)
    assert len(compiled) == 1


def test_a_part_that_somebody_is_at_is_left_alone(folder: Path) -> None:
    with kernels.machine_lock("wishes"):
        assert not once_a_machine("wishes", pytest.fail, wait=False)
    done: list[int] = []
    assert once_a_machine("wishes", lambda: done.append(1), wait=False)
    assert done == [1]


def test_a_part_whose_compiler_died_is_taken_over(folder: Path) -> None:
    def dies() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        once_a_machine("run", dies, wait=True)
    done: list[int] = []
    assert once_a_machine("run", lambda: done.append(1), wait=True)
    assert done == [1]


IN_MEMORY = """
from numba.core import caching
for implementation in (caching.CacheImpl, *caching.CacheImpl.__subclasses__()):
    implementation._locator_classes = []  # as where no folder can be written to
from sead_ray.synthetic.kernels import cache_folder, refresh_kernels
from sead_ray.synthetic.rehearsal import compile_kernels
from sead_ray.synthetic.yielding import signal_state
compile_kernels()
assert cache_folder() is None
print([int(signal_state(0, 0.0, float(time))) for time in (1, 10, 20)])
"""


def test_without_a_folder_to_write_to_code_is_compiled_in_memory() -> None:
    done = subprocess.run([sys.executable, "-c", IN_MEMORY], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.strip() == "[0, 1, 2]", done.stderr


OTHER_FOLDER = """
import pathlib, sys
from sead_ray.synthetic.kernels import cache_folder, refresh_kernels
from sead_ray.synthetic.yielding import signal_state
refresh_kernels()
signal_state(0, 0.0, 1.0)
assert pathlib.Path(sys.argv[1]) in cache_folder().parents, cache_folder()
print(len(list(cache_folder().glob("*signal_state*.nbi"))))
"""


def test_numba_cache_dir_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    command = [sys.executable, "-c", OTHER_FOLDER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.strip() == "1", done.stderr
