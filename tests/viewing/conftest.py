from tests.labels.conftest import sources, truth, world_clip, world_folder  # noqa: F401
