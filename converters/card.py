"""The README.md of a bundle: what it is, where it came from, what was done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import samevoice
from samevoice.converters.rules import count

if TYPE_CHECKING:
    from samevoice.converters.convert import Conversion
    from samevoice.converters.sources import Source

_WHAT = {
    "segmentation": "Who speaks when within ten seconds (PyanNet)",
    "embedding": "A voice as a vector (WeSpeaker ResNet)",
    "plda": "The PLDA and x-vector transform that clustering compares voices in",
    "full": "A whole speaker diarization pipeline: segmentation, embedding and PLDA",
}
_TAGS = {
    "segmentation": ("mlx", "speaker-segmentation"),
    "embedding": ("mlx", "speaker-embedding"),
    "plda": ("mlx", "speaker-diarization"),
    "full": ("mlx", "speaker-diarization"),
}


def render(made: Conversion) -> str:
    """The card's text. It says nothing that the provenance does not hold."""
    hub = next((p.source.name for p in made.parts if p.source.kind == "hub"), None)
    front = ["---", "library_name: mlx", "tags:", *(f"- {tag}" for tag in _TAGS[made.model_type])]
    front += [f"base_model: {hub}"] if hub else []
    front += ["pipeline_tag: voice-activity-detection"] if made.model_type != "plda" else []
    warning = [f"> **{made.note}**", ""] if made.note else []
    came_from = [made.pipeline] if made.pipeline else [part.source for part in made.parts]
    origin = ", ".join(_origin(source) for source in came_from)
    said = [f"- {note}" for part in made.parts for note in part.notes]
    body = [
        f"# {made.model_type} in MLX",
        "",
        *warning,
        f"{_WHAT[made.model_type]}, converted from {origin} "
        f"by samevoice {samevoice.__version__} as {_numbers(made)}.",
        "",
        *_tally(made),
        "",
        *([*said, ""] if said else []),
        "`provenance.json` names every tensor, where it came from and the hash of every file; "
        "`samevoice inspect` prints it. `samevoice convert --to torch` gives the PyTorch "
        "checkpoint back.",
    ]
    return "\n".join([*front, "---", "", *body]) + "\n"


def _origin(source: Source) -> str:
    # A name from outside must not make Markdown of its own.
    name = "".join(
        letter if letter.isprintable() and letter != "`" else "?" for letter in source.name
    )
    return f"`{name}` at `{source.revision}`" if source.revision else f"`{name}`"


def _numbers(made: Conversion) -> str:
    if made.model_type == "plda":
        return "float64"
    options = made.parts[0].options
    return f"{options.dtype}, {options.q_bits} bits" if options.q_bits else options.dtype


def _tally(made: Conversion) -> list[str]:
    lines = ["| part | used | derived | dropped | identity |", "| --- | --- | --- | --- | --- |"]
    for part in made.parts:
        counts = count(part.rows)
        cells = (str(counts[fate]) for fate in ("used", "derived", "dropped", "identity"))
        lines.append(f"| {part.family.model_type} | {' | '.join(cells)} |")
    return lines
