"""Settings of the documentation: `make docs`, or `sphinx-build -W docs docs/_build/html`."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import reference

project = "jaxmec"
author = "The jaxmec authors"
copyright = author
release = version_of("jaxmec")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "index"
exclude_patterns = ["_build", "examples"]
html_theme = "furo"
html_title = "jaxmec"
html_static_path = ["_static"]
html_css_files = ["jaxmec.css"]
default_role = "code"  # docstrings write names in single backquotes
suppress_warnings = ["myst.strikethrough"]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 90

reference.write(Path(__file__).parent / "generated")


def setup(app):
    """Docstrings of this project as Sphinx reads them."""
    app.connect("autodoc-process-docstring", reference.docstring, priority=100)
    app.connect("autodoc-skip-member", reference.skip)
