"""One look for every plot: colours that colour-blind readers can tell apart, on light and dark.

Plots are drawn in placeholder colours; in the SVG these become CSS variables, which the page sets,
so that one picture serves both a light and a dark page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

# What is drawn -> its colour in matplotlib, which no other part of a picture has.
INK, MUTED, GRID = "#010101", "#020202", "#030303"
TORCH, MLX, WRONG, LIMIT = "#040404", "#050505", "#060606", "#070707"
SOFT, PAPER = "#080808", "#090909"

VARIABLES: Mapping[str, str] = {
    INK: "ink",
    MUTED: "muted",
    GRID: "line",
    TORCH: "torch",
    MLX: "mlx",
    WRONG: "bad",
    LIMIT: "limit",
    SOFT: "soft",
    PAPER: "paper",
}

# Okabe and Ito's palette, darkened or lightened until it is read on white or on near black.
LIGHT: Mapping[str, str] = {
    "ink": "#1d2329",
    "muted": "#59626c",
    "line": "#d5dade",
    "torch": "#0066a1",
    "mlx": "#b35900",
    "bad": "#a8123e",
    "limit": "#59626c",
    "soft": "#e7ebee",
    "paper": "#ffffff",
}
DARK: Mapping[str, str] = {
    "ink": "#e4e8eb",
    "muted": "#a3adb6",
    "line": "#38414a",
    "torch": "#62b6ee",
    "mlx": "#f0a742",
    "bad": "#ff8aa5",
    "limit": "#a3adb6",
    "soft": "#2a3138",
    "paper": "#14181c",
}

# Classes and speakers: Okabe and Ito's own, which hold on both grounds.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#56b4e9", "#cc79a7", "#b8a800", "#8c6bb1", "#7f7f7f")
LINES = ("-", "--", "-.", ":")

RC: Mapping[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "samevoice",
    "text.parse_math": False,  # a tensor's name may hold a dollar
    "path.simplify": True,
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.titlepad": 7.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "ytick.minor.size": 0.0,
    "xtick.minor.size": 0.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.2,
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
