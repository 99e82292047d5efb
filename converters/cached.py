"""A model by its name, converted once: what commands take where they want a bundle."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import samevoice
from samevoice.converters.reading import open_models
from samevoice.errors import SourceError
from samevoice.files import cache_folder

DEFAULT = "open:diarization"
NOTHING: Mapping[str, Any] = {}


def bundle_of(word: str, announce: Callable[[str], None]) -> Path:
    """The folder ``word``, or the bundle of the source of that name, as ``made_once`` makes it."""
    if Path(word).is_dir():
        return Path(word)
    if _is_made(target := _place(word)):
        return target
    from samevoice.converters.reading import sources

    if not sources.is_name(word):
        raise SourceError(
            f"{word}: no such bundle, and not the name of a model: {DEFAULT} needs no account, and "
            "pyannote/speaker-diarization-community-1 is fetched once you have accepted its "
            "conditions (hf auth login)"
        )
    return made_once(word, announce)


def made_once(
    source: str, announce: Callable[[str], None], about: str = "", **precision: Any
) -> Path:
    """The bundle of any source in the cache, made on the first call.

    ``announce`` is told before anything is fetched. Where another process makes it, this one waits.
    ``about``: a hash of what a path leads to; ``precision``: a dtype or bits, as for ``convert``.
    """
    target = _place(source, about, precision)
    if not _is_made(target):
        # The converters take longer to import than all else that a bundle in the cache needs.
        from samevoice.converters import bundle
        from samevoice.converters.convert import convert

        with bundle.alone(target.with_name(f"{target.name}.made"), wait=True):
            if not _is_made(target):
                announce(f"converting {source}, once" if about else _what(source, target))
                convert(source, target, overwrite=True, **precision)
    return target


def _is_made(target: Path) -> bool:
    return (target / "config.json").is_file()


def _place(word: str, about: str = "", precision: Mapping[str, Any] = NOTHING) -> Path:
    """An open pipeline of other settings is another bundle."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(word).name if about else word)
    model = open_models.OPEN.get(word.removeprefix(open_models.SCHEME))
    said = f"{word}{model.config if model else ''}{about}"
    key = "-".join([hashlib.sha256(said.encode()).hexdigest()[:8], *map(str, precision.values())])
    return cache_folder() / "bundles" / samevoice.__version__ / f"{name}-{key}"


def _what(word: str, target: Path) -> str:
    model = open_models.OPEN.get(word.removeprefix(open_models.SCHEME))
    if model is None:
        return f"fetching {word}, once; delete {target} to fetch it again"
    if model.is_here():
        return f"converting {word}, once"
    licence = model.licence
    size = f"{model.download / 1e6:.0f} MB"
    return f"fetching {word}, {size}, once ({licence.id}; {licence.attribution})"
