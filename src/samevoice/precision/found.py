"""What precision.json holds: layers in each type, the ladder of types, the mixture found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from samevoice import __version__
from samevoice.converters import recipe as recipes
from samevoice.converters.recipe import Recipe
from samevoice.evaluation import figures
from samevoice.evaluation.figures import Figure, Rates
from samevoice.evaluation.scores import Score
from samevoice.parity.bounds import METRICS
from samevoice.parity.limits import Limits
from samevoice.precision.trial import Figures

SCHEMA = 1
FOUND = "found"  # among the rungs


@dataclass(frozen=True)
class Rung:
    """A recipe, its size, and what it comes to. ``name``: a type, or ``found``."""

    name: str
    recipe: Recipe
    nbytes: int
    figures: Figures

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "bytes": self.nbytes, **self.figures.as_dict()}


@dataclass(frozen=True)
class Layer:
    """One layer alone in each type that it can have."""

    name: str
    values: int
    nbytes: Mapping[str, int]
    figures: Mapping[str, Figures]

    def as_dict(self) -> dict[str, Any]:
        return {
            "layer": self.name,
            "values": self.values,
            "types": {
                type_: {"bytes": self.nbytes[type_], **one.as_dict()}
                for type_, one in self.figures.items()
            },
        }


@dataclass(frozen=True)
class FoundPart:
    """``name``: empty where the bundle is one model. ``tried``: mixtures on the way."""

    name: str
    architecture: str
    limits: Limits
    layers: tuple[Layer, ...]
    ladder: tuple[Rung, ...]  # the first is float32
    tried: tuple[Rung, ...]
    found: Rung

    @property
    def title(self) -> str:
        return self.name or self.architecture

    @property
    def telling(self) -> str:
        """The first figure that the limits of the task name."""
        return next(iter(self.limits.for_task))

    def type_of(self, layer: Layer) -> str:
        """What the recipe makes of a layer; what does not fit it stays as it is."""
        found = self.found.recipe.type_of(layer.name)
        return found if found in layer.figures else self.found.recipe.dtype

    def as_dict(self) -> dict[str, Any]:
        return {
            "part": self.name,
            "architecture": self.architecture,
            "limits": [
                {"metric": name, "sense": METRICS[name].sense, "bound": one.bound}
                for name, one in self.limits.for_task.items()
            ],
            "layers": [one.as_dict() for one in self.layers],
            "ladder": [one.as_dict() for one in self.ladder],
            "tried": [one.as_dict() for one in self.tried],
            "found": self.found.as_dict()
            | {"layers": {x.name: self.type_of(x) for x in self.layers}},
        }


@dataclass(frozen=True)
class Heard:
    """A corpus through the whole pipeline, by rung: the score of each recording."""

    corpus: str
    uris: Sequence[str]
    scores: Mapping[str, Sequence[Score]]  # float32 first

    def der(self, rung: str) -> Figure:
        return figures.means(Rates.of_scores(self.scores[rung]))[0]

    def change(self, rung: str) -> Figure:
        """Against float32, recording by recording."""
        first = next(iter(self.scores.values()))
        pair = (Rates.of_scores(x) for x in (first, self.scores[rung]))
        return figures.changes(*pair)[0]

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.corpus,
            "recordings": list(self.uris),
            "ladder": [
                {
                    "name": name,
                    "der": self.der(name).as_dict(),
                    "change": self.change(name).as_dict(),
                    "recordings": [one.as_dict() for one in scores],
                }
                for name, scores in self.scores.items()
            ],
        }


@dataclass(frozen=True)
class Precision:
    """``others``: bytes of what no recipe changes, as of a PLDA."""

    bundle: str
    fingerprint: str
    source: str
    parts: tuple[FoundPart, ...]
    others: int = 0
    heard: Heard | None = None

    def nbytes(self, rung: str) -> int:
        """Of all weights of the bundle."""
        every = ({x.name: x for x in (*part.ladder, part.found)} for part in self.parts)
        return self.others + sum(found[rung].nbytes for found in every)

    @property
    def names(self) -> list[str]:
        return [*(rung.name for rung in self.parts[0].ladder), FOUND]

    @property
    def recipe(self) -> str:
        """As ``convert --recipe`` reads it."""
        tables = recipes.text({part.name: part.found.recipe for part in self.parts})
        return f"# Found by samevoice precision {__version__}.\n\n{tables}"

    @property
    def answer(self) -> str:
        small, large = self.nbytes(FOUND), self.nbytes(self.names[0])
        said = (
            f"{megabytes(small)} instead of {megabytes(large)}, {small / large:.0%} of float32, "
            "keeps every limit of the task"
        )
        if self.heard is None:
            return f"{said}."
        change = self.heard.change(FOUND)
        ends = ""
        if change.low is not None and change.high is not None:
            ends = f" ({points(change.low)} to {points(change.high)})"
        recordings = (
            "1 recording" if len(self.heard.uris) == 1 else f"{len(self.heard.uris)} recordings"
        )
        return f"{said}; DER changes by {points(change.value)} points{ends} on {recordings}."

    def as_dict(self) -> dict[str, Any]:
        """``schema`` and ``command`` first: they tell what the file is."""
        return {
            "schema": SCHEMA,
            "command": "precision",
            "samevoice": __version__,
            "answer": self.answer,
            "bundle": {"name": self.bundle, "sha256": self.fingerprint},
            "source": self.source,
            "sizes": {name: self.nbytes(name) for name in self.names},
            "parts": [part.as_dict() for part in self.parts],
            "corpus": self.heard.as_dict() if self.heard else None,
            "recipe": self.recipe,
        }


def megabytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def points(value: float) -> str:
    """A difference of rates in points of per cent, with its sign."""
    return f"{100 * value:+.2f}"
