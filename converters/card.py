"""The README.md of a bundle: what it is, where it came from, what was done to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

import samevoice
from samevoice.converters.rules import count

if TYPE_CHECKING:
    from samevoice.converters.convert import Conversion
    from samevoice.converters.reading.sources import Source


@dataclass(frozen=True)
class Kind:
    """How a kind of bundle is presented to people and to the hub's search."""

    what: str
    tag: str
    pipeline_tag: str | None


KINDS = {
    "segmentation": Kind(
        "Who speaks when within ten seconds", "speaker-segmentation", "voice-activity-detection"
    ),
    "embedding": Kind("A voice as a vector", "speaker-embedding", "feature-extraction"),
    "network": Kind("A network of arrays", "network", None),
    "plda": Kind(
        "The PLDA and x-vector transform that clustering compares voices in", "speaker-plda", None
    ),
    "full": Kind(
        "A whole speaker diarization pipeline", "speaker-diarization", "voice-activity-detection"
    ),
}


def front_matter(
    kind: str, base: Sequence[str], licence: Mapping[str, Any] | None, tags: Sequence[str] = ()
) -> list[str]:
    """What the hub reads of a card; ``licence`` as a provenance has it."""
    shown = KINDS[kind]
    said = {name: value for name, value in (licence or {}).items() if value}
    ids = str(said.get("id", "")).split(", ")
    fields = {
        "library_name": "mlx",
        "tags": ["mlx", shown.tag, *tags],
        "base_model": base[0] if len(base) == 1 else list(base),
        "license": ids[0] if len(ids) == 1 else ids,
        "license_name": said.get("name"),
        "license_link": said.get("link"),
        "pipeline_tag": shown.pipeline_tag,
    }
    kept = {name: value for name, value in fields.items() if value}
    text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=1000)
    return ["---", *text.splitlines(), "---"]


def render(made: Conversion) -> str:
    """The card's text. It says nothing that the provenance does not hold."""
    came_from = [made.pipeline] if made.pipeline else [part.source for part in made.parts]
    hub = list(dict.fromkeys(source.name for source in came_from if source.kind == "hub"))
    licence = came_from[0].licence
    front = front_matter(made.model_type, hub, licence.as_dict() if licence else None)
    warning = [f"> **{made.note}**", ""] if made.note else []
    origin = ", ".join(_origin(source) for source in came_from)
    said = [f"- {note}" for part in made.parts for note in part.notes]
    body = [
        f"# {made.model_type} in MLX",
        "",
        *warning,
        f"{KINDS[made.model_type].what} ({_architectures(made)}), converted from {origin} "
        f"by samevoice {samevoice.__version__} as {_numbers(made)}.",
        "",
        *_tally(made),
        "",
        *_credits(made),
        *([*said, ""] if said else []),
        "`provenance.json` names every tensor, where it came from and the hash of every file; "
        "`samevoice inspect` prints it. `samevoice export` gives the PyTorch checkpoint back.",
    ]
    return "\n".join([*front, "", *body]) + "\n"


def _credits(made: Conversion) -> list[str]:
    """Whom the licences want to be named."""
    said = (part.source.licence for part in made.parts)
    named = [f"- {one.attribution} ({one.id})" for one in said if one and one.attribution]
    return [*named, ""] if named else []


def _architectures(made: Conversion) -> str:
    return ", ".join(str(part.config["architecture"]) for part in made.parts)


def _origin(source: Source) -> str:
    # A name from outside must not make Markdown of its own.
    name = "".join(
        letter if letter.isprintable() and letter != "`" else "?" for letter in source.name
    )
    return f"`{name}` at `{source.revision}`" if source.revision else f"`{name}`"


def _numbers(made: Conversion) -> str:
    said = (part.recipe.says for part in made.parts if not part.family.is_data)
    return " and ".join(dict.fromkeys(said)) or "float64"


def _tally(made: Conversion) -> list[str]:
    lines = ["| part | used | derived | dropped | identity |", "| --- | --- | --- | --- | --- |"]
    for part in made.parts:
        counts = count(part.rows)
        cells = (str(counts[fate]) for fate in ("used", "derived", "dropped", "identity"))
        lines.append(f"| {part.family.role} | {' | '.join(cells)} |")
    return lines
