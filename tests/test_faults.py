"Kill a sweep, its papermills and its kernels at random moments: the same records come out, and nothing is left running."
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pag_companion.core.files import repo_root

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists()
                                or not importlib.util.find_spec("papermill"),
                                reason="needs Linux and papermill")
GRID = """experiment = "diffroar"
dataset = "block_mnist"
scale = "smoke"
[[run]]
method = ["natural", "l2_pgd"]
"""
KINDS = {"kernel": "ipykernel_launcher", "papermill": "papermill", "sweep": "pag_companion.sweep",
         "Ctrl-C": "pag_companion.sweep"}


def start(folder, *words):
    "Start the sweep as a user would."
    grid = folder / "grid.toml"
    grid.write_text(GRID)
    environment = {**os.environ, "PAG_RUNS": str(folder / "runs"), "PAG_SAVE_EVERY": ".05",
                   "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "pag_companion.sweep", "run", str(grid),
                             *(words or ("--jobs", "2"))], cwd=repo_root(), env=environment,
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.STDOUT)


def alive(folder):
    "Find the processes of a folder's runs; give pid -> command."
    running, mark = {}, f"PAG_RUNS={folder / 'runs'}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (mark in (entry / "environ").read_bytes().split(b"\0")
                and (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"):
                running[int(entry.name)] = (entry / "cmdline").read_bytes().replace(
                    b"\0", b" ").decode()
        except OSError:
            continue
    return running


def strike(folder, kind):
    "Kill one process of a kind, if there is one; Ctrl-C asks the sweep to stop."
    victims = [pid for pid, command in alive(folder).items() if KINDS[kind] in command]
    if victims:
        os.kill(random.choice(victims), signal.SIGINT if kind == "Ctrl-C" else signal.SIGKILL)
    return bool(victims)


def nothing_left(folder, seconds=20):
    "Wait until no process of the folder is alive."
    end = time.monotonic() + seconds
    while alive(folder) and time.monotonic() < end:
        time.sleep(.1)
    return not alive(folder)


def outcome(folder):
    "Read what counts of the records: scores and the weights' hash."
    records = [json.loads(path.read_text())
               for path in sorted((folder / "runs" / "records").glob("*.json"))]
    return {record["key"]: (record["weights"], record["scores"]) for record in records}


def run_under_fire(folder, kinds, longest):
    "Run the grid to its end while processes are killed, one after the other; give the number of kills."
    kills, kinds = 0, list(kinds)
    for _ in range(10 * len(kinds) + 2):
        sweep = start(folder)
        while kinds and sweep.poll() is None:
            if any(KINDS[kinds[0]] in command for command in alive(folder).values()):
                time.sleep(random.uniform(0, longest))
                kills += strike(folder, kinds.pop(0))
            time.sleep(.05)
        status = sweep.wait(300)
        assert nothing_left(folder), f"left running: {alive(folder)}"
        if status == 0:
            return kills
    raise AssertionError("the grid never came to its end")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    "Run the grid in one process: its outcome, and about how long two papermills need for it."
    folder = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    assert start(folder, "--engine", "inline").wait(300) == 0
    return outcome(folder), 1.5 * (time.monotonic() - began)


def test_killed_four_times(tmp_path, undisturbed):
    random.seed(0)
    expected, seconds = undisturbed
    kills = run_under_fire(tmp_path, ["sweep", "kernel", "papermill", "Ctrl-C"], .4 * seconds)
    assert outcome(tmp_path) == expected and len(expected) == 2 and kills


@pytest.mark.slow
def test_killed_two_hundred_times(tmp_path, undisturbed):
    "Rounds of random kills until there were 200; where PAG_FAULT_LOG names a file, each round leaves a line."
    expected, seconds = undisturbed
    kills, rounds, log = 0, 0, os.environ.get("PAG_FAULT_LOG")
    while kills < int(os.environ.get("PAG_KILLS", 200)):
        random.seed(rounds)
        folder = tmp_path / str(rounds)
        folder.mkdir()
        kinds = random.choices(list(KINDS), k=random.randint(2, 10))
        new = run_under_fire(folder, kinds, .4 * seconds)
        kills, rounds = kills + new, rounds + 1
        assert outcome(folder) == expected
        if log:
            with open(log, "a") as file:
                file.write(f"round {rounds}: {new} of {len(kinds)} kills met "
                           f"({', '.join(kinds)}); {kills} so far; records as without, nothing "
                           "left running\n")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid(), reason="needs root, to mount a small disk")
def test_a_full_disk(tmp_path, undisturbed):
    "Checkpoints do not fit: the run says so and fails; with more room the same command finishes, with the same records."
    runs = tmp_path / "runs"
    runs.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30M", "tmpfs", runs], check=True)
    try:
        assert start(tmp_path).wait(300) == 1 and outcome(tmp_path) == {}
        errors = [json.loads(path.read_text())["error"]
                  for path in (runs / "failed").glob("*.json")]
        assert (len(errors) == 2 and all("No space left on device" in text and "make room" in text
                                         for text in errors))
        subprocess.run(["mount", "-o", "remount,size=900M", runs], check=True)
        assert start(tmp_path).wait(300) == 0 and outcome(tmp_path) == undisturbed[0]
    finally:
        subprocess.run(["umount", runs], check=False)
