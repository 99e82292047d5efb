"""A model by its name, converted once: what commands take where they want a bundle."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import samevoice
from samevoice.converters import bundle
from samevoice.converters.convert import convert
from samevoice.converters.reading import open_models, sources
from samevoice.errors import BundleError, SourceError
from samevoice.files import cache_folder

DEFAULT = "open:diarization"


def bundle_of(word: str, announce: Callable[[str], None]) -> Path:
    """The folder ``word``, or the bundle of that source in the cache, made on the first call.

    ``announce`` is told before anything is fetched.
    """
    if Path(word).is_dir():
        return Path(word)
    if not sources.is_name(word):
        raise SourceError(
            f"{word}: no such bundle, and not the name of a model: {DEFAULT} needs no account, and "
            "pyannote/speaker-diarization-community-1 is fetched once you have accepted its "
            "conditions (hf auth login)"
        )
    target = _place(word)
    if not (target / bundle.CONFIG).is_file():
        announce(_what(word))
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            convert(word, target)
        except BundleError:
            if not (target / bundle.CONFIG).is_file():  # or another process made it meanwhile
                raise
    return target


def _place(word: str) -> Path:
    name = (
        f"{re.sub(r'[^A-Za-z0-9.-]+', '-', word)}-{hashlib.sha256(word.encode()).hexdigest()[:8]}"
    )
    return cache_folder() / "bundles" / samevoice.__version__ / name


def _what(word: str) -> str:
    model = open_models.OPEN.get(word.removeprefix(open_models.SCHEME))
    if model is None or model.is_here():
        return f"{word}, to be converted and kept in {cache_folder()}"
    licence = model.licence
    return f"{word}, {model.download / 1e6:.0f} MB, once ({licence.id}; {licence.attribution})"
