"""Configuration of the documentation site: ``make docs`` builds it into ``docs/_build/html``.

The build needs no network and the pages load nothing from outside: no intersphinx, no fonts, no scripts.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / "_ext"), str(Path(__file__).parent.parent)]

import streamseg  # noqa: E402

project = "streamseg"
author = "the streamseg developers"
copyright = "the streamseg developers, Apache-2.0"
version = release = streamseg.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "command_reference"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3  # plain Markdown otherwise: the pages are also read in the repository

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_type_aliases = {name: name for name in ("Grey", "Image", "Mask", "Tensor")}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"streamseg {release}"
html_static_path = ["_static"]
html_css_files = ["streamseg.css"]
html_copy_source = False
html_theme_options = {
    "announcement": "<strong>Research software, not a medical device.</strong> "
    "<span>Nothing it shows may decide how a person is treated.</span>",
    "light_css_variables": {"color-brand-primary": "#0b5a8a", "color-brand-content": "#0b5a8a"},
    "dark_css_variables": {"color-brand-primary": "#8fc7f0", "color-brand-content": "#8fc7f0"},
}
