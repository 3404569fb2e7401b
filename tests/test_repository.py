"""The repository itself: how it is installed, and what its continuous integration runs."""

import subprocess
import sys

import pytest
import yaml

from tests.conftest import ROOT


@pytest.mark.parametrize("editable", [[], ["--editable"]])
def test_pip_says_that_this_is_a_checkout(tmp_path, editable):
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--target", str(tmp_path)]
    done = subprocess.run([*command, *editable, str(ROOT)], capture_output=True, text=True)
    assert done.returncode != 0 and not list(tmp_path.iterdir())
    assert "used from its folder and is not installed: run `make install`" in done.stderr


def test_github_runs_what_ci_runs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    steps = workflow["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["bash .ci/run"]
