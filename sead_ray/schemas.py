"""The Parquet schemas of the records that stages hand each other, and the check of a file against one.

Every schema carries `schema_version`; readers refuse a newer one. Units stand in the column names.
"""

from __future__ import annotations

import pyarrow as pa

from sead_ray.errors import InputError

SCHEMA_VERSION = 4

_POSE = pa.list_(pa.float64(), 7)  # x, y, z in m, then quaternion w, x, y, z
_CAMERA = pa.struct(
    [
        ("name", pa.string()),
        ("key", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("timestamp_us", pa.int64()),
        ("intrinsics", pa.list_(pa.float64(), 9)),
        ("ego_from_camera", _POSE),
        ("global_from_ego", _POSE),
    ]
)
_FRAME = pa.struct(
    [
        ("token", pa.string()),
        ("timestamp_us", pa.int64()),
        ("global_from_ego", _POSE),
        ("ego_from_lidar", _POSE),
        ("can_bus", pa.list_(pa.float64(), 18)),
        ("ego_state", pa.list_(pa.float64(), 9)),
        ("command", pa.int8()),
        ("cameras", pa.list_(_CAMERA)),
    ]
)
_VERSION = ("schema_version", pa.int32())
# Columns that came with a later version (2: the attribute, the ego state; 3: each shift's own sum, the BEV's, who is
# selectable; 4: the plan), without which older files stay readable.
LATER_COLUMNS = frozenset(
    {
        "annotations.attribute",
        "frames.ego_state",
        "shift_agents_sum",
        "shift_map_sum",
        "shift_bev",
        "shift_bev_sum",
        "selectable",
        "plan_m",
    }
)

CLIP_SCHEMA = pa.schema(
    [
        _VERSION,
        ("clip_token", pa.string()),
        ("name", pa.string()),
        ("log_token", pa.string()),
        ("location", pa.string()),
        ("split", pa.string()),
        ("description", pa.string()),
        ("is_night", pa.bool_()),
        ("is_rainy", pa.bool_()),
        ("behaviour", pa.string()),
        ("acc_std_mps2", pa.float64()),
        ("yaw_sum_rad", pa.float64()),
        ("dynamics_source", pa.string()),
        ("frames", pa.list_(_FRAME)),
    ]
)
LABEL_SCHEMA = pa.schema(
    [
        _VERSION,
        ("frame_token", pa.string()),
        ("clip_token", pa.string()),
        ("timestamp_us", pa.int64()),
        (
            "annotations",
            pa.list_(
                pa.struct(
                    [
                        ("instance_token", pa.string()),
                        ("category", pa.string()),
                        ("category_index", pa.int32()),
                        ("translation_m", pa.list_(pa.float64(), 3)),
                        ("size_wlh_m", pa.list_(pa.float64(), 3)),
                        ("rotation_wxyz", pa.list_(pa.float64(), 4)),
                        ("n_lidar_points", pa.int32()),
                        ("n_radar_points", pa.int32()),
                        ("attribute", pa.string()),
                    ]
                )
            ),
        ),
        ("map_vectors", pa.list_(pa.struct([("map_class", pa.int8()), ("points_m", pa.list_(pa.float64()))]))),
    ]
)
SCORE_SCHEMA = pa.schema(
    [
        _VERSION,
        ("clip_token", pa.string()),
        ("model_version", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("n_frames", pa.int32()),
        ("dt_s", pa.float64()),
        ("shift_agents", pa.list_(pa.float64())),
        ("shift_map", pa.list_(pa.float64())),
        ("n_transitions", pa.int32()),
        ("shift_sum", pa.float64()),
        ("shift_mean", pa.float64()),
        ("min_distance_m", pa.list_(pa.float64())),
        ("is_key", pa.list_(pa.bool_())),
        ("key_start", pa.int32()),
        ("key_length", pa.int32()),
        ("max_confidence", pa.float64()),
        ("embedding", pa.list_(pa.float32())),
        ("displacement_error_m", pa.float64()),
        ("soft_collision", pa.float64()),
        ("agent_uncertainty", pa.float64()),
        ("shift_agents_sum", pa.float64()),
        ("shift_map_sum", pa.float64()),
        ("shift_bev", pa.list_(pa.float64())),
        ("shift_bev_sum", pa.float64()),
        ("selectable", pa.bool_()),
        ("plan_m", pa.list_(pa.float32())),
    ]
)
FEATURE_SCHEMA = pa.schema(
    [
        _VERSION,
        ("clip_token", pa.string()),
        ("model_version", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("n_frames", pa.int32()),
        ("embedding", pa.list_(pa.float32())),
        ("front_image", pa.binary()),
    ]
)
SELECTION_SCHEMA = pa.schema(
    [
        _VERSION,
        ("round", pa.int32()),
        ("clip_token", pa.string()),
        ("frame_start", pa.int32()),
        ("frame_stop", pa.int32()),
        ("rank", pa.int32()),
        ("score", pa.float64()),
        ("stratum", pa.string()),
        ("reason", pa.string()),
        ("n_frames_bought", pa.int32()),
    ]
)


def check_schema(table_schema: pa.Schema, expected: pa.Schema, versions: set[int], path: str) -> None:
    """Raises `InputError` where a Parquet file is not of the expected schema, or newer than this program."""
    if versions and max(versions) > SCHEMA_VERSION:
        raise InputError(
            f"{path} has schema version {max(versions)}, newer than the {SCHEMA_VERSION} that this release reads: "
            "upgrade sead_ray."
        )
    missing, other = [], []
    _compare(pa.struct(table_schema), pa.struct(expected), "", missing, other)
    if missing:
        raise InputError(f"{path} lacks the column(s) {', '.join(missing)}.")
    if other:
        raise InputError(f"{path} holds another type than expected in the column(s) {', '.join(other)}.")


def _compare(found: pa.DataType, expected: pa.DataType, name: str, missing: list[str], other: list[str]) -> None:
    """Collects columns that `found` lacks and those of another kind; widths of numbers and lists may differ."""
    if pa.types.is_struct(expected) and pa.types.is_struct(found):
        for field_ in expected:
            inner = f"{name}.{field_.name}" if name else field_.name
            index = found.get_field_index(field_.name)
            if index < 0:
                if inner not in LATER_COLUMNS:
                    missing.append(inner)
            else:
                _compare(found.field(index).type, field_.type, inner, missing, other)
    elif _kind(expected) == _kind(found) == "list":
        _compare(found.value_type, expected.value_type, name, missing, other)
    elif _kind(expected) != _kind(found):
        other.append(name)


def _kind(kind: pa.DataType) -> str:
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "list"
    if types.is_string(kind) or types.is_large_string(kind):
        return "string"
    if types.is_integer(kind) or types.is_floating(kind):
        return "number"
    return str(kind)
