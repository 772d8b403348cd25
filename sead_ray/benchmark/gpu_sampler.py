"""What nvidia-smi says of the GPUs while something runs."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass, field

EVERY_MS = 250
_QUERY = "index,utilization.gpu,memory.used"


@dataclass
class GpuSampler:
    """Use as a context manager. Without nvidia-smi there are no samples.

    Attributes:
        samples: (time.time(), GPU, utilisation in percent, memory in use in MiB).
    """

    samples: list[tuple[float, int, float, float]] = field(default_factory=list)

    def __enter__(self) -> GpuSampler:
        self._process: subprocess.Popen[str] | None = None
        if shutil.which("nvidia-smi"):
            command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits", f"-lms={EVERY_MS}"]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(ValueError):  # "[N/A]" where a driver does not tell
                index, busy, memory = (float(value) for value in line.split(","))
                self.samples.append((time.time(), int(index), busy, memory))

    def summary(self, start_s: float, stop_s: float) -> dict[str, float]:
        """Mean utilisation of the GPUs in use, and the largest memory of one, between two times; {} without samples.

        A GPU counts as in use where it was busy at all in that time.
        """
        by_gpu: dict[int, list[tuple[float, float]]] = {}
        for moment, gpu, busy, memory in self.samples:
            if start_s <= moment <= stop_s:
                by_gpu.setdefault(gpu, []).append((busy, memory))
        used = [values for values in by_gpu.values() if any(busy for busy, _ in values)]
        if not used:
            return {}
        return {
            "utilisation_percent": statistics.mean(busy for values in used for busy, _ in values),
            "memory_gib": max(memory for values in used for _, memory in values) / 1024,
        }
