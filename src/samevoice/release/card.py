"""The model card of a release: usage that runs, what was measured, what it says, and the terms.

Names from outside are shown as code or escaped: a checkpoint's name makes no Markdown of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import samevoice
from samevoice.converters import bundle as bundles
from samevoice.converters.bundle import PROVENANCE
from samevoice.converters.card import KINDS, front_matter
from samevoice.parity.details import tensors as counted
from samevoice.release import corpora
from samevoice.release.terms import Offer
from samevoice.reports.details import tensors
from samevoice.reports.rendering import rendered

REFERENCE = "reference"


def render(one: Offer, shown: Sequence[Mapping[str, Any]], repo: str | None) -> str:
    """The text of README.md; the same release always gives the same bytes.

    ``shown`` is each comparison: its label, the place of its files, its view, and in words what its
    ladder shows. ``repo`` is where the hub has the release.
    """
    main, note = one.sources[one.kind], str(one.provenance.get("note") or "")
    hub = dict.fromkeys(x["name"] for x in one.sources.values() if x["kind"] == "hub")
    tags = (REFERENCE,) if note else ()
    named = dict.fromkeys((one.kind, *(part.label for part in one.parts)))
    title = _title(main, one.kind)
    return rendered(
        "card.md",
        front="\n".join(front_matter(one.kind, list(hub), main.get("licence"), tags)),
        title=title,
        note=note,
        what=KINDS[one.kind].what,
        main=main,
        version=samevoice.__version__,
        options=one.provenance.get("options", {}),
        repo=repo,
        place=_place(title, one.kind, repo),
        arrays=", ".join(_arrays(one.parts[0].config)),
        parts=shown,
        fast=one.fast,
        over=[(claim.says, corpora.sentence(found)) for claim, found in one.shown],
        copies=all(part.is_data for part in one.parts),
        loosened=[f"{part.label}, {loose}" for part, loose in one.loosened],
        accepted=one.accepted,
        tallies={
            part.label: tensors(counted(bundles.read_json(part.folder / PROVENANCE)))
            for part in one.parts
            if not part.is_pipeline
        },
        sources={name: one.sources[name] for name in named if name in one.sources},
    )


def _title(source: Mapping[str, Any], kind: str) -> str:
    if source["kind"] == "hub":
        return str(source["name"]).rpartition("/")[2]
    plain = KINDS[kind].tag.replace("-", " ")
    return f"Reference {plain}" if source["kind"] == REFERENCE else plain.capitalize()


def _arrays(config: Mapping[str, Any]) -> Iterator[str]:
    """What a network of arrays is called with."""
    sizes = config.get("sizes") or {}
    for given in config.get("inputs", ()):
        shape = tuple(sizes.get(x, x) for x in given["shape"])
        dtype = str(given.get("dtype", "float32")).replace("bool", "bool_")
        yield f"mx.zeros({shape}, mx.{dtype})"


def _place(title: str, kind: str, repo: str | None) -> str:
    """How the usage names the folder: never as this machine does."""
    if repo:
        return repo.rpartition("/")[2]
    name = title.lower().replace(" ", "-")
    return f"{name if re.fullmatch(r'[a-z0-9._-]+', name) else kind}-mlx"
