"Run the zero-shot chapter through papermill as a user would: mistakes must stop it before any work."
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHAPTER = Path(__file__).parents[1] / "nbs" / "50_zero_shot.ipynb"
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("papermill"),
                                reason="papermill is not installed")


def papermill(folder, *parameters):
    "Execute the chapter in a folder of its own; give the exit status, what was printed, and the records."
    words = [word for name, value in parameters for word in ("-p", name, value)]
    command = [sys.executable, "-m", "papermill", str(CHAPTER), str(folder / "out.ipynb"), "-k",
               "python3", "--no-progress-bar", *words]
    environ = {**os.environ, "PAG_RUNS": str(folder), "PAG_PROGRESS": "none",
               "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    records = [json.loads(path.read_text()) for path in (folder / "records").glob("*.json")]
    return done.returncode, done.stdout + done.stderr, records


@pytest.mark.parametrize("parameters, message", [((("epss", "0.1"),), "did you mean 'eps'"), ((("dataset", "svhn"), ("method", "noise"), ("eps", "1")), "did you mean 1/255")])
def test_mistakes_stop_before_any_work(tmp_path, parameters, message):
    status, printed, records = papermill(tmp_path, ("scale", "smoke"), *parameters)
    assert status and message in printed and not records
    assert not (tmp_path / "models").exists() and not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.parametrize("parameters, row", [(dict(dataset="mnist", eps=.3), "N-0.3"), (dict(dataset="svhn", eps=1.), "N-8 σ=1.0")])
def test_parameters_reach_the_run(tmp_path, parameters, row):
    parameters = {"method": "noise", "seed": 4, **parameters}
    status, printed, (record,) = papermill(tmp_path, *((name, str(value))
                                                       for name, value in parameters.items()))
    assert (status == 0 and parameters.items() <= record["settings"].items()
            and record["row"] == row and record["settings"]["scale"] == "smoke")
