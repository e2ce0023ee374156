"Settings for all tests: no window, no GPU demanded where there is none, nothing left in runs/."
import os
import tempfile

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_configure(config):
    if "PAG_RUNS" not in os.environ:
        config.pag_runs = tempfile.TemporaryDirectory(prefix="pag-runs-",
                                                      ignore_cleanup_errors=True)
        os.environ["PAG_RUNS"] = config.pag_runs.name


def pytest_unconfigure(config):
    if hasattr(config, "pag_runs"):
        del os.environ["PAG_RUNS"]
        config.pag_runs.cleanup()


def pytest_collection_modifyitems(items):
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch
    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
