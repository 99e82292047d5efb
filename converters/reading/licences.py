"""The licence of a source, as its card says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from samevoice import plain_yaml
from samevoice.converters.reading.layouts import folder
from samevoice.errors import SourceError

CARD = "README.md"
CARD_MOST = 64 << 10  # of it is read: the front matter stands at the top
_LICENCE_ID = r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}"


@dataclass(frozen=True)
class Licence:
    """What a source says of the terms it comes under; None is what nobody could tell."""

    id: str | None = None  # as its card says: "mit"; several are "apache-2.0, mit"
    gated: bool | None = None  # whether the hub asks for consent before it gives the files
    name: str | None = None  # the card's license_name, with "other"
    link: str | None = None  # the card's license_link
    attribution: str | None = None  # whom to name, of the open models

    def as_dict(self) -> dict[str, object]:
        """As a provenance has it."""
        said = asdict(self)
        if self.attribution is None:
            del said["attribution"]
        return said


def licence_in(root: Path) -> Licence | None:
    """As the README.md of a folder says; one that leads out of the folder is not read."""
    try:
        place = folder(root)
        if not place.has(CARD) or not place.inside(CARD):  # has: no pipe either
            return None
        with (root / CARD).open("rb") as file:
            head = file.read(CARD_MOST)
    except (OSError, SourceError):
        return None
    said = licence_of(front_matter(head))
    return said if said != Licence() else None


def licence_of(card: Mapping[str, object], gated: object = None) -> Licence:
    """Anybody can write a card: what is not as it should be says nothing."""
    given = card.get("license")
    ids = given.split(", ") if isinstance(given, str) else given
    ids = ids if isinstance(ids, list) and len(ids) <= 10 else []
    known = all(isinstance(word, str) and re.fullmatch(_LICENCE_ID, word) for word in ids)
    return Licence(
        id=", ".join(sorted({*ids})) or None if known else None,
        gated=gated if isinstance(gated, bool) else None,
        name=_line(card.get("license_name")),
        link=_line(card.get("license_link")),
    )


def _line(given: object) -> str | None:
    """A short text that can stand in a line of its own."""
    text = given.strip() if isinstance(given, str) else ""
    return text if text and len(text) <= 300 and text.isprintable() else None


def front_matter(head: bytes) -> dict[str, object]:
    """The plain texts, and the lists of such, at the top of a card's YAML."""
    lines = head.decode("utf-8-sig", errors="replace").split("\n")
    ends = [i for i, line in enumerate(lines[1:], 1) if line.rstrip() == "---"]
    if not ends or lines[0].rstrip() != "---":
        return {}
    return plain_yaml.texts_at_top("\n".join(lines[1 : ends[0]]))
