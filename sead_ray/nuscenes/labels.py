"""The oracle: what annotators deliver for a key frame, read from the annotation tables and the map expansion.

Apart from `clips`, so that selecting and scoring work, and give the same, with these files deleted.
"""

from __future__ import annotations

from functools import cached_property

from sead_ray.errors import InputError
from sead_ray.nuscenes.map_vectors import LocationMap, load_location_map, map_vectors
from sead_ray.nuscenes.tables import Row, Table, TableSource, check_unit, numbers_of, partner, read_table
from sead_ray.records import OBJECT_CATEGORIES, Annotation, Clip, FrameLabels
from sead_ray.storage import Store

# By name, since the older category table of 23 rows has another order.
_CATEGORY_INDEX = {name: index for index, name in enumerate(OBJECT_CATEGORIES)}


class LabelReader:
    """Annotation tables and maps of a folder, each read at its first use and kept."""

    def __init__(
        self,
        store: Store,
        version: str,
        tables: TableSource | None = None,
        maps: dict[str, LocationMap] | None = None,
    ) -> None:
        """`tables`: where the tables are, if not in `store`; `maps`: loaded ones by location, to be shared."""
        if version.endswith("-test"):
            raise InputError(f"{version} holds no annotations: with labels.mode=wait annotators deliver them.")
        self._store = store
        self._tables: TableSource = tables or store
        self._version = version
        self._maps = {} if maps is None else maps

    def labels(self, clip: Clip) -> list[FrameLabels]:
        """Labels of every key frame of a clip, in its order."""
        if clip.location not in self._maps:
            self._maps[clip.location] = load_location_map(self._store, clip.location, f"log {clip.log_token}")
        location_map = self._maps[clip.location]
        return [
            FrameLabels(
                frame_token=frame.token,
                clip_token=clip.clip_token,
                timestamp_us=frame.timestamp_us,
                annotations=tuple(self._annotation(row) for row in self._annotations.get(frame.token, ())),
                map_vectors=map_vectors(location_map, frame.global_from_lidar),
            )
            for frame in clip.frames
        ]

    @cached_property
    def _annotations(self) -> dict[str, list[Row]]:
        """Sample token -> its annotation rows, in the table's order."""
        samples = read_table(self._tables, self._version, "sample")
        by_sample: dict[str, list[Row]] = {}
        seen: dict[tuple[str, str], str] = {}
        for token, row in read_table(self._tables, self._version, "sample_annotation").items():
            partner(samples, "sample", row["sample_token"], f"sample_annotation {token}")
            other = seen.setdefault((row["sample_token"], row["instance_token"]), token)
            if other != token:
                raise InputError(
                    f"sample_annotation {other} and {token} are of the same instance in sample {row['sample_token']}."
                )
            by_sample.setdefault(row["sample_token"], []).append(row)
        return by_sample

    @cached_property
    def _instances(self) -> Table:
        return read_table(self._tables, self._version, "instance")

    @cached_property
    def _categories(self) -> Table:
        return read_table(self._tables, self._version, "category")

    @cached_property
    def _attributes(self) -> Table:
        exists = self._tables.exists(f"{self._version}/attribute.json")
        return read_table(self._tables, self._version, "attribute") if exists else {}

    def _attribute(self, row: Row, owner: str) -> str:
        """Name of the attribute; empty where there is none. Evaluation needs it, training does not."""
        tokens = row["attribute_tokens"]
        if len(tokens) != 1 or not self._attributes:  # nuScenes gives at most one
            return ""
        return partner(self._attributes, "attribute", tokens[0], owner)["name"]

    def _annotation(self, row: Row) -> Annotation:
        owner = f"sample_annotation {row['token']}"
        instance = partner(self._instances, "instance", row["instance_token"], owner)
        category = partner(
            self._categories, "category", instance["category_token"], f"instance {row['instance_token']}"
        )["name"]
        if category not in _CATEGORY_INDEX:
            raise InputError(f"Category {category!r} of {owner} is not one of nuScenes'.")
        numbers = numbers_of(row, {"translation": 3, "size": 3, "rotation": 4}, owner)
        x, y, z, width, length, height, qw, qx, qy, qz = numbers
        check_unit((qw, qx, qy, qz), owner)
        if min(width, length, height) <= 0:
            raise InputError(f"{owner} has a size that is not positive.")
        return Annotation(
            instance_token=row["instance_token"],
            category=category,
            category_index=_CATEGORY_INDEX[category],
            translation_m=(x, y, z),
            size_wlh_m=(width, length, height),
            rotation_wxyz=(qw, qx, qy, qz),
            n_lidar_points=int(row["num_lidar_pts"]),
            n_radar_points=int(row["num_radar_pts"]),
            attribute=self._attribute(row, owner),
        )
