"""The Makefile's own lines, run in a folder whose path has a space: nothing outside the project is touched."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STUB = """#!/bin/sh
[ -z "$PAG_RUNS" ] || printf "%s\\n" "$PAG_RUNS" >> runs-named
printf "%s\\n" "$*" >> commands
"""


@pytest.fixture
def project(tmp_path):
    "A copy of the Makefile beside a folder that bears the first half of its name, with tools that do nothing."
    root = tmp_path / "my work" / "pag"
    (root / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "nbdev_test"):
        (root / ".venv" / "bin" / name).write_text(STUB)
        (root / ".venv" / "bin" / name).chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "settings.ini"):
        shutil.copy(ROOT / name, root)
    for stamp in ("run", "dev", "site"):
        (root / ".venv" / f".pag_companion-{stamp}").touch()      # newer than what it stands for
    (root / "grids").mkdir()
    (root / "grids" / "smoke.toml").touch()
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "thesis.txt").write_text("years of work")
    (root / "build" / "test-runs").mkdir(parents=True)
    return root


def make(project, *words):
    "Run make as a person would, knowing nothing of the tests around it."
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("PAG_", "MAKE"))}
    return subprocess.run(["make", *words], cwd=project, env=environment, capture_output=True,
                          text=True)


@pytest.mark.parametrize("goal", ["test", "test-slow"])
def test_a_space_in_the_path_costs_nobody_a_folder(project, goal):
    done = make(project, goal)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project.parent.parent / "my" / "thesis.txt").read_text() == "years of work"
    assert not (project / "build" / "test-runs").exists()
    named = set((project / "runs-named").read_text().splitlines())
    assert named == {str(project / "build" / "test-runs")}


def test_an_environment_with_a_space_is_refused(project):
    done = make(project, "test", "VENV=my env")
    assert done.returncode and "without spaces" in done.stderr
    assert (project / "build" / "test-runs").exists()


def installed(project):
    "List what pip was asked to install since the last time."
    commands = project / "commands"
    lines = commands.read_text().splitlines() if commands.exists() else []
    commands.unlink(missing_ok=True)
    return [line.split("--disable-pip-version-check ")[1] for line in lines
            if line.startswith("-m pip install")]


def test_each_command_installs_what_it_needs_once(project):
    for stamp in (project / ".venv").glob(".pag_companion-*"):
        stamp.unlink()
    assert make(project, "paper").returncode == 0
    assert installed(project) == ["-e .[run]"]
    assert make(project, "test").returncode == 0
    assert installed(project) == ["-e .[dev]", "--no-deps torchattacks==3.5.1"]
    assert make(project, "paper", "test").returncode == 0 and installed(project) == []
    os.utime(project / "pyproject.toml", (2**31, 2**31))
    assert make(project, "paper").returncode == 0 and installed(project) == ["-e .[run]"]


def test_slow_tests_have_what_the_site_needs(project):
    for stamp in (project / ".venv").glob(".pag_companion-*"):
        stamp.unlink()
    assert make(project, "test-slow").returncode == 0
    site = re.search("^site_requirements = (.*)", (ROOT / "settings.ini").read_text(), re.M)[1]
    assert installed(project) == ["-e .[run]", "-e .[dev]", "--no-deps torchattacks==3.5.1", site]


@pytest.mark.parametrize("command", ["--flags slow", "-m pytest", "lab.colab build/colab"])
def test_make_test_slow_fails_with_every_check(project, command):
    assert make(project, "test-slow").returncode == 0
    for tool in ("python", "nbdev_test"):
        (project / ".venv" / "bin" / tool).write_text(f"{STUB}case \"$*\" in *\"{command}\"*) "
                                                      "exit 1;; esac\n")
    assert make(project, "test-slow").returncode


@pytest.mark.parametrize("command", ["lab.development --check", "ruff check", "-m mypy", "--n_workers", "-m pytest"])
def test_make_test_fails_with_every_check(project, command):
    assert make(project, "test").returncode == 0
    for tool in ("python", "nbdev_test"):
        (project / ".venv" / "bin" / tool).write_text(f"{STUB}case \"$*\" in *\"{command}\"*) "
                                                      "exit 1;; esac\n")
    assert make(project,
                "test").returncode, f"make test does not run {command}, or passes over its failure"


def test_notebooks_that_it_names_exist():
    named = re.findall(r"\bnbs/[\w/]+\.ipynb", (ROOT / "Makefile").read_text())
    assert named and not [name for name in named if not (ROOT / name).exists()]
