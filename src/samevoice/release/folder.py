"""A release folder as it is sent: every file with its hashes, compared with SHA256SUMS."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from samevoice.converters import bundle
from samevoice.converters.bundle import SUMS, UNSUMMED, read_sums
from samevoice.release.hub_errors import UploadError

Progress: TypeAlias = Callable[[str, int, int], None]  # what is done, bytes done, bytes in all


@dataclass(frozen=True)
class File:
    path: Path
    size: int
    sha256: str
    blob: str  # the name that git gives to its content

    def is_at(self, there: Remote | None) -> bool:
        """Whether the hub has these bytes under this name."""
        return there is not None and (self.sha256 if there.is_large else self.blob) == there.hash


@dataclass(frozen=True)
class Remote:
    """A file on the hub: large ones are known by their sha256, the others by git's name."""

    hash: str | None
    is_large: bool


Files: TypeAlias = Mapping[str, File]


def read_release(folder: Path, tell: Progress) -> Files:
    """Every file of the release, compared with its line in SHA256SUMS."""
    try:
        sums, found = read_sums(folder), set(bundle.files_in(folder))
        if strangers := sorted(found - sums.keys() - {*UNSUMMED}):
            raise UploadError(
                f"{folder} holds {len(strangers)} files that its {SUMS} does not name, "
                f"first {strangers[0]!r}: take them out, or release again"
            )
        if missing := sorted(sums.keys() - found):
            raise UploadError(
                f"{folder} lacks {len(missing)} files that its {SUMS} names, "
                f"first {missing[0]!r}: release again"
            )
        return _hashed(folder, sums, tell)
    except OSError as error:
        at = error.filename or folder
        raise UploadError(f"cannot read {at} ({error.strerror}): check its permissions") from None


def _hashed(folder: Path, sums: Mapping[str, str], tell: Progress) -> Files:
    beside = [name for name in UNSUMMED if (folder / name).exists()]
    sizes = {name: (folder / name).stat().st_size for name in sorted([*sums, *beside])}
    files, done = {}, 0
    for name, size in sizes.items():
        with (folder / name).open("rb") as file:
            sha256, blob = hashes_of(file, size)
        if sha256 != sums.get(name, sha256):
            raise UploadError(
                f"{name!r} in {folder} is not as its {SUMS} says: it was changed after the "
                "release was made; release again"
            )
        files[name] = File(folder / name, size, sha256, blob)
        done += size
        tell("checking", done, sum(sizes.values()))
    return files


def hashes_of(file: Any, size: int) -> tuple[str, str]:
    sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    while piece := file.read(1 << 20):
        sha256.update(piece)
        blob.update(piece)
    return sha256.hexdigest(), blob.hexdigest()
