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


LONGEST = ("test_golden", "test_faults", "test_repo", "test_page_browser", "test_robustness")


def pytest_collection_modifyitems(items):
    # a file runs on one worker: the longest come first, so that no worker waits for one of them at the end
    items.sort(key=lambda item: item.path.stem not in LONGEST)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch
    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
