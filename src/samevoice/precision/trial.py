"""One network whose weights are rounded in memory, and what its output comes to.

The truth is the original in float64, on the inputs that the role's task is measured on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from samevoice.converters import bundle as bundles
from samevoice.converters import recognise
from samevoice.converters.convert import Part
from samevoice.converters.recipe import BITS, TYPES, Recipe, Storage, Stored, layer_of, matrices
from samevoice.models import backend
from samevoice.parity import identity, roles
from samevoice.parity.bounds import METRICS, Override
from samevoice.parity.identity import ParityError
from samevoice.parity.judge import task_violations
from samevoice.parity.limits import Limits, limits_for
from samevoice.parity.metrics import as_float64, row_cosines
from samevoice.parity.task import columns

COARSE = "mixed-4"  # the task's limits are those of every coarse type


@dataclass(frozen=True)
class Figures:
    """What a network's output comes to; ``error`` is relative to the truth's own size, RMS.

    ``task``: the figures that limits know. ``broken``: in words, the limits that they break.
    """

    error: float
    noise_ratio: float
    cosine_min: float
    task: Mapping[str, float]
    broken: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        return not self.broken

    def as_dict(self) -> dict[str, Any]:
        said: dict[str, float] = {
            "error": self.error,
            "noise_ratio": self.noise_ratio,
            "cosine": self.cosine_min,
        }
        plain = {name: x if math.isfinite(x) else None for name, x in {**said, **self.task}.items()}
        return plain | {"kept": self.kept, "broken": list(self.broken)}


@dataclass
class Trial:
    """A part of a bundle, on trial; its recipes compute in float32."""

    folder: Path
    part: Part
    device: backend.Choice
    overrides: Sequence[Override] = ()
    _rounded: dict[tuple[str, Stored], Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, folder: Path, source: str | Path, device: backend.Choice, overrides: Iterable[Override]
    ) -> Trial:
        config = bundles.read_json(folder / bundles.CONFIG)
        if (dtype := identity.dtype_of(config)) != "float32":
            raise ParityError(
                f"{folder} is {dtype}: precision is found from float32, convert without --dtype"
            )
        part = identity.part_of(folder, config["model_type"], source, None)
        identity.check_settings(config, part.config, folder)
        if roles.named(part.family.role).task is None:
            raise ParityError(
                f"{folder} is a {part.family.role}, which has no task to measure precision by"
            )
        return cls(folder, part, device, tuple(overrides))

    # What there is to choose ----------------------------------------------------------------------

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return matrices(self.part.plan.shapes, self.part.exact)

    @cached_property
    def linear(self) -> tuple[str, ...]:
        return recognise.linear(self.part.config)

    @cached_property
    def layers(self) -> dict[str, int]:
        """Each layer, in the checkpoint's order, with the number of its values."""
        found: dict[str, int] = {}
        for name, shape in self.shapes.items():
            found[layer_of(name)] = found.get(layer_of(name), 0) + prod(shape)
        return found

    def types_of(self, layer: str) -> list[str]:
        """The types that a layer can have beside float32."""
        own = {name: shape for name, shape in self.shapes.items() if layer_of(name) == layer}
        packed = any(one.bits for one in Recipe(default="4").stored(own, ()).values())
        return [one for one in TYPES[1:] if packed or one not in BITS]

    def storage(self, recipe: Recipe) -> Storage:
        return Storage(recipe, self.shapes, self.linear)

    def nbytes(self, recipe: Recipe) -> int:
        """What all weights take in a bundle."""
        storage = self.storage(recipe)
        slots = (slot for name, shape in self.shapes.items() for slot in storage.slots(name, shape))
        return self._others + sum(slot.nbytes for slot in slots)

    @cached_property
    def _others(self) -> int:
        """What no recipe changes."""
        return sum(slot.nbytes for slot in self.part.slots if slot.name not in self.shapes)

    # Weights --------------------------------------------------------------------------------------

    @cached_property
    def _candidate(self) -> Any:
        from samevoice.parity.candidate import Candidate

        return Candidate.load(self.folder, self.device)

    @cached_property
    def _weights(self) -> dict[str, Any]:
        """As they are in float32."""
        from samevoice.models.layers import named_arrays

        found = named_arrays(self._candidate.network)
        return {name: found[name] for name in self.shapes}

    def weights(self, recipe: Recipe) -> list[tuple[str, Any]]:
        """Every matrix, rounded as it would be in a bundle."""
        storage = self.storage(recipe)
        with backend.using(self._candidate.device):
            return [(name, self._as_stored(name, storage.of(name))) for name in self.shapes]

    def _as_stored(self, name: str, stored: Stored) -> Any:
        if (name, stored) not in self._rounded:
            self._rounded[name, stored] = rounded(self._weights[name], stored)
        return self._rounded[name, stored]

    # Figures --------------------------------------------------------------------------------------

    @property
    def role(self) -> str:
        return self.part.family.role

    @cached_property
    def limits(self) -> Limits:
        """Of the task; of the limits set by hand those that it knows."""
        usual = limits_for(self.role, COARSE, identity.device_of(self._candidate))
        return usual.overridden(x for x in self.overrides if x.metric in usual.for_task)

    @cached_property
    def rows(self) -> list[tuple[Any, Any, Any]]:
        """(example, truth, PyTorch's float32): what the task is measured on."""
        from samevoice.parity.reference import Reference

        network, reference = self._candidate.network, Reference.load(self.part)
        every = roles.examples(network)
        return [
            (one, reference.run(one, "float64"), reference.run(one)) for one in every if one.labels
        ]

    def measure(self, recipe: Recipe) -> Figures:
        """What this recipe comes to."""
        self._candidate.network.load_weights(self.weights(recipe), strict=False)
        found = []
        for example, truth, plain in self.rows:
            outputs, fault = self._candidate.try_run(example)
            if fault:
                raise ParityError(f"{self.folder} cannot be run: {fault}")
            found.append((example, truth, plain, outputs["output"]))
        return self._figures(found)

    def _figures(self, rows: Sequence[roles.Row]) -> Figures:
        truth, plain, got = (as_float64(x) for x in columns(row[1:] for row in rows))
        task = roles.named(self.role).task
        assert task is not None  # of every network's role
        sections = task(rows, self._candidate.network.config)
        figures = {
            name: float(sections.get(METRICS[name].task_section or "", {}).get(name, math.inf))
            for name in self.limits.for_task
        }
        error, floor = (_relative(truth, x) for x in (got, plain))
        cosines = row_cosines(truth, got)
        return Figures(
            error,
            error / floor if floor else math.inf,
            float(cosines.min()),
            figures,
            task_violations(sections, self.limits),
        )


def _relative(truth: np.ndarray, got: np.ndarray) -> float:
    """The RMS error over the truth's RMS; infinite where something is not finite."""
    if not np.isfinite(got).all():
        return math.inf
    return float(np.sqrt(np.square(got - truth).sum() / np.square(truth).sum()))


def rounded(weight: Any, stored: Stored) -> Any:
    """The float32 numbers that are left of float32 ones once they were stored so."""
    import mlx.core as mx

    if stored.bits:
        packed = mx.quantize(weight, stored.group_size, stored.bits)
        return mx.dequantize(*packed, stored.group_size, stored.bits)
    return weight.astype(getattr(mx, stored.type)).astype(mx.float32)
