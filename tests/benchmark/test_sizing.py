"""Hours from rates, by hand."""

from __future__ import annotations

from pathlib import Path

from sead_ray.benchmark.sizing import Sizing, sizing_tables


def test_hours_are_frames_over_rate_and_gpus() -> None:
    text = sizing_tables(Sizing(scoring_fps=[100.0], training_fps=[], clips=[9000, 10], gpus=[1, 2], efficiency=0.5))
    assert text.splitlines()[0] == "| score: clips (frames) | 1 GPU | 2 GPUs |"
    # 360,000 frames at 100 a second are an hour; two GPUs at half their pace are as one
    assert text.splitlines()[2:] == [
        "| 9,000 (360,000) | 60 min | 60 min |",
        "| 10 (400) | under 1 min | under 1 min |",
    ]


def test_the_slowest_and_the_fastest_rate_and_training() -> None:
    text = sizing_tables(Sizing(scoring_fps=[200.0, 50.0, 100.0], training_fps=[40.0], clips=[9000], gpus=[1]))
    scoring, training = text.split("\n\n")
    assert scoring.splitlines()[-1] == "| 9,000 (360,000) | 0.5–2.0 h |"
    assert training.splitlines()[-1] == "| 9,000 (360,000) | 50 h |"  # 20 epochs


def test_the_page_on_clusters_shows_the_tables_of_the_measured_rates(repository: Path) -> None:
    """After new figures in `sizing.py`: python -m jobs.size_cluster, into the page."""
    page = (repository / "docs" / "clusters.md").read_text("utf-8")
    for table in sizing_tables(Sizing()).split("\n\n"):
        assert table in page
