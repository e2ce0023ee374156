"""What a wheel takes along, and the library that is installed from one, in a folder where nothing else is: by hand."""
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("setuptools")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def setup():
    "setup.py, as a module."
    spec = importlib.util.spec_from_file_location("setup_of_the_project", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(setup, folder, editable=False):
    "Let setuptools build what pyproject.toml says, without pip."
    from setuptools.dist import Distribution
    command = setup.BuildWithProject(Distribution({"packages": []}))
    command.ensure_finalized()
    command.build_lib, command.editable_mode = str(folder), editable
    command.run()
    return folder / "pag_companion" / "shipped"


@pytest.fixture(scope="module")
def installed(setup, tmp_path_factory):
    "A library without a checkout, and an empty folder beside it."
    folder = tmp_path_factory.mktemp("machine")
    build(setup, folder / "site")
    for path in (ROOT / "pag_companion").rglob("*"):
        copy = folder / "site" / path.relative_to(ROOT)
        if path.is_file() and "__pycache__" not in path.parts:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    (folder / "content").mkdir()
    return folder


def run(installed, program):
    "Run a program with that library, in the empty folder; give what it prints."
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAG_")}
    environment |= {"PYTHONPATH": str(installed / "site"), "PAG_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], cwd=installed / "content",
                          env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not any((installed / "content").iterdir())
    return done.stdout.split("\n")[:-1]


def test_all_that_git_keeps_is_taken_along(setup):
    words = ["git", "ls-files", "weights", "results", "grids/*.toml", ":(glob)nbs/*.ipynb"]
    try:
        listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    shipped = {path.as_posix() for path in setup.shipped_files(ROOT)}
    assert set(listed.splitlines()) <= shipped and "weights/README.md" in shipped
    grafted = {line.split()[1] for line in (ROOT / "MANIFEST.in").read_text().splitlines()
               if line.startswith("graft")}
    assert grafted == set(setup.SHIPPED), "the source archive must hold what the wheel takes along"


def test_weights_are_those_of_their_cards():
    "Each file of weights has a card with its checksum, each card its file."
    files = {path.stem: path for path in (ROOT / "weights").glob("*.safetensors")}
    cards = {path.stem: json.loads(path.read_text()) for path in (ROOT / "weights").glob("*.json")}
    assert files.keys() == cards.keys() and files
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == cards[name]["file"], name


def test_a_wheel_holds_the_very_same_files(setup, tmp_path):
    copies = build(setup, tmp_path)
    paths = setup.shipped_files(ROOT)
    assert {path.relative_to(copies) for path in copies.rglob("*") if path.is_file()} == set(paths)
    chapters = {path for path in paths if path.suffix == ".ipynb"}
    assert all((copies / path).read_bytes() == (ROOT / path).read_bytes()
               for path in paths if path not in chapters)
    for path in chapters:
        ours, copy = (json.loads((folder / path).read_text())["cells"] for folder in (ROOT, copies))
        assert [cell["source"] for cell in ours] == [cell["source"] for cell in copy]
        assert not any(cell.get("outputs") for cell in copy)
    size = sum(path.stat().st_size for path in copies.rglob("*"))
    assert size < 50e6, f"the wheel takes {size / 1e6:.0f} MB along; 50 at most"


def test_a_wheel_keeps_nothing_of_an_earlier_one(setup, tmp_path):
    (tmp_path / "pag_companion" / "shipped" / "weights").mkdir(parents=True)
    (tmp_path / "pag_companion" / "shipped" / "weights" / "old.json").touch()
    assert not (build(setup, tmp_path) / "weights" / "old.json").exists()


def test_an_editable_install_copies_nothing(setup, tmp_path):
    assert not build(setup, tmp_path, editable=True).exists()
    assert not (ROOT / "pag_companion" / "shipped").exists()


ALONE = """
from pag_companion.core.files import project_folder, repo_root, runs_folder
from pag_companion.core.numbers import UserError
from pag_companion.lab.experiment import experiments, notebook_of
from pag_companion.lab.publish import fill, write_figures
from pag_companion.lab.records import promote, read_records
from pag_companion.lab.results import Results
from pag_companion.lab.sweep import read_grid
from pag_companion.models import pretrained
print(pretrained("cifar10/AT-1").card["key"], len(Results.read()), sep="\\n")
print(*(project_folder(name) for name in ("weights", "results", "grids")), sep="\\n")
print(repo_root(), runs_folder(), sep="\\n")
print(*(notebook_of(name).name for name in experiments()))
print(len(read_grid("grids/smoke.toml")) > 10)
for write in (lambda: promote(read_records()), fill, lambda: write_figures(Results.read())):
    try:
        write()
    except UserError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def printed(installed):
    "What a program prints that has nothing but the library."
    return run(installed, ALONE)


def test_the_library_alone_finds_weights_records_and_grids(installed, printed):
    shipped, content = installed / "site" / "pag_companion" / "shipped", installed / "content"
    records = len(list((ROOT / "results" / "records").glob("*.json")))
    assert printed[:2] == ["model-cifar10-at-fgsm-0.003922-s0-07b9f232", str(records)]
    assert printed[2:5] == [str(shipped / name) for name in ("weights", "results", "grids")]
    assert printed[5:7] == [str(content), str(content / "runs")]


def test_the_library_alone_reads_a_grid_and_its_chapters(printed):
    assert "50_zero_shot.ipynb" in printed[7].split() and printed[8] == "True"


def test_the_library_alone_promotes_nothing(installed, printed):
    assert len(printed[9:]) == 3
    assert all("needs a clone of the project, and " + str(installed / "content") in line
               for line in printed[9:]), printed[9:]


REFUSED = """
from pag_companion.core.numbers import UserError
from pag_companion.models import pretrained
try:
    pretrained("mnist/AT-0.1")
except UserError as error:
    print(error)
"""


def test_a_damaged_file_of_an_installed_library_is_refused(installed):
    path = next((installed / "site" / "pag_companion" / "shipped" / "weights").glob(
        "model-mnist-at-fgsm-0.1-*.safetensors"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        made, = run(installed, REFUSED)
    finally:
        path.write_bytes(whole)
    assert path.name in made and "does not hold the weights of its card" in made


def test_without_weights_it_says_what_to_do(installed):
    shipped = installed / "site" / "pag_companion" / "shipped"
    (shipped / "weights").rename(shipped / "away")
    try:
        made, = run(installed, REFUSED)
    finally:
        (shipped / "away").rename(shipped / "weights")
    assert "holds none; install the library anew, or clone the project" in made
