"""Labels on their way out to annotation tools and back in: what is asked for, files of each tool, checks, differences.

Pure Python on records and files; the jobs reach it through `sead_ray.stages.labels_out` and `labels_in`.
"""
