"""What pyproject.toml cannot say: a wheel takes along what a chapter reads, from where it lies in the project.

An editable install takes nothing along: there the library reads the project's own folders (core.files.project_folder).
"""
import json
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# folder -> files; of nbs/ the chapters that a sweep runs, without their outputs
SHIPPED = {"weights": "*", "results": "**/*", "grids": "*.toml", "nbs": "*.ipynb"}


class BuildWithProject(build_py):
    "Copy what is shipped to pag_companion/shipped/ of what is built."

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "pag_companion" / "shipped"
        shutil.rmtree(target, ignore_errors=True)
        for path in shipped_files(Path(__file__).parent):
            copy = target / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content(Path(__file__).parent / path))


def shipped_files(root):
    "List what a wheel takes along, by its way from the project's folder."
    paths = (path for name, pattern in SHIPPED.items() for path in (root / name).glob(pattern))
    return sorted(path.relative_to(root) for path in paths
                  if path.is_file() and not path.name.startswith("."))


def content(path):
    "Read a file as it is; of a notebook leave the outputs out."
    if path.suffix != ".ipynb":
        return path.read_bytes()
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell | {"outputs": []} if cell["cell_type"] == "code" else cell for cell in notebook["cells"]]
    return json.dumps(notebook | {"cells": cells}, ensure_ascii=False, indent=1).encode()


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildWithProject})
