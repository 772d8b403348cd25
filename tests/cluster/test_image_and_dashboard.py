"""The image's recipe holds what the nodes need and no more; the dashboard draws metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sead_ray.stages.metrics import METRICS


@pytest.fixture
def recipe(repository: Path) -> list[str]:
    text = (repository / "cluster" / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_packages_are_pinned_and_the_user_has_no_rights(recipe: list[str]) -> None:
    installs = [part for line in recipe for part in line.split("&&") if "pip install" in part]
    assert installs
    assert all("-c constraints.txt" in part for part in installs)
    assert [line for line in recipe if line.startswith("USER ")] == ["USER 1000"]
    assert any("RAY_AUTH_MODE=token" in line for line in recipe)
    assert sum(line.startswith("FROM ") for line in recipe) == 2
    assert "WORKDIR /app" in recipe  # the Kubernetes files name configurations below it


def test_what_the_image_imports_while_it_is_built_can_be_imported(recipe: list[str], repository: Path) -> None:
    (line,) = [line for line in recipe if line.startswith("RUN python -c ")]
    assert recipe.index(line) < recipe.index("USER 1000")  # who could not write beside the packages
    (statements,) = re.findall(r'^RUN python -c "([^"]+)"$', line)
    subprocess.run([sys.executable, "-c", statements], cwd=repository, check=True, timeout=300)


def test_what_is_copied_exists_and_nothing_else_reaches_the_build(recipe: list[str], repository: Path) -> None:
    copies = [line.split()[1:-1] for line in recipe if line.startswith("COPY ") and "--from" not in line]
    sources = {source for words in copies for source in words}
    assert all((repository / source).exists() for source in sources)
    ignored = (repository / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == sources


def test_python_and_extras_are_those_of_the_project(recipe: list[str], repository: Path) -> None:
    assert "ARG PYTHON=python:3.11-slim-bookworm" in recipe
    project = (repository / "pyproject.toml").read_text("utf-8")
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', "\n".join(recipe))
    assert all(f"\n{extra} = [" in project for extra in extras.split(","))
    pinned = (repository / "constraints.txt").read_text("utf-8")
    assert re.search(r"^boto3==", pinned, re.MULTILINE)


def test_the_dashboard_draws_every_metric_and_no_other(repository: Path) -> None:
    dashboard = json.loads((repository / "cluster" / "grafana.json").read_text("utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    drawn = {name for expression in expressions for name in re.findall(r"ray_(sead_\w+)", expression)}
    assert drawn == set(METRICS)
    for expression in expressions:
        (name,) = re.findall(r"ray_(sead_\w+)", expression)
        grouped = re.search(r"by \(([^)]*)\)", expression)
        assert grouped is not None
        assert set(grouped[1].split(", ")) <= {"run", *METRICS[name][2]}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
