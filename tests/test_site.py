"""The site of this project: its pages need no Sphinx to be checked; the whole is built by the slow test."""
import ast
import importlib.util
import re
import tomllib
from functools import lru_cache
from pathlib import Path

import pytest

from pag_companion.lab.development import notebooks, read_notebook, read_settings
from pag_companion.lab.documentation import documented
from pag_companion.lab.layers import sources
from pag_companion.lab.site import Site, as_page, build, written_pages

ROOT = Path(__file__).resolve().parent.parent
SITE = Site.of(ROOT)


@lru_cache
def texts():
    "Write the pages, once."
    return written_pages(SITE)


def tree(text):
    "List the pages that a text puts into the sidebar, in order."
    entries = re.findall(r"```\{toctree\}\n(.*?)```", text, re.S)
    lines = [line for entry in entries for line in entry.splitlines() if line and line[0] != ":"]
    return [re.sub(r".*<(.+)>", r"\1", line).removesuffix(".ipynb") for line in lines]


def test_pages_stand_in_the_storys_order():
    pages = tree(texts()["index.md"])
    story = [path.stem for path in notebooks(ROOT) if path.parent.name == "nbs"]
    assert pages == [*story, "claims", "gallery", "library/index", "lab/index", "core/index", "api/index"]
    assert story[:3] == ["00_tour", "10_paper", "20_robustness"] and story == sorted(story)


def test_the_front_page_leads_to_the_explorer():
    assert '<a href="explorer/index.html">' in texts()["index.md"]
    assert "explorer/index.html" in (ROOT / "site" / "templates" / "explorer-link.html").read_text()
    assert "explorer-link.html" in (ROOT / "site" / "conf.py").read_text()


def test_every_chapter_and_module_has_a_page_in_the_sidebar():
    listed = set(tree(texts()["index.md"]))
    for page in list(listed):
        folder = page.removesuffix("index")
        listed |= {folder + name for name in tree(texts().get(f"{page}.md", ""))} if folder != page else set()
    for path in notebooks(ROOT):
        name = path.relative_to(ROOT / "nbs").with_suffix("").as_posix()
        assert name in listed, f"{name} is in no list of pages"
    for module in sources(ROOT / "pag_companion"):
        assert f"api/{module}" in listed, f"{module} has no page"


def test_links_between_chapters_lead_to_pages():
    page = as_page(SITE, "nbs/00_tour.ipynb")
    text = "\n".join("".join(cell["source"]) for cell in page["cells"])
    assert "](30_gradients.ipynb)" in text and "](claims.md)" in text and "](../" not in text
    for file in SITE.pages:         # a link that leads nowhere raises an error
        if file.endswith(".ipynb"):
            as_page(SITE, file)
    assert "](00_tour.ipynb)" in texts()["index.md"] and "](claims.md)" in texts()["index.md"]


def test_no_page_shows_an_image_from_outside():
    pages = {file: "\n".join("".join(cell["source"]) for cell in as_page(SITE, file)["cells"]
                             if cell["cell_type"] == "markdown")
             for file in SITE.pages if file.endswith(".ipynb")}
    for name, text in {**texts(), **pages}.items():
        assert not re.search(r"!\[[^\n]*\]\([a-z]+:|<img|<script|<iframe", text), name


def test_images_have_their_words():
    for file in SITE.pages:
        if file.endswith(".ipynb"):
            for cell in as_page(SITE, file)["cells"]:
                images = ["image/png" in output.get("data", {}) for output in cell.get("outputs", [])]
                alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
                assert sum(images) <= 1 and (len(alt) > 20 or not any(images)), file


def test_what_a_module_exports_is_documented():
    for module, source in sources(ROOT / "pag_companion").items():
        names = re.search(r"^__all__ = (\[.*?\])", source, re.M | re.S)
        elsewhere = {alias.name for node in ast.parse(source).body
                     if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert names and list(documented(source)) == [
            name for name in ast.literal_eval(names[1]) if name not in elsewhere], module
    page = texts()["api/attacks.rst"]
    assert ".. py:function:: pgd(model: torch.nn.Module, x: torch.Tensor" in page
    assert ":param x:" in page and ":returns:" in page and ":doc:`/library/14_attacks`" in page


def test_the_extra_is_the_same_in_settings_and_pyproject():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["site"] == read_settings(ROOT)["site_requirements"].split()


def test_pages_are_built_by_the_same_command_everywhere():
    workflow = (ROOT / ".github" / "workflows" / "site.yml").read_text()
    assert "run: make site" in workflow and "path: build/site" in workflow
    assert re.search(r"^site: .*##", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("sphinx"), reason="Sphinx is missing: `make site` installs it")
def test_nothing_is_loaded_from_outside_and_every_link_leads_somewhere(tmp_path):
    assert build(ROOT, tmp_path / "site") == []
    for path in notebooks(ROOT):
        page = (tmp_path / "site" / path.relative_to(ROOT / "nbs")).with_suffix(".html")
        images = sum("image/png" in output.get("data", {}) for cell in read_notebook(path)["cells"]
                     for output in cell.get("outputs", []))
        assert page.read_text().count("<img") >= images, f"{path.name}: an image is missing"
    assert "attacks.pgd" in (tmp_path / "site" / "genindex.html").read_text()
    assert (tmp_path / "site" / "searchindex.js").stat().st_size > 10_000
