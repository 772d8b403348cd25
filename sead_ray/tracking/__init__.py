"""A run's numbers for people and their tools: JSON lines in the run folder, TensorBoard, MLflow.

`tracker.py` is what each of them does; `open_trackers` makes those that `track.to` names.
"""

from sead_ray.tracking.opening import open_trackers
from sead_ray.tracking.tracker import Checkpoint, RoundRecord, Tracker

__all__ = ["Checkpoint", "RoundRecord", "Tracker", "open_trackers"]
