"""A folder of py123d's logs, and which of them a split holds."""

from __future__ import annotations

from functools import cached_property

from sead_ray.config import DataConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.splits import SPLITS_FILE, Split, is_list, listed_names, name_of, read_splits
from sead_ray.py123d.arrow_log import ArrowLog
from sead_ray.storage import Store

LOGS, MAPS, SENSORS = "logs", "maps", "sensors"


class Py123dFolder:
    """What py123d calls its data root: logs/<split>/<log>/*.arrow, maps/<data set>/*.arrow.

    Raises:
        InputError: at the constructor where there is no log; later for a split that is not there, by its name.
    """

    def __init__(self, data: DataConfig) -> None:
        self.data = data
        self.store = Store(data.root)
        if not self._folders:
            raise InputError(
                f"{self.store.path(LOGS)} holds no log: data.root must name py123d's data root, with logs/<split>/"
                "<log>/sync.arrow below it."
            )

    def stamps(self, log: ArrowLog) -> dict[str, str]:
        """Modality -> stamp of each Arrow file of the log: whether it is still the one that was read."""
        return self._folders[log.key]

    @cached_property
    def map_stamps(self) -> dict[str, str]:
        """The same of the maps that logs share, by their keys."""
        return self.store.find(MAPS, ".arrow")

    @cached_property
    def _folders(self) -> dict[str, dict[str, str]]:
        """Every log's folder, and its files."""
        found: dict[str, dict[str, str]] = {}
        for key, stamp in self.store.find(LOGS, ".arrow").items():
            folder, _, file = key.rpartition("/")
            found.setdefault(folder, {})[file.removesuffix(".arrow")] = stamp
        return {folder: files for folder, files in found.items() if "sync" in files and folder.count("/") >= 2}

    def logs(self, split: Split) -> list[ArrowLog]:
        """Logs of the split, by name. A name is that of a split in splits.json, of a folder below logs/, or of all
        folders that end in it ("train": nuplan_train, …)."""
        own = read_splits(self.store, SPLITS_FILE) if self.store.exists(SPLITS_FILE) else {}
        if isinstance(split, str) and not is_list(split) and split not in own:
            return self._in_folders(split)
        names = set(listed_names(split if is_list(split) else own[str(split)]))
        by_name: dict[str, list[str]] = {}
        for folder in self._folders:
            by_name.setdefault(folder.rpartition("/")[2], []).append(folder)
        if missing := sorted(names - by_name.keys()):
            raise InputError(f"Log {missing[0]!r}, which {name_of(split)} names, is not in {self.store.path(LOGS)}.")
        return self._once([folder for name in sorted(names) for folder in by_name[name]])

    def pool_logs(self) -> list[ArrowLog]:
        return self.logs(self.data.pool_split)

    def val_logs(self) -> list[ArrowLog]:
        """None where `data.val_split` is null."""
        return [] if self.data.val_split is None else self.logs(self.data.val_split)

    def check_logs_disjoint(self) -> None:
        """Refuses a log that is in both pool and val; of one log, `data.allow_shared_logs` admits nothing."""
        shared = sorted({log.name for log in self.pool_logs()} & {log.name for log in self.val_logs()})
        if shared:
            raise InputError(f"Log {shared[0]} is in both the pool and val.")

    def _in_folders(self, split: str) -> list[ArrowLog]:
        splits = {folder.split("/")[1] for folder in self._folders}
        endings = (f"_{split}", f"-{split}")
        chosen = {split} if split in splits else {name for name in splits if name.endswith(endings)}
        if not chosen:
            known = ", ".join(sorted(splits))
            raise InputError(f"Split {split!r} is not a folder below {self.store.path(LOGS)}: known are {known}.")
        return self._once([folder for folder in self._folders if folder.split("/")[1] in chosen])

    def _once(self, folders: list[str]) -> list[ArrowLog]:
        """By name; the same log from two folders (nuPlan at two rates, say) would be bought twice."""
        found: dict[str, str] = {}
        for folder in folders:
            name = folder.rpartition("/")[2]
            if (other := found.setdefault(name, folder)) != folder:
                raise InputError(f"Log {name} is in {other} and in {folder}: name the split's folder.")
        return [ArrowLog(self.store, found[name]) for name in sorted(found)]
