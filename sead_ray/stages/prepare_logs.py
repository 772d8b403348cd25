"""Preparation of py123d's logs: as of nuScenes' scenes, but a log may hold many clips, and needs no index."""

from __future__ import annotations

from collections.abc import Sequence

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.py123d.arrow_log import BOXES, MAP, ArrowLog
from sead_ray.py123d.folder import Py123dFolder
from sead_ray.stages import layout
from sead_ray.stages.image_check import parts_to_verify, verify_clips
from sead_ray.stages.log_workers import make_log_clips, make_log_labels
from sead_ray.stages.preparation import make_parts, part_keys, publish_clips, publish_labels
from sead_ray.stages.progress import say
from sead_ray.storage import Store

Role = str
_OF_LABELS = (BOXES, MAP)  # modalities that clips know nothing of


def prepare_logs(run: Store, config: RunConfig, verify: bool) -> None:
    """Publishes clips and labels of the logs of pool and val, as `prepare` does of scenes.

    Raises:
        InputError: a log without six cameras or an ego pose, a missing image, boxes that are none; names the culprit.
    """
    folder = Py123dFolder(config.data)
    folder.check_logs_disjoint()
    logs: list[tuple[ArrowLog, Role]] = [(log, "pool") for log in folder.pool_logs()]
    logs += [(log, "val") for log in folder.val_logs()]
    if not run.is_published(layout.CLIPS):
        _publish_clips(run, config, logs, folder, verify)
    if not run.is_published(layout.LABELS):
        wanted = [(log, role) for log, role in logs if config.labels.mode == "oracle" or role == "val"]
        _publish_labels(run, config, wanted, folder)


def _publish_clips(
    run: Store, config: RunConfig, logs: Sequence[tuple[ArrowLog, Role]], folder: Py123dFolder, verify: bool
) -> None:
    stamps = [{name: stamp for name, stamp in folder.stamps(log).items() if name not in _OF_LABELS} for log, _ in logs]
    digests = [str((verify, of_log)) for of_log in stamps]  # a verifying run leaves the images to `verify_clips`
    parts = part_keys("clips", config, [(log.key, role) for log, role in logs], [digests])
    rows = [
        {"log": log.key, "role": role, "part": part, "check_images": not verify}
        for (log, role), part in zip(logs, parts, strict=True)
    ]
    faults: dict[str, str] = {}
    distorted = 0
    for answer in make_parts(run, config, "clips", make_log_clips, rows, []):
        if answer["error"] and not verify:
            raise InputError(answer["error"])
        if answer["error"]:
            faults[answer["part"]] = answer["error"]
        distorted += answer["is_distorted"]
    if distorted:
        say(f"prepare: the images of {distorted} log(s) are distorted; they are projected by their intrinsics alone")
    if verify:
        verify_clips(run, config, parts_to_verify(run, [(log.key, log.name) for log, _ in logs], parts, faults))
    publish_clips(run, parts)


def _publish_labels(run: Store, config: RunConfig, logs: Sequence[tuple[ArrowLog, Role]], folder: Py123dFolder) -> None:
    digests = [str((folder.stamps(log), folder.map_stamps)) for log, _ in logs]
    parts = part_keys("labels", config, [(log.key, role) for log, role in logs], [digests])
    rows = [{"log": log.key, "part": part} for (log, _), part in zip(logs, parts, strict=True)]
    without_map = 0
    for answer in make_parts(run, config, "labels", make_log_labels, rows, []):
        if answer["error"]:
            raise InputError(answer["error"])
        without_map += not answer["has_map"]
    if without_map:
        say(f"prepare: {without_map} of {len(logs)} log(s) have no map below logs/ or maps/: no map vectors there")
    publish_labels(run, parts)
