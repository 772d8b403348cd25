"""A file's tensors against the ones that a network needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from sead_ray.errors import InputError

NAMED_IN_SENTENCE = 40  # differences; of more, the sentence names the first few and a listing names all
FIRST_FEW = 5


@dataclass(frozen=True)
class KeyDifference:
    """Names that the network has and the file lacks, the reverse, and (name, how it differs)."""

    missing: list[str]
    unknown: list[str]
    other: list[tuple[str, str]]
    n_common: int

    def __len__(self) -> int:
        return len(self.missing) + len(self.unknown) + len(self.other)

    def error(self, source: str, network: str) -> InputError:
        """A sentence that names every key; of very many the first few, and all in the listing."""
        if not self.n_common:
            held = _names([repr(name) for name in self.unknown], NAMED_IN_SENTENCE)
            return InputError(f"{source} is not {network}: it holds none of its tensors, but {held}.")
        shown = len(self) if len(self) <= NAMED_IN_SENTENCE else FIRST_FEW
        lists = (
            ("lacks", [repr(name) for name in self.missing]),
            ("holds the unknown", [repr(name) for name in self.unknown]),
            ("differs in", [f"{name!r} ({how})" for name, how in self.other]),
        )
        parts = [f"{verb} {_names(names, shown)}" for verb, names in lists if names]
        error = InputError(f"{source} is not {network}: it {'; '.join(parts)}.")
        if len(self) > NAMED_IN_SENTENCE:
            error.listing = tuple(f"{verb} {name}" for verb, names in lists for name in names)
        return error


def _names(names: list[str], shown: int) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    count = f"{len(names)} keys: " if len(names) > 1 else ""
    return count + ", ".join(names[:shown]) + rest


def compare_keys(needed: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> KeyDifference:
    """Differences in names, shapes and kind of number (floating or not; its width may differ)."""
    missing = [name for name in needed if name not in given]
    unknown = [name for name in given if name not in needed]
    other = []
    for name, value in needed.items():
        if name not in given:
            continue
        found = given[name]
        if found.shape != value.shape:
            other.append((name, f"shape {tuple(found.shape)}, not {tuple(value.shape)}"))
        elif found.is_floating_point() != value.is_floating_point() or found.is_complex():
            other.append((name, f"{_kind(found)}, not {_kind(value)}"))
    return KeyDifference(missing, unknown, other, len(needed) - len(missing))


def check_keys(needed: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str, network: str) -> None:
    """Raises `InputError` where `given`, of `source`, is not what `network` needs; names all keys."""
    if difference := compare_keys(needed, given):
        raise difference.error(source, network)


def _kind(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
