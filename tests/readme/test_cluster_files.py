"""The files of docs/cluster: each is in the table, those that were not run say so, and they can be read."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.readme.blocks import ROOT

FOLDER = ROOT / "docs" / "cluster"
FILES = sorted(path for path in FOLDER.iterdir() if path.name != "README.md")
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


@each_file
def test_what_it_was_run_on_is_in_the_table_and_at_its_top(path: Path) -> None:
    row = re.search(
        rf"^\| \[{re.escape(path.name)}\]\({re.escape(path.name)}\) \|[^|]*\| ([^|]*) \|$",
        (FOLDER / "README.md").read_text("utf-8"),
        re.M,
    )
    assert row is not None
    top = "".join(path.read_text("utf-8").splitlines(keepends=True)[:12])
    assert ("NOT RUN" in top) == (row[1] == "not run")
    assert ("README.md" in top) != ("NOT RUN" in top)


@each_file
def test_it_can_be_read(path: Path) -> None:
    text = path.read_text("utf-8")
    if path.suffix == ".yaml":
        assert all(isinstance(each, dict) for each in yaml.safe_load_all(text))
    elif path.suffix == ".py":
        ast.parse(text)
    elif shutil.which("bash") is not None:
        assert subprocess.run(["bash", "-n", str(path)], capture_output=True).stderr == b""


def test_the_pods_are_as_many_as_they_are_told() -> None:
    service, job = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text("utf-8"))
    pods = job["spec"]["template"]["spec"]
    variables = {each["name"]: each["value"] for each in pods["containers"][0]["env"]}
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == int(variables["WORLD_SIZE"])
    assert pods["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert variables["MASTER_ADDR"] == f"{job['metadata']['name']}-0.{pods['subdomain']}"
