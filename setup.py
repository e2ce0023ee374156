"""What pyproject.toml cannot say: a wheel takes along what a chapter reads, from where it lies in the project.

An editable install takes nothing along: there the library reads the project's own folders (core.files.project_folder).
"""
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = {"weights": "*", "results": "**/*", "grids": "*.toml"}     # folder -> files


class BuildWithProject(build_py):
    "Copy weights, results and grids to pag_companion/shipped/ of what is built."

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "pag_companion" / "shipped"
        shutil.rmtree(target, ignore_errors=True)
        for path in shipped_files(Path(__file__).parent):
            copy = target / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(__file__).parent / path, copy)


def shipped_files(root):
    "List what a wheel takes along, by its way from the project's folder."
    paths = (path for name, pattern in SHIPPED.items() for path in (root / name).glob(pattern))
    return sorted(path.relative_to(root) for path in paths
                  if path.is_file() and not path.name.startswith("."))


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildWithProject})
