"""Deliberate mistakes: each is put into a copy of the library, and the tests named beside it must fail there.

A line of MISTAKES is a file of the library, a piece of its text that stands there once, what stands there instead, and tests. On the
unchanged copy the same tests must pass; an import that breaks, or a test that is gone, does not count as noticed. That each text stands there once is
looked at in every run; the rest is slow: make test-slow.
"""
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

MISTAKES = {
    "PGD's default step is 2 eps/k": (
        "attacks.py", "2.5 * ball.eps / steps if", "2. * ball.eps / steps if",
        ["tests/test_attacks.py"]),
    "CIFAR-10's small learning rate is halved": (
        "lab/settings.py", "steps=3500, lr=.1", "steps=3500, lr=.05",
        ["tests/test_lab_results.py"]),
    "Table 1 is attacked with 5 PGD steps": (
        "chapters/robustness.py", "attacked(k, images[:settings.attack_limit])",
        "attacked(k, images[:settings.attack_limit], steps=5)",
        ["tests/test_chapters_robustness.py::test_each_column_of_table_1_is_attacked_as_it_says"]),
    "promoted results come back empty": (
        "lab/results.py", "return make(read_records(folder), name)", "return make([], name)",
        ["tests/test_lab_results.py"]),
    "a side is kept though its files have changed": (
        "lab/results.py", "name, tuple(check_sums(inner).items()))", "name, ())",
        ["tests/test_lab_results.py"]),
    "the runs of a table come back empty": (
        "lab/results.py", "type(self)(tuple(filter(is_usual, runs.records)), self.name)",
        "type(self)((), self.name)",
        ["tests/test_lab_results.py"]),
    "the margin of a claimed loss lies on the wrong side": (
        "lab/claims.py", "(-math.inf, -margin) if", "(-math.inf, margin) if",
        ["tests/test_lab_claims.py"]),
    "size_unit = 'sd' is ignored": (
        "lab/claims.py", '(float(np.std(values, ddof=1)) if size_unit == "sd" else 1)', "1",
        ["tests/test_lab_claims.py"]),
    "H2 correlates alignment only": (
        "chapters/wsol.py", "top1_loc\": predicts_localization(name)",
        "top1_loc\": predicts_localization('alignment')",
        ["tests/test_chapters_wsol.py::test_quantities_by_hand"]),
    "intervals over images are dropped for two seeds": (
        "lab/claims.py", "image_interval(*images, factor=comparison.factor) if images else None",
        "None",
        ["tests/test_lab_claims.py"]),
    "no claim has intervals over images": (
        "lab/claims.py", "not 0 < len(numbers[c.name])\n            < SEEDS_FOR_INTERVAL",
        "not 0 < len(numbers[c.name])\n            < 0",
        ["tests/test_lab_claims.py"]),
}


def run_tests(library, tests):
    "Run tests against a copy of the library; give pytest's exit status and the end of what it printed."
    with tempfile.TemporaryDirectory() as runs:
        environment = {**os.environ, "PYTHONPATH": str(library), "PYTHONSAFEPATH": "1",
                       "PAG_RUNS": runs, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-m", "not slow and not gpu", "-p",
                   "no:cacheprovider", "--tb=short", *tests]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, (done.stdout + done.stderr)[-2000:]


def copied(folder):
    "Copy the library into a folder, and make sure that the copy is what Python finds."
    shutil.copytree(ROOT / "pag_companion", folder / "pag_companion",
                    ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    path = subprocess.run([sys.executable, "-c", "import pag_companion; "
                                                 "print(pag_companion.__file__)"], cwd=ROOT,
                          env=environment,
                           capture_output=True, text=True).stdout
    assert Path(path.strip()).is_relative_to(folder), path
    return folder


@functools.cache
def passes(*tests):
    "Run tests against an unchanged copy."
    with tempfile.TemporaryDirectory() as folder:
        return run_tests(copied(Path(folder).resolve()), tests)


def test_each_mistake_fits():
    for mistake, (name, right, _, _) in MISTAKES.items():
        count = (ROOT / "pag_companion" / name).read_text().count(right)
        assert count == 1, f"{mistake}: {name} holds {right!r} {count} times"


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_noticed(mistake, tmp_path):
    name, right, wrong, tests = MISTAKES[mistake]
    status, printed = passes(*tests)
    assert status == 0, f"without the mistake, {tests} should pass:\n{printed}"
    changed = copied(tmp_path.resolve()) / "pag_companion" / name
    source = changed.read_text()
    assert source.count(
        right) == 1, (
        f"{name} holds {right!r} {source.count(right)} times: bring this table up to date")
    changed.write_text(source.replace(right, wrong))
    status, printed = run_tests(tmp_path, tests)
    assert status == pytest.ExitCode.TESTS_FAILED, (
        f"{mistake}, and {tests} did not notice:\n{printed}")
    assert "\nERROR " not in printed, f"{mistake}: the tests could not even start:\n{printed}"
