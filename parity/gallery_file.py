"""What became of every injected bug, on disk: what reports show and a release asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.errors import SamevoiceError
from samevoice.files import read_versioned

if TYPE_CHECKING:
    from samevoice.parity.gallery import Finding

SCHEMA = 1
NAME = "gallery.json"
COLUMNS = ("family", "architecture", "bug", "effect", "where", "found", "noise_ratio", "right")


class GalleryError(SamevoiceError):
    """A file that holds no gallery."""


@dataclass(frozen=True)
class Gallery:
    """Findings as plain values, and the versions that found them."""

    findings: tuple[Mapping[str, Any], ...]
    versions: Mapping[str, str]

    def of(self, architecture: str) -> tuple[Mapping[str, Any], ...]:
        return tuple(one for one in self.findings if one.get("architecture") == architecture)

    def wrong(self, architecture: str) -> tuple[str, ...]:
        """The bugs that were not found where they sit, or found where nothing is."""
        rows = self.of(architecture)
        return tuple(str(one.get("bug")) for one in rows if one.get("found") != one.get("where"))


def written(findings: Mapping[str, Sequence[Finding]], versions: Mapping[str, str]) -> str:
    """Source -> findings, as the text of the file."""
    rows = [
        {"source": source, **{name: getattr(one, name) for name in COLUMNS}}
        for source, found in findings.items()
        for one in found
    ]
    document = {"schema": SCHEMA, "versions": dict(versions), "findings": rows}
    return json.dumps(document, indent=1) + "\n"


def read(path: Path) -> Gallery:
    """What ``samevoice gallery`` found, as it wrote it."""
    otherwise = f"holds no gallery of schema {SCHEMA}: samevoice gallery --output writes one"
    found = read_versioned(path, SCHEMA, GalleryError, otherwise)
    rows, versions = found.get("findings"), found.get("versions")
    if not isinstance(rows, list):
        raise GalleryError(f"{path} {otherwise}")
    said = {str(k): str(v) for k, v in versions.items()} if isinstance(versions, dict) else {}
    return Gallery(tuple(row for row in rows if isinstance(row, dict)), said)
