"""Strategies by name: ours, and those of a user's own module as `module:function`."""

from __future__ import annotations

import importlib

from sead_ray.errors import InputError
from sead_ray.selection.activead import select as _activead
from sead_ray.selection.activeft import select as _activeft
from sead_ray.selection.coreset import select as _coreset
from sead_ray.selection.ego_diversity import select as _ego_diversity
from sead_ray.selection.pool import Strategy
from sead_ray.selection.random_clips import select as _random
from sead_ray.selection.random_frames import select as _random_frames
from sead_ray.selection.sead import select as _sead
from sead_ray.selection.sead_diverse import select as _sead_diverse
from sead_ray.selection.stratified import select as _stratified
from sead_ray.selection.vaal import select as _vaal
from sead_ray.selection.weighted import select as _weighted

INITIAL: dict[str, Strategy] = {
    "random": _random,
    "stratified": _stratified,
    "ego_diversity": _ego_diversity,
    "activeft": _activeft,
}
INCREMENTAL: dict[str, Strategy] = {
    "random": _random,
    "random_frames": _random_frames,
    "sead": _sead,
    "sead_diverse": _sead_diverse,
    "coreset": _coreset,
    "vaal": _vaal,
    "activeft": _activeft,
    "activead": _activead,
    "weighted": _weighted,
}
STRATEGIES: dict[str, Strategy] = {**INITIAL, **INCREMENTAL}

# What each strategy reads beside free data: scores of the round's model, or features of the starting backbone.
NEEDS_SCORES = frozenset({"sead", "sead_diverse", "coreset", "vaal", "activead", "weighted"})
NEEDS_START_FEATURES = frozenset({"activeft"})
# Those for which the features of labelled clips count: the labelled clips are scored too, and cannot be selected.
NEEDS_LABELLED = frozenset({"coreset", "vaal", "sead_diverse"})
NEEDS = {"scores": NEEDS_SCORES, "start_features": NEEDS_START_FEATURES, "labelled": NEEDS_LABELLED}


def strategy(name: str) -> Strategy:
    """One of `STRATEGIES`, or the function that `module:function` names, imported.

    Raises:
        InputError: it cannot be imported, or is no function.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise InputError(f"The strategy {name} cannot be imported ({error}).") from None
    if not callable(found):
        raise InputError(f"The strategy {name} is not a function.")
    return found


def needs(name: str) -> frozenset[str]:
    """Of "scores" (of the round's model), "start_features" (of the starting backbone) and "labelled" (the labelled
    clips' features): what the strategy reads beside free data. A user's own says so in its attribute `needs`; without
    it, scores.

    Raises:
        InputError: it cannot be imported, or names something else.
    """
    if name in STRATEGIES:
        return frozenset(what for what, names in NEEDS.items() if name in names)
    wanted = frozenset(getattr(strategy(name), "needs", ("scores",)))
    if unknown := sorted(wanted - set(NEEDS)):
        raise InputError(f"The strategy {name} needs {unknown[0]!r}, which is none of {', '.join(NEEDS)}.")
    return wanted
