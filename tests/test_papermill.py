"Run the zero-shot chapter through papermill as a user would: mistakes must stop it before any work."
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHAPTER = Path(__file__).parents[1] / "nbs" / "10_zero_shot.ipynb"
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("papermill"), reason="papermill is not installed")


def papermill(folder, *parameters):
    "Execute the chapter in a folder of its own; give the exit status, what was printed, and the records."
    words = [word for name, value in parameters for word in ("-p", name, value)]
    command = [sys.executable, "-m", "papermill", str(CHAPTER), str(folder / "out.ipynb"), "-k", "python3", "--no-progress-bar", *words]
    environ = {**os.environ, "PAG_RUNS": str(folder), "PAG_PROGRESS": "none", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    records = [json.loads(path.read_text()) for path in (folder / "records").glob("*.json")]
    return done.returncode, done.stdout + done.stderr, records


@pytest.mark.parametrize("parameter, said", [(("epss", "0.1"), "did you mean 'eps'"), (("eps", "banana"), "'banana' is not a number")])
def test_mistakes_stop_before_any_work(tmp_path, parameter, said):
    status, printed, records = papermill(tmp_path, ("scale", "smoke"), parameter)
    assert status and said in printed and not records
    assert not (tmp_path / "models").exists() and not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_parameters_reach_the_run(tmp_path):
    status, printed, (record,) = papermill(tmp_path, ("method", "noise"), ("eps", "0.3"), ("seed", "4"))
    asked = {name: record["settings"][name] for name in ("method", "eps", "seed", "scale")}
    assert status == 0 and asked == {"method": "noise", "eps": 0.3, "seed": 4, "scale": "smoke"}
