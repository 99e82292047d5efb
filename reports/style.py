"""One look for every plot: colours that colour-blind readers can tell apart, on light and dark.

Plots are drawn in placeholder colours; in the SVG these become CSS variables, which the page sets,
so that one picture serves both a light and a dark page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.sax.saxutils import escape, quoteattr

# Variable -> its colour in matplotlib, which no other part of a picture has, on light, and on dark:
# Okabe and Ito's palette, darkened or lightened until it is read on white or on near black.
COLOURS: Mapping[str, tuple[str, str, str]] = {
    "ink": ("#010101", "#1d2329", "#e4e8eb"),
    "muted": ("#020202", "#59626c", "#a3adb6"),
    "line": ("#030303", "#d5dade", "#38414a"),
    "torch": ("#040404", "#0066a1", "#62b6ee"),
    "mlx": ("#050505", "#b35900", "#f0a742"),
    "bad": ("#060606", "#a8123e", "#ff8aa5"),
    "limit": ("#070707", "#59626c", "#a3adb6"),
    "soft": ("#080808", "#e7ebee", "#2a3138"),
    "paper": ("#090909", "#ffffff", "#14181c"),
}
VARIABLES: Mapping[str, str] = {drawn: name for name, (drawn, _, _) in COLOURS.items()}
LIGHT: Mapping[str, str] = {name: light for name, (_, light, _) in COLOURS.items()}
DARK: Mapping[str, str] = {name: dark for name, (_, _, dark) in COLOURS.items()}
INK, MUTED, GRID, TORCH, MLX, WRONG, LIMIT, SOFT, PAPER = VARIABLES

# Classes and speakers: Okabe and Ito's own, which hold on both grounds.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#56b4e9", "#cc79a7", "#b8a800", "#8c6bb1", "#7f7f7f")
LINES = ("-", "--", "-.", ":")

RC: Mapping[str, str] = {  # beside templates/plots.mplstyle
    "axes.titlecolor": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}

_PLACEHOLDER = re.compile("|".join(VARIABLES))
_FONT = re.compile(r"font: (\d[\d.]*)px [^;\"]*")
_BOLD = re.compile(r"font: (?:normal )?(bold|700) (\d[\d.]*)px [^;\"]*")
_HEAD = re.compile(r"^.*?<svg [^>]*?viewBox=\"([^\"]*)\"[^>]*>", re.DOTALL)
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_GROUP_ID = re.compile(r"<g id=\"[^\"]*\">")
# Two equal images get one id, which nothing refers to.
_IMAGE_ID = re.compile(r"(<image [^>]*?)\s*\bid=\"[^\"]*\"")
_ID = re.compile(r"(\bid=\"|url\(#|href=\"#)")


def themed(svg: str, key: str, alt: str) -> str:
    """matplotlib's SVG -> one that fits into a page: variables for colours, its own ids, a name."""
    body = _METADATA.sub("", svg)
    body = _IMAGE_ID.sub(r"\g<1>", _GROUP_ID.sub("<g>", body))
    body = _ID.sub(rf"\g<1>{key}-", body)
    body = _BOLD.sub(r"font: \g<1> \g<2>px system-ui, sans-serif", body)
    body = _FONT.sub(r"font: \g<1>px system-ui, sans-serif", body)
    body = _PLACEHOLDER.sub(_variable, body)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="\\1" role="img" aria-label={_literal(quoteattr(alt))}>'
        f"<title>{_literal(escape(alt))}</title>"
    )
    return _HEAD.sub(head, body, count=1).strip()


def moved(svg: str, key: str, place: str) -> str:
    """The same SVG with its ids behind another prefix."""
    return re.sub(rf"(\bid=\"|url\(#|href=\"#){key}-", rf"\g<1>{place}-{key}-", svg)


def _literal(words: str) -> str:
    return words.replace("\\", "\\\\")


def _variable(found: re.Match[str]) -> str:
    name = VARIABLES[found[0]]
    return f"var(--{name}, {LIGHT[name]})"


def variables(colours: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


def standalone(svg: str) -> str:
    """The same as a file of its own, which follows the reader's light or dark."""
    style = (
        f"<style>svg{{{variables(LIGHT)}}}"
        f"@media(prefers-color-scheme:dark){{svg{{{variables(DARK)}}}}}</style>"
    )
    end = svg.index("</title>") + len("</title>")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{svg[:end]}{style}{svg[end:]}\n'
