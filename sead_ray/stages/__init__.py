"""The stages of a run, on Ray. The only part of sead_ray that imports ray."""
