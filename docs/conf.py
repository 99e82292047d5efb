"""How the site looks and how its API is read; docs/make_site.py builds it."""

from __future__ import annotations

import re
from typing import Any

from pygments.lexers.special import TextLexer

from samevoice import __version__

project, version, release = "samevoice", __version__, __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = "samevoice"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = html_show_copyright = False
smartquotes = False  # "gpu" is a string, and --fast an option

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
default_role = "code"
python_display_short_literal_types = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
# What other packages document, and names that stand for longer types.
nitpick_ignore_regex = [
    ("py:class", r"(collections|mlx|numpy|pathlib|torch|typing)\..*"),
    ("py:class", r"Audio|NDArray|Order|Shape|Table|Tensor"),
]

ARRAY = re.compile(r"~?numpy\.ndarray\[.*?~?numpy\.dtype\[~?typing\.Any\]\]")


def shortened(*given: Any) -> tuple[str | None, str | None]:
    """A signature as the code has it: arrays of any type, and defaults that are made anew."""
    texts = [text and ARRAY.sub("~numpy.ndarray", text) for text in given[-2:]]
    return texts[0] and texts[0].replace("<factory>", "..."), texts[1]


def setup(app: Any) -> None:
    app.connect("autodoc-process-signature", shortened)
    app.add_lexer("mermaid", TextLexer)
