"""Sphinx: how the site is built. ``make docs`` builds it, and every warning is an error."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(Path(__file__).parent / "_ext"), str(ROOT / "scripts")]

import memonf  # noqa: E402

project = "MeMo NF"
author = "MeMo NF maintainers"
release = version = memonf.__version__

extensions = [
    "generated",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_ext"]
# The notebook is shown as it was last run (scripts/run_notebook.py); tests run it.
nb_execution_mode = "off"
# The pages are Markdown that a Git host shows as well, so links are plain relative ones.
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Reference", "notes_style"), ("Symbols", "notes_style")]

html_theme = "furo"
html_title = f"MeMo NF {version}"
html_static_path = []
html_copy_source = False
