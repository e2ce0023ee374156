"""Promises that the repository makes: written by hand, one check a function.

Each check collects everything that is wrong before it fails, and names the file.
"""
import ast
import json
import os
import re
import subprocess
import symtable
import sys
import tomllib
from fnmatch import fnmatch
from html import unescape
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from pag_companion import __version__
from pag_companion.core.moved import COMMANDS, MOVED
from pag_companion.lab.claims import claim_line, judge
from pag_companion.lab.development import (
    check, code_cells, module_of, notebooks, read_notebook, read_settings, rebuilt)
from pag_companion.lab.experiment import experiments, notebook_of
from pag_companion.lab.layers import (
    EXCEPTIONS, LAYERS, import_graph, imported, layer_of, named_chapters, sources, wrong_imports)
from pag_companion.lab.opening import GPU, has_parameters
from pag_companion.lab.parts import main_parts
from pag_companion.lab.results import Results
from pag_companion.lab.sweep import read_grid

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = read_settings(ROOT)
NOTEBOOKS = {path: read_notebook(path) for path in notebooks(ROOT)}
LIBRARY = sources(ROOT / "pag_companion")

# Chapters that run an experiment, whatever else may be found to run one
RUNNING = ("50_zero_shot",)

MB = 2**20


def plain(source):
    "Make code that Python can parse: lines for IPython become `pass`."
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)


def code(notebook):
    return "\n".join(plain(source) for source, _ in code_cells(notebook))


def repository_files():
    "List what git keeps, or would keep at the next commit."
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


def repository_texts():
    "Read the files of git that are text; of a notebook without its images."
    for path in repository_files():
        data = path.read_bytes()
        if b"\0" not in data:
            text = data.decode("utf-8", errors="replace")
            yield path.relative_to(ROOT), re.sub(r'("image/png": )"[^"]*"', r"\1", text)


# Notebooks


def running_chapters():
    "Name the chapters that papermill must be able to set: those that register an experiment."
    names = {path.stem for path, notebook in NOTEBOOKS.items()
             if any("export" in words and re.search(r"^EXPERIMENT = Experiment\(", source, re.M)
                    for source, words in code_cells(notebook))}
    assert set(RUNNING) <= names
    return sorted(names)


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory):
    "The notebooks as nbdev_clean leaves them."
    folder = rebuilt(ROOT, tmp_path_factory.mktemp("project"))
    return {path.stem: read_notebook(path) for path in notebooks(folder)}


def parameter_cells(notebook):
    return ["".join(cell["source"]) for cell in notebook["cells"]
            if "parameters" in cell["metadata"].get("tags", [])]


def test_running_chapters_keep_one_parameters_tag(cleaned):
    for name in running_chapters():
        assert name in cleaned, f"{name}.ipynb is missing"
        count = len(parameter_cells(cleaned[name]))
        assert count == 1, (
            f"{name}: {count} cells tagged `parameters` after nbdev_clean; papermill needs "
            "exactly one")
    for name, notebook in cleaned.items():
        assert len(
            parameter_cells(notebook)) <= 1, f"{name}: more than one cell is tagged `parameters`"


def test_a_lost_tag_would_be_noticed(tmp_path):
    "The check above rests on settings.ini: without its key nbdev_clean drops the tag."
    (tmp_path / "nbs" / "lab").mkdir(parents=True)
    key = "allowed_cell_metadata_keys ="
    (tmp_path / "settings.ini").write_text((ROOT / "settings.ini").read_text().replace(
        f"{key} tags", key))
    cell = dict(cell_type="code", id="a", metadata=dict(tags=["parameters"]),
                source=["eps: float = 0.1  # radius"],
                execution_count=None, outputs=[])
    notebook = dict(cells=[cell], metadata=dict(kernelspec=dict(name="python3")), nbformat=4,
                    nbformat_minor=5)
    (tmp_path / "nbs" / "lab" / "50_zero_shot.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "rebuilt").mkdir()
    after = read_notebook(rebuilt(tmp_path, tmp_path / "rebuilt") / "nbs" / "lab"
                          / "50_zero_shot.ipynb")
    assert parameter_cells(notebook) and not parameter_cells(after)


def test_parameters_are_typed_and_commented():
    for path, notebook in NOTEBOOKS.items():
        for cell in parameter_cells(notebook):
            lines = cell.splitlines()
            for node in ast.parse(cell).body:
                line = lines[node.end_lineno - 1]
                assert isinstance(node,
                                  ast.AnnAssign) and node.value is not None, f"{path.name}: no type in {line!r}"
                assert "#" in line[node.end_col_offset:], f"{path.name}: no comment after {line!r}"


def test_parameters_are_those_of_the_settings():
    "What a chapter offers to papermill, with its defaults, is what its Settings say; only the method is the chapter's choice."
    for name, experiment in experiments().items():
        cell, = parameter_cells(read_notebook(notebook_of(name)))
        offered = {node.target.id: ast.literal_eval(node.value) for node in ast.parse(cell).body}
        assert {**experiment.Settings.parameters(), "method": offered["method"]} == offered, name
        assert experiment.Settings.read(offered).scale == "smoke"


def test_parameters_start_small():
    for path, notebook in NOTEBOOKS.items():
        for cell in parameter_cells(notebook):
            small = re.search(r'^scale: str = "smoke"', cell, re.M)
            assert small, f"{path.name}: by default a notebook runs at scale smoke"


def test_gpu_is_requested_where_a_notebook_trains(cleaned):
    for name, notebook in cleaned.items():
        requested = {key: notebook["metadata"].get(key) for key in GPU}
        expected = GPU if has_parameters(notebook) else dict.fromkeys(GPU)
        assert requested == expected, f"{name}: Colab's accelerator is {requested}; make sync mends it"


def test_everything_generated_is_in_step():
    for looked_at, wrong in check(ROOT).items():
        assert not wrong, f"{looked_at}: {wrong}"


def test_notebooks_are_small():
    sizes = {path.name: path.stat().st_size for path in NOTEBOOKS}
    for name, size in sizes.items():
        assert size <= MB, f"{name} has {size / MB:.1f} MB: GitHub does not show it; use fewer or smaller images"
    assert sum(
        sizes.values()) <= 13 * MB, (
        f"the notebooks have {sum(sizes.values()) / MB:.1f} MB together; 13 at most")


def test_numbers_are_unique():
    "nbdev runs notebooks by base name, and a reader sorts all folders by number."
    numbers = {}
    for path in NOTEBOOKS:
        number = re.match(r"(\d\d[a-z]?)_", path.name)
        assert number, f"{path.name}: a notebook's name begins with two digits, such as 14_attacks.ipynb"
        numbers.setdefault(number[1], []).append(str(path.relative_to(ROOT)))
    twice = {number: names for number, names in numbers.items() if len(names) > 1}
    assert not twice, f"numbers used twice: {twice}"


def test_modules_lie_where_their_notebooks_do():
    folders = {path: "chapters" if path.parent.name == "nbs" else path.parent.name
               for path in NOTEBOOKS}
    wrong = [f"{path.relative_to(ROOT)} makes {module_of(notebook)}"
             for path, notebook in NOTEBOOKS.items()
             if module_of(notebook) and layer_of(module_of(notebook)) != folders[path]]
    assert not wrong, wrong


def test_cells_import_from_their_own_layer_or_lower():
    "A notebook that makes no module may use them all: nothing builds on it."
    wrong = []
    for path, notebook in NOTEBOOKS.items():
        layer = layer_of(module_of(notebook)) if module_of(notebook) else LAYERS[-1]
        for source, _ in code_cells(notebook):
            wrong += [f"{path.relative_to(ROOT)} imports {name}"
                      for name in imported(plain(source), "", set(LIBRARY))
                      if layer_of(name) not in LAYERS[:LAYERS.index(layer) + 1]]
            assert not re.search(r"^\s*from pag_companion\S* import \*", source,
                                 re.M), f"{path.name}: import by name, not by *"
    assert not wrong, "\n".join(sorted(set(wrong)))


def test_tour_imports_nothing():
    for path, notebook in NOTEBOOKS.items():
        if path.stem.startswith("00"):
            assert not imported(code(notebook), "",
                                set(
                LIBRARY)), f"{path.name} is read, not run: it imports no module"


def names_in(code):
    "Name what a cell binds, and what it takes from the notebook."
    top = symtable.symtable(code, "cell", "exec")
    bound = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    used, scopes = {s.get_name() for s in top.get_symbols() if s.is_referenced()}, top.get_children()
    while scopes:
        used |= {s.get_name() for scope in scopes for s in scope.get_symbols() if s.is_global()}
        scopes = [inner for scope in scopes for inner in scope.get_children()]
    return bound, used


def test_tests_leave_the_story_alone():
    "A reader runs all cells, nbdev_test those without a test: both must see the same."
    wrong = []
    for path, notebook in NOTEBOOKS.items():
        tests = set()     # names that a test bound last
        for source, marks in code_cells(notebook):
            bound, used = names_in(re.sub(r"^(\s*)%.*", r"\1pass", source, flags=re.M))
            if "test" not in marks:
                wrong += [f"{path.name}: a test changes {name!r}, which a later cell uses"
                          for name in sorted(tests & used - bound)]
            tests = tests | bound if "test" in marks else tests - bound
    assert not wrong, "\n".join(wrong)


def test_forbidden_in_notebooks():
    forbidden = {
        r"autoreload": "autoreload breaks in Colab",
        r"\bapt(-get)? +(install|update)\b": "no system packages",
        r"pip install(?! -q \"pag_companion)": "only the install cell installs",
        r"\btqdm\.(notebook|auto)\b": "a progress bar made of widgets stays at 0 % in a stored "
                                      "notebook",
    }
    for path, notebook in NOTEBOOKS.items():
        if path.stem == "99g_opening":
            continue
        source = "\n".join(source for source, _ in code_cells(notebook))
        for pattern, why in forbidden.items():
            assert not re.search(pattern,
                                 source), f"{path.name}: {pattern!r} in a code cell: {why}"


def test_widgets_come_after_an_image():
    for path, notebook in NOTEBOOKS.items():
        assert "widgets" not in notebook["metadata"], f"{path.name}: stored widget state; clear the widget's output"
        images = 0
        for cell in notebook["cells"]:
            outputs, source = json.dumps(cell.get("outputs", [])), "".join(cell["source"])
            assert "vnd.jupyter.widget" not in outputs, f"{path.name}: GitHub does not draw a stored widget"
            widget = (cell["cell_type"] == "code"
                      and re.search(r"\binteract\w*\(|\bwidgets\.\w+\(", source))
            assert images or not widget, f"{path.name}: show an image before the first widget"
            images += "image/png" in outputs


def test_images_have_alt_text():
    for path, notebook in NOTEBOOKS.items():
        for cell in notebook["cells"]:
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    alt = output["metadata"].get("image/png", {}).get("alt", "")
                    assert len(
                        alt) > 20, f"{path.name}: an image without alt text; show it by core.progress.show(fig, alt)"


def test_kernel_is_python3():
    for path, notebook in NOTEBOOKS.items():
        name = notebook["metadata"].get("kernelspec", {}).get("name")
        assert name == "python3", f"{path.name}: kernel {name!r} is of one machine only"


def test_outputs_hold_no_error():
    for path, notebook in NOTEBOOKS.items():
        for cell in notebook["cells"]:
            for output in cell.get("outputs", []):
                text = "".join(output.get("text", []))
                assert output["output_type"] != "error" and "Traceback (most recent call last)" not in text, (
                    f"{path.name}: an error is stored under {''.join(cell['source'])[:60]!r}")


# The library


def test_imports_run_downwards(capsys):
    with capsys.disabled():
        for chapter, others in EXCEPTIONS.items():
            print(f"\nexception to the import rule: chapters.{chapter} imports "
                  f"{', '.join(sorted(others))}")
    wrong = wrong_imports(import_graph(ROOT / "pag_companion"))
    assert not wrong, "chapters -> lab -> library -> core:\n" + "\n".join(wrong)


def test_no_chapter_is_named_below_the_chapters():
    lines = named_chapters(LIBRARY)
    assert not lines, "\n".join(lines)


def test_exceptions_are_needed():
    graph = import_graph(ROOT / "pag_companion")
    idle = [(chapter, other) for chapter, others in EXCEPTIONS.items() for other in others
            if f"chapters.{other}" not in graph.get(f"chapters.{chapter}", ())]
    assert not idle, f"no longer needed: {idle}"


def test_library_does_not_import_nbdev():
    for module, source in LIBRARY.items():
        for node in ast.walk(ast.parse(source)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "nbdev"
                           for name in names), f"{module} imports nbdev"


def python(program, *options):
    return subprocess.run([sys.executable, *options, "-c", program], cwd=ROOT, capture_output=True,
                          text=True)


LIGHT = """
import importlib, sys
absent = {absent}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"{{name}} is not installed here", name=name)
sys.meta_path.insert(0, Absent())
for modules, heavy in {parts}:
    for name in modules:
        importlib.import_module("pag_companion." + name)
    print(*sorted(set(sys.modules) & heavy))
"""

ABSENT = {"IPython", "ipykernel", "ipywidgets", "jupyter_client", "jupyter_core", "jupyterlab",
          "nbformat", "nbclient",
          "nbconvert", "papermill", "nbdev", "execnb", "fastcore", "ghapi", "submitit", "pytest",
          "foolbox", "captum", "torchcam",
          "torchattacks"}
HEAVY = {"pandas", "sklearn", "cv2", "matplotlib", "matplotlib.pyplot", "scipy", "scipy.stats"}
TABLES = {"pandas", "scipy"}            # the lab's results are a DataFrame, and its verdicts tests


def test_library_imports_without_jupyter_and_without_moved_names():
    lower = [module for module in LIBRARY if layer_of(module) in ("core", "library")]
    parts = [(lower, HEAVY), (list(LIBRARY), HEAVY - TABLES)]
    done = python(LIGHT.format(absent=ABSENT, parts=parts), "-W", "error:pag_companion:DeprecationWarning")
    assert done.returncode == 0, (
        f"the library needs more than its own requirements, or names that have moved:\n{done.stderr[-1500:]}")
    assert not done.stdout.split(), f"imported at the top of a module, but only functions need them: {done.stdout}"


def test_core_needs_no_torch():
    core = [module for module in LIBRARY if layer_of(module) == "core"]
    done = python(LIGHT.format(absent=ABSENT | HEAVY | {"torch", "torchvision", "numpy"},
                               parts=[(core, set())]))
    assert done.returncode == 0, (
        f"core is imported where nothing but Python may be:\n{done.stderr[-1500:]}")


def test_nobody_uses_moved_modules():
    gone = "|".join(old for old in MOVED if old not in LIBRARY and old not in COMMANDS)
    pattern = re.compile(rf"\bpag_companion\.(?:({gone})\b(?!_)|({'|'.join(COMMANDS)}) import)")
    where = ("nbs", "pag_companion", "tests", "README.md", "grids")
    texts = {name: text for name, text in repository_texts() if name.parts[0] in where
             and "moved" not in name.stem}
    for path, notebook in NOTEBOOKS.items():     # without outputs, which may be old measurements
        if "moved" not in path.stem:
            texts[path.relative_to(ROOT)] = "\n".join("".join(cell["source"])
                                                      for cell in notebook["cells"])
    uses = {str(name): sorted({match[0] for match in pattern.finditer(text)})
            for name, text in texts.items()}
    uses = {name: old for name, old in uses.items() if old}
    assert not uses, f"old names (core.moved says where they are now): {uses}"


WRONG_TYPES = """
from pag_companion.core.scores import Score
def wrong(score: Score) -> int:
    return score.corect + Score(correct="7", total=9)
"""


def test_the_type_checker_sees_our_dataclasses(tmp_path):
    (tmp_path / "wrong.py").write_text(WRONG_TYPES)
    done = subprocess.run([sys.executable, "-m", "mypy", str(tmp_path / "wrong.py")], cwd=ROOT,
                          capture_output=True, text=True,
                          env={**os.environ, "MYPYPATH": str(ROOT)})
    assert '"Score" has no attribute "corect"' in done.stdout and 'incompatible type "str"' in done.stdout, (
        done.stdout + done.stderr)


# Requirements


def named(lines):
    "Read requirements: name -> version bounds."
    requirements = [Requirement(line) for line in lines]
    return {item.name.lower().replace("_", "-"): str(item.specifier) for item in requirements}


def settings_requirements(*keys):
    return {name: bounds for key in keys for name, bounds in named(SETTINGS[key].split()).items()}


def test_pyproject_says_the_same_as_settings():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert named(project["dependencies"]) == settings_requirements("requirements")
    assert named(extras["run"]) == settings_requirements("run_requirements")
    assert named(extras["slurm"]) == settings_requirements("slurm_requirements")
    assert named(extras["pretrained"]) == settings_requirements("pretrained_requirements")
    dev = named(extras["dev"])
    assert "pag-companion" in dev and "pag_companion[run]" in extras["dev"], (
        "the extra dev includes the extra run")
    assert ({name: dev[name] for name in dev if name != "pag-companion"} == settings_requirements(
        "dev_requirements"))
    assert project["requires-python"] == f">={SETTINGS['min_python']}"
    assert project["description"] == SETTINGS["description"]


def test_packages_are_installed_whole():
    "Sub-packages, and files that are no Python, such as the report's template."
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert setuptools["packages"]["find"]["include"] == ["pag_companion*"]
    patterns = [pattern for listed in setuptools["package-data"].values() for pattern in listed]
    for path in repository_files():
        name = path.relative_to(ROOT)
        if name.parts[0] == "pag_companion" and path.suffix == ".py":
            assert (path.parent / "__init__.py").exists(), f"{name.parent} is no package"
        elif name.parts[0] == "pag_companion":
            inner = name.relative_to("pag_companion").as_posix()
            assert any(fnmatch(inner, pattern)
                       for pattern in patterns), f"{name} is not in package-data of pyproject.toml"


CONDA_NAMES = {"pytorch": "torch"}


def test_conda_environment_says_the_same_as_settings():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    by_pip = next(item["pip"] for item in listed if isinstance(item, dict))
    assert "-e ." in by_pip, "environment.yml installs the project itself"
    by_conda = named(item for item in listed if isinstance(item, str))
    assert (by_conda.pop("python") == str(
        Requirement(f"python>={SETTINGS['min_python']},<3.14").specifier))
    by_conda.pop("pip")
    listed = {CONDA_NAMES.get(name, name): bounds for name, bounds in by_conda.items()}
    listed |= named(item for item in by_pip if not item.startswith("-e"))
    assert listed == settings_requirements("requirements", "run_requirements", "dev_requirements")


def test_version_is_one():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert __version__ == SETTINGS["version"] == cited["version"]


# Files


def test_kept_files_are_small():
    weights = 0
    for path in repository_files():
        size, name = path.stat().st_size, path.relative_to(ROOT)
        weights += size if name.parts[0] == "weights" else 0
        assert size <= MB or name.parts[0] == "weights", f"{name} has {size / MB:.1f} MB; 1 at most"
    assert weights <= 25 * MB, f"weights/ has {weights / MB:.1f} MB; 25 at most"


def test_paths_stay_inside_the_project():
    homes = re.compile(
        r"(?<![\w.~:/$}-])/(?:home|root|work|Users)/\w|\b[A-Z]:\\+(?:Users|Documents|Program)")
    names = ({part for path in repository_files() for part in path.relative_to(ROOT).parts}
             | {"runs", "data", "api"})     # the last: pages of the site
    for name, text in repository_texts():
        matches = homes.search(text)
        assert not matches, f"{name}: {matches and text[matches.start():matches.start() + 40]!r} is a path of one machine"
        outside = set(re.findall(r"(?<![\w./])\.\./(\w[\w.-]*)/", text)) - names
        assert not outside, f"{name}: ../{min(outside, default='')} leads out of the project"


def test_no_package_index_is_named():
    pattern = re.compile(
        r"index[-_]url=|trusted[-_]host=|--index[-_]url|https?://[^\s\"')]*/simple\b", re.I)
    for name, text in repository_texts():
        matches = pattern.search(text)
        assert not matches, f"{name}: {matches and matches[0]!r}: where packages come from is up to the reader's pip"


def test_links_name_the_repository_of_settings():
    for name, text in repository_texts():
        for owner in re.findall(r"github(?:\.com|)/([\w.-]+)/pag_companion\b", text):
            assert owner == SETTINGS["user"], f"{name}: a link to {owner}; settings.ini says {SETTINGS['user']}"


MARKER = re.compile(r"<!-- *report:([\w./-]+) +(begin|end) *-->")


def test_markers_have_both_ends():
    texts = {"README.md": (ROOT / "README.md").read_text()}
    for path, notebook in NOTEBOOKS.items():
        prose = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"]
                 == "markdown"]
        texts[path.name] = "\n".join(prose) if path.stem.startswith("00") else ""
    for name, text in texts.items():
        matches = [(end, block) for block, end in MARKER.findall(text)]
        begun = [block for end, block in matches if end == "begin"]
        pairs = [(end, block) for block in begun for end in ("begin", "end")]
        assert matches == pairs, f"{name}: markers out of order: {matches}"
        assert begun or not (name == "README.md"
                             or name.startswith("00")), f"{name}: no block to fill"
        assert len(begun) == len(set(begun)), f"{name}: a block is there twice: {begun}"


def test_ci_runs_make_test_and_nothing_else():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["exec make test </dev/null"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111, ".ci/run is not executable"


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S))
def test_readme_examples_run(block, tmp_path, monkeypatch):
    if 'pretrained("svhn' in block or "zero_shot import run" in block:
        pytest.skip("needs real data, or minutes")
    monkeypatch.setenv("PAG_RUNS", str(tmp_path))
    exec(compile(block, "README.md", "exec"), {})


# Results


def claim_lines(notebook):
    "Find what a chapter's committed outputs say of claims: id and cells, line by line."
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            html = "".join(output.get("data", {}).get("text/html", ""))
            if "ours [95 %]" in html:
                for id, line in re.findall(r"<th>([A-Z]+\d+b?)</th>(.*?)</tr>", html, re.S):
                    yield id, unescape(" ".join(re.findall(r"<td>(.*?)</td>", line, re.S)))


def test_grids_run_what_the_tables_show():
    grids = {path.stem: read_grid(path) for path in ROOT.glob("grids/*.toml")}
    counts = {name: len(runs) for name, runs in grids.items() if "neighbours" not in name}
    assert counts == {"imagenet": 22, "imagenet-224": 2, "paper": 275, "smoke": 14, "small": 297, "birds": 55, "birds-224": 55,
                      "controls": 60, "evaluators": 25, "perception": 115}
    planned = {(run.experiment, run.settings.dataset, run.settings.scale, run.row,
                run.settings.model.seed) for runs in grids.values() for run in runs}
    for (name, dataset, scale), part in main_parts(Results.read()).items():
        ran = {(name, dataset, scale, record["row"], record["settings"]["seed"])
               for record in part.records}
        left = sorted(ran - planned)
        assert not left, f"no grid lists {left}"


def test_chapters_show_todays_verdicts():
    "A table of claims that a chapter was saved with is the one that the records give now."
    verdicts, lines = judge(Results.read()), []
    for path, notebook in NOTEBOOKS.items():
        if path.parent.name == "nbs":
            lines += [(path.name, id, line) for id, line in claim_lines(notebook)]
    assert len({id for _, id, _ in lines}) > 20
    stale = [f"{name} on {id}" for name, id, line in lines
             if any(claim_line(verdicts[id])[key] not in line
                    for key in ("ours [95 %]", "outcome"))]
    assert not stale, f"out of date, run `make outputs`: {', '.join(stale)}"


def test_public_functions_have_type_hints():
    bare = []
    for path in sorted((ROOT / "pag_companion").rglob("*.py")):
        bodies = [ast.parse(path.read_text()).body]
        bodies += [node.body for node in bodies[0] if isinstance(node, ast.ClassDef)]
        for function in (node for body in bodies for node in body if isinstance(node, ast.FunctionDef)):
            every = [a.arg for a in function.args.args + function.args.kwonlyargs
                     if a.annotation is None and a.arg not in ("self", "cls")]
            if not function.name.startswith("_") and (every or function.returns is None):
                bare.append(f"{path.name}: {function.name}({', '.join(every)})")
    assert not bare
