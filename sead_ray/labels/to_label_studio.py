"""Label Studio: boxes in the six images of a frame. It knows no cuboids, so what it returns cannot train VAD: it is for
review, and for marking what is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import quoteattr

from sead_ray.labels.sources import CATEGORIES, Sources
from sead_ray.labels.task import LabelTask
from sead_ray.records import CAMERAS
from sead_ray.storage import Store

LOCAL_FILES = "/data/local-files/?d="  # below LOCAL_FILES_DOCUMENT_ROOT, which then is the data root
_ROLES = {False: "Label every object.", True: "Context only: do not label."}


def export_label_studio(tasks: Iterable[LabelTask], target: Store, sources: Sources) -> list[str]:
    """`labeling_config.xml` of the project, and `tasks.json` to import: one task a frame, in order of time."""
    base = sources.images_at or (LOCAL_FILES if sources.data.is_local else f"{sources.data.root}/")
    rows = [
        {
            "data": {
                "title": f"{task.clip.name}, frame {item.index}",
                "role": _ROLES[item.is_context],
                "is_context": item.is_context,
                "frame_token": item.frame.token,
                "clip_token": task.clip.clip_token,
                **{camera.name: base + camera.key for camera in item.frame.cameras},
            }
        }
        for task in tasks
        for item in task.frames
    ]
    target.write_json("tasks.json", rows)
    target.write_bytes("labeling_config.xml", labeling_config().encode())
    return ["labeling_config.xml", "tasks.json"]


def labeling_config() -> str:
    """A view of six images, each with rectangles of nuScenes' categories."""
    parts = ["<View>", '  <Header value="$title"/>', '  <Header value="$role" size="5"/>']
    for name in CAMERAS:
        labels = "".join(f"<Label value={quoteattr(category)}/>" for category in CATEGORIES)
        parts.append(f'  <View><Header value={quoteattr(name)} size="6"/><Image name="{name}" value="${name}"/>')
        parts.append(f'    <RectangleLabels name="{name}_boxes" toName="{name}">{labels}</RectangleLabels></View>')
    return "\n".join([*parts, "</View>", ""])
