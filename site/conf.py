"How the site looks. Its pages are written by pag_companion.lab.site; `make site` does both."
import shutil
from importlib.util import find_spec
from pathlib import Path

project = "pag_companion"
author = "The pag_companion authors"
copyright = "2026 The pag_companion authors"

extensions = ["myst_nb", "sphinx.ext.mathjax"]

# Notebooks are shown with the outputs they have; nothing is run
nb_execution_mode = "off"
nb_output_stderr = "remove"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "pag_companion"
html_static_path = ["static"]
templates_path = ["templates"]
html_sidebars = {"**": [
    "sidebar/brand.html", "sidebar/search.html", "sidebar/scroll-start.html", "explorer-link.html",
    "sidebar/navigation.html", "sidebar/scroll-end.html"]} # the theme's, and the explorer
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

# MathJax 3 comes from a package, since no page may load anything from outside. Only what pages use
# is copied: the package's own extension would copy all of its 24 MB.
MATHJAX = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
mathjax_path = "mathjax/tex-chtml.js"


def copy_mathjax(app, error):
    "Put MathJax and its fonts among the site's files."
    if error is None:
        target = Path(app.outdir) / "_static" / "mathjax"
        shutil.copytree(MATHJAX / "output/chtml/fonts", target / "output/chtml/fonts", dirs_exist_ok=True)
        shutil.copy(MATHJAX / "tex-chtml.js", target)


def setup(app):
    app.connect("build-finished", copy_mathjax)
