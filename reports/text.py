"""Texts from outside, made fit to be shown: tensor names, file names, hub ids, reasons.

Whatever cannot be seen, or is seen elsewhere than it stands, is written as its escape; then each
format escapes what it takes for its own.
"""

from __future__ import annotations

import re
import unicodedata

# Control characters, marks that turn the reading direction, halves of pairs, unassigned code
# points and line separators: none of them is seen as what it is.
UNSEEN = frozenset(("Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"))
SAFE_IN_BACKTICKS = re.compile(r"[\w./:+=,@%()\[\]{}-](?:[\w ./:+=,@%()\[\]{}-]*[\w./:+=,@%()-])?")
# What Markdown reads as its own. Between two letters an underscore is one.
PUNCTUATION = re.compile(r"[\\`*{}\[\]<>#|&~$!^]|(?<![^\W_])_|_(?![^\W_])")
# What may begin a list, an underline or a block of code.
OPENING = re.compile(r"[-+=\s]|\d+(?:[.)](?=\s|$)|$)")
# What GitHub makes mentions, references and links of, except in code.
CALLING = re.compile(r"@|#\d|://|www\.", re.IGNORECASE)

LINKS = re.compile(r"(?<=www)\.|:(?=//)", re.IGNORECASE)


def visible(text: str) -> str:
    """The text in one line, with ``\\n``, ``\\u202e`` and the like for what cannot be seen."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(x) if unicodedata.category(x) in UNSEEN else x for x in text)


def _escape(character: str) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    code = ord(character)
    return short.get(character) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


# Markdown -----------------------------------------------------------------------------------------


def code(text: str) -> str:
    """A name in a line or a table of Markdown."""
    shown = visible(text)
    if SAFE_IN_BACKTICKS.fullmatch(shown):
        return f"`{shown}`"
    # In HTML's own code element Markdown goes on, so links are broken up there, too.
    apart = LINKS.sub(lambda found: f"&#{ord(found[0])};", _entities(shown))
    return f"<code>{apart}</code>"


def inline(text: str) -> str:
    """Words within a line or a table of Markdown; as code, if they would call somebody."""
    shown = visible(text)
    return code(text) if CALLING.search(shown) else _entities(shown)


def prose(text: str) -> str:
    """A sentence that begins a line or an item of Markdown."""
    shown = visible(text)
    opening = OPENING.match(shown)
    if opening is None or CALLING.search(shown):
        return inline(text)
    first = "".join(f"&#{ord(x)};" for x in opening[0])
    return first + _entities(shown[opening.end() :])


def _entities(text: str) -> str:
    # A character reference never counts as Markdown's own.
    return PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", text)
