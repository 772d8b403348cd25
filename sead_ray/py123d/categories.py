"""Labels of py123d's data sets as nuScenes' categories, by their numbers there (`py123d.parser.registry`, 0.7.0).

A data set that tells no more than "vehicle" gives cars. Traffic signs, lights and the ego itself are no objects here.
"""

from __future__ import annotations

from sead_ray.errors import InputError

_CAR, _TRUCK, _BUS = "vehicle.car", "vehicle.truck", "vehicle.bus.rigid"
_BUILDER, _TRAILER, _MOTORCYCLE, _BICYCLE = (
    "vehicle.construction",
    "vehicle.trailer",
    "vehicle.motorcycle",
    "vehicle.bicycle",
)
_ADULT, _WORKER, _STROLLER = (
    "human.pedestrian.adult",
    "human.pedestrian.construction_worker",
    "human.pedestrian.stroller",
)
_MOBILITY, _WHEELCHAIR = "human.pedestrian.personal_mobility", "human.pedestrian.wheelchair"
_CONE, _BARRIER, _DEBRIS = "movable_object.trafficcone", "movable_object.barrier", "movable_object.debris"
_PUSHABLE, _ANIMAL = "movable_object.pushable_pullable", "animal"

_TABLES: dict[str, list[str | None]] = {
    "DefaultBoxDetectionLabel": [
        *(None, _CAR, None, _BICYCLE, _ADULT, _ANIMAL, None, _CONE, None, _BARRIER, _PUSHABLE, None),
    ],
    "NuScenesBoxDetectionLabel": [
        *(_CAR, _TRUCK, "vehicle.bus.bendy", _BUS, _BUILDER, "vehicle.emergency.ambulance"),
        *("vehicle.emergency.police", _TRAILER, _BICYCLE, _MOTORCYCLE, _ADULT, "human.pedestrian.child", _WORKER),
        *(_MOBILITY, "human.pedestrian.police_officer", _STROLLER, _WHEELCHAIR, _CONE, _BARRIER, _PUSHABLE, _DEBRIS),
        *("static_object.bicycle_rack", _ANIMAL),
    ],
    "NuPlanBoxDetectionLabel": [_CAR, _BICYCLE, _ADULT, _CONE, _BARRIER, None, _PUSHABLE],
    "NureasoningBoxDetectionLabel": [
        *(_CAR, _BICYCLE, _ADULT, _CONE, None, _PUSHABLE, None, _TRUCK, _BUS, _MOTORCYCLE, _BICYCLE, _ADULT, _CONE),
    ],
    "PandasetBoxDetectionLabel": [
        *(_ANIMAL, _ANIMAL, _BICYCLE, _BUS, _CAR, _CONE, None, _CAR, _TRUCK, _MOTORCYCLE, _MOBILITY, _BUILDER),
        *(_BICYCLE, _CAR, _ADULT, _ADULT, _MOBILITY, _TRUCK, _CONE, _BARRIER, _PUSHABLE, _TRUCK, None, _BARRIER),
        *(_TRAILER, None, None),
    ],
    "AV2SensorBoxDetectionLabel": [
        *(_ANIMAL, "vehicle.bus.bendy", _BICYCLE, _ADULT, _BARRIER, _TRUCK, _BUS, _CONE, _CONE, _ANIMAL, _TRUCK),
        *(_TRAILER, None, _MOTORCYCLE, _ADULT, _ADULT, _ADULT, None, _CAR, _BUS, None, None, _STROLLER, _TRAILER),
        *(_TRUCK, _TRUCK, _TRAILER, _WHEELCHAIR, _MOBILITY, _MOBILITY),
    ],
}


def category_table(label_class: str, owner: str) -> list[str | None]:
    """nuScenes category of each label number, None for what is no object.

    Args:
        label_class: name of py123d's class of labels, dotted or bare.

    Raises:
        InputError: labels of a data set that is not known here; names the `owner`.
    """
    name = label_class.rpartition(".")[2]
    if name not in _TABLES:
        raise InputError(f"{owner} has labels of {name!r}: known are {', '.join(_TABLES)}.")
    return _TABLES[name]
