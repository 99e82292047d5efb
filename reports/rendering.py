"""The templates of every form, and how each form escapes: nothing from outside is markup.

HTML and XML are escaped by the template engine, Markdown by ``text.inline``; what cannot be seen is
written as its escape in all of them.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from samevoice.errors import MissingExtraError
from samevoice.reports.text import code, inline, prose, visible
from samevoice.reports.words import cosine, limit_words, number, ratio, several

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
except ImportError:
    raise MissingExtraError("jinja2, which writes the reports,", "parity") from None

TEMPLATES = Path(__file__).resolve().parent / "templates"


def rendered(template: str, **content: Any) -> str:
    """A template of this package, whose suffix says what it is escaped for."""
    page: str = _environment(template.endswith(".md")).get_template(template).render(**content)
    return page


@cache
def file_text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8").strip()


@cache
def _environment(is_markdown: bool) -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_as_markdown if is_markdown else _seen,
        trim_blocks=True,
        lstrip_blocks=is_markdown,
        keep_trailing_newline=is_markdown,
    )
    made.filters |= {
        "num": number,
        "ratio": ratio,
        "cos": cosine,
        "n": lambda value: f"{value:,}",
        "limits": limit_words,
        "several": several,
        "raw": Markup,  # what has been escaped before
        "code": lambda words: Markup(code(words)),
        "prose": lambda words: Markup(prose(words)),
        # A colon is quoted, too: nothing but a path can stand here.
        "path": lambda path: Markup(quote(path, safe="/", errors="replace")),
        "fenced": lambda command: Markup(_fenced(visible(command))),
    }
    return made


def _seen(value: Any) -> Any:
    """Texts with nothing hidden in them."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _as_markdown(value: Any) -> Markup:
    return value if isinstance(value, Markup) else Markup(inline(str(value)))


def _fenced(command: str) -> str:
    """A block of code, whatever backticks stand in it."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", command)), default=2))
    return f"{fence}sh\n{command}\n{fence}"
