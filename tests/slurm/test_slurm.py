"A small grid on a real Slurm of one machine: a job is killed and resumes, another is preempted and queued again."
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from pag_companion.core.files import repo_root
from pag_companion.lab.sweep import read_grid

pytest.importorskip("submitit")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("slurmctld") or os.geteuid(),
                                                   reason="needs root and Slurm: "
                                                          "tests/slurm/cluster.sh install")]
GRID = """experiment = "wsol"
dataset = "boxed_imagenet"
method = "at"
scale = "smoke"
[[run]]
eps = ["0.5/255", "1/255"]
seed = "0-1"
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    script = repo_root() / "tests" / "slurm" / "cluster.sh"
    subprocess.run([script, "start", folder], check=True, stdin=subprocess.DEVNULL)
    yield {**os.environ, "SLURM_CONF": f"{folder}/slurm.conf", "PAG_SAVE_EVERY": ".2",
           "OMP_NUM_THREADS": "1"}
    subprocess.run([script, "stop", folder], check=False)


class Story:
    "Tell what happened, with the time; it is printed, and added to the file that PAG_SLURM_LOG names."

    def __init__(self, title):
        self.began = time.monotonic()
        self.write(f"{title} ({time.strftime('%Y-%m-%d')}, "
                   f"{subprocess.run(['slurmctld', '-V'], capture_output=True, text=True).stdout.strip()})")

    def tell(self, text):
        self.write(f"{time.monotonic() - self.began:6.1f} s  {text}")

    def write(self, line):
        print(line, flush=True)
        if os.environ.get("PAG_SLURM_LOG"):
            with open(os.environ["PAG_SLURM_LOG"], "a") as file:
                file.write(line + "\n")


def command(cluster, folder, verb, *words):
    "Start the sweep's command line on the cluster."
    grid = folder / "grid.toml"
    grid.write_text(GRID)
    environment = {**cluster, "PAG_RUNS": str(folder / "runs")}
    return subprocess.Popen([sys.executable, "-m", "pag_companion.sweep", verb, str(grid), *words],
                            cwd=repo_root(), env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def pulse(folder, run):
    path = folder / "runs" / "pulse" / f"{run.key}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def until(what, seconds=300):
    "Wait for something to become true, and give it back."
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = what()
        if result:
            return result
        time.sleep(.05)
    raise AssertionError(f"nothing came of it within {seconds} s")


def is_done(folder, run):
    return (folder / "runs" / "records" / f"{run.key}.json").exists()


def underway(folder, runs):
    "Find a run that has taken some steps, has a checkpoint, and is far from its end."
    for run in runs:
        beat, (eps, _, seed) = pulse(folder, run), run.key.split("-")[4:7]
        if (beat and 0 < beat["step"] < .8 * beat["total"]
            and list((folder / "runs" / "checkpoints").glob(f"*-{eps}-{seed}-*.pt"))):
            return run, beat
    return None


def test_a_killed_job_is_retried_and_resumes(cluster, tmp_path):
    story, folder = Story("A killed job is retried and resumes"), tmp_path
    (folder / "grid.toml").write_text(GRID)
    runs = read_grid(folder / "grid.toml")
    story.tell(f"{len(runs)} runs on two make-believe GPUs, a core each")
    sweep = command(cluster, folder, "run", "--engine", "slurm", "--cpus", "1")
    victim, beat = until(lambda: underway(folder, runs))
    os.kill(beat["pid"], signal.SIGKILL)
    story.tell(f"kernel of {victim.label} killed at step {beat['step']} of {beat['total']}")
    printed = sweep.communicate(timeout=600)[0]
    for line in printed.splitlines():
        story.tell(f"  sweep: {line}".replace(str(folder), "FOLDER"))
    assert sweep.returncode == 1 and printed.count("FAILED") == 1
    assert [is_done(folder, run) for run in runs].count(True) == 3 and not is_done(folder, victim)
    gpus = {
        json.loads((folder / "runs" / "records"
                    / f"{run.key}.json").read_text())["settings"]["seed"] for run in runs
                    if is_done(folder, run)}
    assert gpus == {0, 1}
    again = command(cluster, folder, "retry", "--engine", "slurm", "--cpus", "1")
    second = until(lambda: (result := pulse(folder, victim)) and result["pid"] != beat["pid"]
                   and result)
    story.tell(f"retried: goes on from step {second['first']}")
    assert 0 < second["first"] <= beat["total"]
    printed = again.communicate(timeout=600)[0]
    for line in printed.splitlines():
        story.tell(f"  retry: {line}".replace(str(folder), "FOLDER"))
    assert again.returncode == 0 and is_done(folder, victim) and "1 handed to Slurm" in printed


def test_a_preempted_job_is_queued_again(cluster, tmp_path):
    story, folder = Story("A preempted job is queued again"), tmp_path
    (folder / "grid.toml").write_text(GRID)
    runs = read_grid(folder / "grid.toml")
    sweep = command(cluster, folder, "run", "--engine", "slurm", "--cpus", "1", "--partition",
                    "low")
    victim, beat = until(lambda: underway(folder, runs))
    rival = subprocess.run(["sbatch", "--parsable", "--partition", "high", "--gres", "gpu:2",
                            "--cpus-per-task", str(os.cpu_count()), "--output", "/dev/null",
                            "--wrap", "sleep 5"], env=cluster, check=True, capture_output=True,
                           text=True).stdout.strip()
    story.tell(f"job {rival} of a higher partition wants both GPUs while {victim.label} is at "
               f"step {beat['step']} of {beat['total']}")
    state = lambda: subprocess.run(["squeue", "--noheader", "--array", "--format=%i %T %P"],
                                   env=cluster, capture_output=True, text=True).stdout
    until(lambda: f"{rival} RUNNING" in state())
    story.tell("it runs; ours are " + ", ".join(
        sorted({line.split()[1].lower() for line in state().splitlines() if "low" in line})))
    resumed = until(lambda: (result := pulse(folder, victim)) and result["pid"] != beat["pid"]
                    and result)
    story.tell(f"{victim.label} goes on from step {resumed['first']}")
    printed = sweep.communicate(timeout=900)[0]
    for line in printed.splitlines():
        story.tell(f"  sweep: {line}".replace(str(folder), "FOLDER"))
    assert (resumed["first"] > 0 and sweep.returncode == 0
            and all(is_done(folder, run) for run in runs) and "FAILED" not in printed)
