"""The model card of a release: usage that runs, what was measured, what it says, and the terms.

Names from outside are shown as code or escaped: a checkpoint's name makes no Markdown of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import samevoice
from samevoice.converters.card import KINDS, front_matter
from samevoice.parity.result import Result
from samevoice.reports.details import Tensors, tensors
from samevoice.reports.text import code, inline, prose
from samevoice.reports.view import View, view

REFERENCE = "reference"

# How each is used, by what it is.
NETWORK = """\
import mlx.core as mx
import samevoice

model = samevoice.load("{place}")  # an mlx.nn.Module in eval mode
outputs = model(mx.zeros((1, 1, 160000)))  # ten seconds at 16 kHz
print(outputs.shape)
"""
ARRAYS = """\
from samevoice.converters.bundle import read_weights
from pathlib import Path

arrays = {{name: tensor.load() for name, tensor in read_weights(Path("{place}")).items()}}
print(sorted(arrays))
"""
PIPELINE = """\
from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline

pipeline = SpeakerDiarizationPipeline("{place}")
for turn, speaker in pipeline("meeting.wav").speaker_diarization:
    print(f"{{turn.start:.1f}} to {{turn.end:.1f}} s: {{speaker}}")
"""


@dataclass(frozen=True)
class Shown:
    """One comparison, as the card shows it."""

    label: str
    place: str  # the folder of its files, from the top of the release
    result: Result
    ladder: str | None  # what is to be seen in ladder.svg, if there is one

    @property
    def copies(self) -> bool:
        """Arrays that were compared as they are, with no input."""
        return not self.result.inputs


@dataclass(frozen=True)
class Terms:
    """What the release stands on beside its results."""

    provenance: Mapping[str, Any]
    dropped: Mapping[str, Mapping[str, Any]]  # part -> what its own provenance says
    accepted: Mapping[str, str]  # loosened limit -> because
    loosened: Sequence[str]
    repo: str | None = None  # where the hub has it


def render(kind: str, parts: Sequence[Shown], terms: Terms) -> str:
    """The text of README.md; the same release always gives the same bytes."""
    sections = (
        _head(kind, parts, terms),
        _usage(kind, parts, terms),
        _parity(parts),
        _limits(parts, terms),
        _tensors(terms),
        _origin(kind, parts, terms),
    )
    return "\n\n".join("\n".join(lines) for lines in map(list, sections) if lines) + "\n"


def _sources(terms: Terms) -> Mapping[str, Any]:
    found: Mapping[str, Any] = terms.provenance["sources"]
    return found


def _main(kind: str, terms: Terms) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _sources(terms)[kind]
    return found


def _head(kind: str, parts: Sequence[Shown], terms: Terms) -> Iterator[str]:
    source, note = _main(kind, terms), str(terms.provenance.get("note") or "")
    hub = [one["name"] for one in _sources(terms).values() if one["kind"] == "hub"]
    yield from front_matter(
        kind, list(dict.fromkeys(hub)), source.get("licence"), ("reference",) if note else ()
    )
    yield ""
    yield f"# {inline(_title(source, kind))} in MLX"
    yield ""
    if note:
        yield f"> **{prose(note)}**"
        yield ""
    yield (
        f"{KINDS[kind].what}, converted from {code(str(source['name']))} by samevoice "
        f"{samevoice.__version__} and compared with PyTorch layer by layer. "
        f"{_precision(parts, terms)}"
    )


def _title(source: Mapping[str, Any], kind: str) -> str:
    if source["kind"] == "hub":
        return str(source["name"]).rpartition("/")[2]
    plain = KINDS[kind].tag.replace("-", " ")
    return f"Reference {plain}" if source["kind"] == REFERENCE else plain.capitalize()


def _place(kind: str, terms: Terms) -> str:
    """How the usage names the folder: never as this machine does."""
    if terms.repo:
        return terms.repo.rpartition("/")[2]
    name = _title(_main(kind, terms), kind).lower().replace(" ", "-")
    return f"{name if re.fullmatch(r'[a-z0-9._-]+', name) else kind}-mlx"


def _precision(parts: Sequence[Shown], terms: Terms) -> str:
    options = terms.provenance.get("options", {})
    if all(one.copies for one in parts):
        return "Its arrays are copies, in float64."
    bits = f", linear layers in {options['q_bits']} bits" if options.get("q_bits") else ""
    return inline(f"Weights are {options.get('dtype', 'float32')}{bits}.")


def _usage(kind: str, parts: Sequence[Shown], terms: Terms) -> Iterator[str]:
    usage = PIPELINE if len(parts) > 1 else ARRAYS if parts[0].copies else NETWORK
    yield "## Use"
    yield ""
    place = _place(kind, terms)
    yield "```sh"
    yield "pip install samevoice"
    if terms.repo:
        yield f"hf download {terms.repo} --local-dir {place}"
    if usage is PIPELINE:
        yield f"samevoice diarize meeting.wav --model {place} --output meeting.rttm"
    yield "```"
    yield ""
    yield "```python"
    yield from usage.format(place=place).splitlines()
    yield "```"


def _parity(parts: Sequence[Shown]) -> Iterator[str]:
    yield "## Parity with PyTorch"
    yield ""
    yield (
        "Truth is PyTorch's module in float64. The error is the port's RMS error divided by "
        "PyTorch float32's own, both against that truth: about 1 for a correct port, below 1 where "
        "MLX is closer to the truth than PyTorch."
    )
    yield ""
    views = [(one, view(one.result, one.label)) for one in parts]
    yield "| part | figure | value | meaning | report |"
    yield "| --- | --- | ---: | --- | --- |"
    for one, shown in views:
        for k, figure in enumerate(shown.figures):
            link = f"[page]({one.place}/report.html)" if k == 0 else ""
            name = code(one.label) if k == 0 else ""
            cells = (name, inline(figure.name), inline(figure.value), inline(figure.means), link)
            yield f"| {' | '.join(cells)} |"
    for one, _ in views:
        if one.ladder:
            yield ""
            yield f"![{inline(one.ladder)}]({one.place}/ladder.svg)"
    yield ""
    yield (
        "`samevoice verify` on this folder checks every hash, recomputes the verdict from the "
        "figures, and replays PyTorch's saved outputs through MLX on your machine, without "
        "PyTorch."
    )


def _limits(parts: Sequence[Shown], terms: Terms) -> Iterator[str]:
    yield "## What this does not show"
    yield ""
    for one in parts:
        result = one.result
        count = len(result.inputs)
        inputs = f"{count} input{'s' * (count != 1)}" if count else "every array"
        versions = ", ".join(
            f"{name} {result.versions[name]}"
            for name in ("mlx", "torch", "pyannote.audio")
            if name in result.versions
        )
        kind = "copies" if one.copies else f"{result.dtype} on {result.device}"
        said = f"{one.label}: measured on {inputs}, {kind}"
        yield f"- {prose(said)}, with {inline(versions)}."
    yield (
        "- This shows that MLX computes what PyTorch computes. It does not show how accurate the "
        "model is."
    )
    if len(parts) > 1:
        yield "- For the pipeline the replay covers one recording: scores, clustering and turns."
    for words in terms.loosened:
        yield f"- ⚠️ A limit was loosened: {inline(words)}"
    for limit, because in terms.accepted.items():
        yield f"- ⚠️ {code(limit)} was accepted: {inline(because)}"


def _tensors(terms: Terms) -> Iterator[str]:
    yield "## What became of the weights"
    yield ""
    for label, provenance in terms.dropped.items():
        found = _tally(provenance)
        if found is None:
            continue
        yield f"- {code(label)}: {inline(found.said)}"
        for one in found.dropped:
            first = code(one.names[0]) if one.names else "nothing"
            some = first if len(one.names) == 1 else f"{len(one.names)} such as {first}"
            yield f"  - dropped {some}: {inline(one.why)}"
    yield ""
    yield (
        "`provenance.json` names every tensor. `samevoice export` restores the PyTorch checkpoint."
    )


def _tally(provenance: Mapping[str, Any]) -> Tensors | None:
    from samevoice.parity.details import tensors as counted

    return tensors(counted(provenance))


def _origin(kind: str, parts: Sequence[Shown], terms: Terms) -> Iterator[str]:
    yield "## Origin and licence"
    yield ""
    yield "| part | source | revision | sha256 | licence |"
    yield "| --- | --- | --- | --- | --- |"
    named = dict.fromkeys((kind, *(one.label for one in parts)))
    for part in (name for name in named if name in _sources(terms)):
        source = _sources(terms)[part]
        cells = (
            code(part),
            _source(source),
            code(str(source["revision"])[:12]) if source.get("revision") else "",
            code(str(source["sha256"])[:16]),
            inline(_licence(source.get("licence"))),
        )
        yield f"| {' | '.join(cells)} |"
    yield ""
    if terms.provenance.get("note"):
        yield "samevoice made these weights from a seed; no recordings were used."
    else:
        yield (
            "The weights are their authors' work and stay under their licence; only their layout "
            "was changed. Cite the authors of the source, not this copy."
        )


def _source(source: Mapping[str, Any]) -> str:
    name = str(source["name"])
    if source["kind"] == "hub":
        return f"[{inline(name)}](https://huggingface.co/{quote(name)})"
    return f"{code(name)} ({source['kind']})"


def _licence(said: Mapping[str, Any] | None) -> str:
    said = said or {}
    words = [str(said[key]) for key in ("id", "name") if said.get(key)]
    return ", ".join([*(words or ["not named"]), *(["gated"] if said.get("gated") else [])])


def lines_of(views: Iterable[View]) -> list[str]:
    """Each comparison in one line: for a commit message."""
    return [f"{one.name}: {one.figures[0].value} {one.figures[0].name.lower()}" for one in views]
