"""Why a port is red, as far as that can be proven: the table of bugs run backwards.

The layer at the first divergence is computed once more on the reference's own input, with its
tensors or its call put right. A cause counts only when that brings the layer back to the noise
floor, and it has a name when the bug of that name, put into the right layer, gives what the port
gave.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from samevoice.converters import rules
from samevoice.models.layers.taps import path_of
from samevoice.parity import bugs, spoiling
from samevoice.parity.metrics import Array, Pair, measured_floor, noise_ratio, rms, root_mean_square
from samevoice.parity.result import Cause
from samevoice.parity.textbook import Layer, compute

if TYPE_CHECKING:
    from samevoice.converters.convert import Part
    from samevoice.parity.candidate import Candidate
    from samevoice.parity.engine import Trace
    from samevoice.parity.judge import TapVerdict, Verdict
    from samevoice.parity.reference import Reference

INTO = ".input"
# What a bug may leave of an error that it explains, where the port's own arithmetic is coarse.
EXPLAINED = 1e-3
UNNAMED = "a call that computes something else than its kind of layer"


def proven(
    verdict: Verdict,
    traces: Iterable[Trace],
    reference: Reference,
    candidate: Candidate,
    source: Source,
) -> Cause | None:
    """The cause of the first divergence, or None where no single change mends it."""
    if not verdict.failed:
        return None
    first = verdict.failed[0]
    same = [tap for tap in verdict.failed if tap.name == first.name]
    inputs = {tap.input for tap in sorted(same, key=lambda tap: tap.mode != "forced")}
    traced = next((one for one in traces if one.local and one.example.name in inputs), None)
    if traced is None:
        return None
    return _Trial(traced, candidate, reference, source, _bound(first, verdict)).cause(first.name)


def _bound(tap: TapVerdict, verdict: Verdict) -> float:
    """The noise ratio up to which the verdict itself calls this tap right."""
    limit = tap.held(verdict.limits).get("noise_ratio")
    return limit.bound if limit else 3.0


class Source:
    """The weights that a port was made of, as MLX lays them out: converted anew when asked for."""

    def __init__(self, part: Part) -> None:
        self.part = part

    @cached_property
    def tensors(self) -> Mapping[str, Array]:
        return {name: np.asarray(x, np.float32) for name, x in rules.convert(self.part.plan)}

    def right(self, layer: Layer, reference: Reference) -> Layer:
        """The layer as its source has it: tensors, and settings of the original's module."""
        below = f"{layer.path}." if layer.path else ""
        said = {name: self.tensors.get(below + name) for name in layer.tensors}
        made = {
            name: x.astype(layer.tensors[name].dtype)
            for name, x in said.items()
            if x is not None and x.shape == layer.tensors[name].shape
        }
        right = layer.with_tensors(**made)
        if layer.kind == "fbank":
            return right.having(window_type=self.part.config["window_type"])
        return right.having(**_settings(layer, reference))

    def lost(self, path: str) -> Layer | None:
        """A layer that the source has and the port has not, or has as something else."""
        below = f"{path}."
        found = {n.removeprefix(below): x for n, x in self.tensors.items() if n.startswith(below)}
        return spoiling.layer_of(path, found) if found else None


def _settings(layer: Layer, reference: Reference) -> dict[str, Any]:
    """What the original's own layer says of strides, padding, dilation, groups and eps."""
    path = reference.seams.modules.get(layer.path)
    module: Any = None if path is None else reference.module.get_submodule(path)
    if layer.kind in bugs.NORM and hasattr(module, "eps"):
        return {"eps": float(module.eps)}
    if layer.kind not in bugs.CONV or not isinstance(getattr(module, "padding", None), tuple):
        return {}
    if len(module.padding) != len(layer.settings["stride"]):
        return {}
    return {
        "stride": tuple(module.stride),
        "padding": tuple((n, n) for n in module.padding),
        "dilation": tuple(module.dilation),
        "groups": int(module.groups),
    }


@dataclass
class _Trial:
    """One layer of a candidate, tried again and again on one example."""

    traced: Trace
    candidate: Candidate
    reference: Reference
    source: Source
    bound: float

    def cause(self, tap: str) -> Cause | None:
        if tap not in self._truth or tap not in self.traced.plain.taps:
            return None
        seam = tap.endswith(INTO) or tap == "output"
        return self._between(tap) if seam else self._layer(tap)

    @property
    def _truth(self) -> Mapping[str, Array]:
        assert self.traced.local is not None
        return self.traced.local.taps

    def _ratio(self, tap: str, got: Array | None) -> float:
        truth = self._truth[tap]
        if got is None or got.shape != truth.shape:
            return math.inf
        return noise_ratio(truth, self.traced.plain.taps[tap], got)

    def _heard(self, *taps: str) -> Mapping[str, Array]:
        """The candidate's own, each layer fed with the reference's input."""
        fed = self.traced.plain.to_feed
        return self.candidate.record(self.traced.example, fed=fed, only=taps).taps

    # -- a layer

    def _layer(self, tap: str) -> Cause | None:
        got = self._heard(tap).get(tap)
        before = self._ratio(tap, got)
        layers = spoiling.layers_of(self.candidate.network)
        own = layers.get(path_of(tap)) or self.source.lost(path_of(tap))
        if got is None or own is None or before <= self.bound:
            return None
        right = self.source.right(own, self.reference)
        wrong_tensors = not _equal(own, right)
        if wrong_tensors:
            with spoiling.installed(
                self.candidate.network, (own, own.with_tensors(**right.tensors))
            ):
                after = self._ratio(tap, self._heard(tap).get(tap))
            if after <= self.bound:
                around = [one for path, one in layers.items() if own.path.startswith(f"{path}.")]
                around += [one for one in layers.values() if not one.path]
                wrong = [n for n, x in own.tensors.items() if not _same(x, right.tensors[n])]
                return _cause(tap, self._named([*around, own]), before, after, *wrong)
        return self._call(tap, own, right, got, before, wrong_tensors)

    def _named(self, layers: Iterable[Layer]) -> str:
        """The bug that makes of the source's tensors, bit for bit, those that are there."""
        for layer in layers:
            right = self.source.right(layer, self.reference)
            names = [
                name
                for name, wrong in _mistakes(right).items()
                if wrong.settings == right.settings and _equal(wrong, layer)
            ]
            if names:
                return " or ".join(names)
        return bugs.OTHER_WEIGHTS.name

    def _call(
        self, tap: str, own: Layer, right: Layer, got: Array, before: float, wrong_tensors: bool
    ) -> Cause | None:
        """Computed by definition: with the tensors that are there, then with the source's."""
        example = self.traced.example
        x = self.traced.plain.taps.get(own.settings.get("before", f"{tap}{INTO}"))
        x = example.first if x is None else x
        for both in (False, True) if wrong_tensors else (False,):
            held = right if both else replace(right, tensors=own.tensors)
            after = self._ratio(tap, compute(held, x, example.masks))
            if after > self.bound:
                continue
            seen = replace(right, tensors=own.tensors)
            made = {
                name: compute(wrong, x, example.masks)
                for name, wrong in _mistakes(seen).items()
                if wrong.settings != seen.settings
            }
            call = self._matching(tap, made, got) or UNNAMED
            tensors = f" and {self._named([own])}" if both else ""
            return _cause(tap, call + tensors, before, after)
        return None

    def _matching(self, tap: str, made: Mapping[str, Array | None], got: Array) -> str:
        """The names of what gave the same as the port did, all but a thousandth of the error."""
        truth, plain = self._truth[tap], self.traced.plain.taps[tap]
        scale = root_mean_square(truth)
        floor = measured_floor(Pair(truth, plain), [plain])
        finite = np.isfinite(got)
        size = root_mean_square(np.where(finite, got, 0.0))
        noise = self.bound * floor * max(1.0, size / max(scale, 1e-30))
        error = rms(truth, got) if truth.shape == got.shape else math.inf
        gaps = {}
        for name, one in made.items():
            if one is None or one.shape != got.shape or (np.isfinite(one) != finite).any():
                continue
            gap = rms(np.where(finite, one, 0.0), np.where(finite, got, 0.0))
            allowed = max(min(noise, 0.1 * error), EXPLAINED * error)
            if gap <= (allowed if math.isfinite(error) else noise):
                gaps[name] = gap
        best = max(min(gaps.values(), default=0.0), noise)
        return " or ".join(name for name, gap in gaps.items() if gap <= best)

    # -- between two layers

    def _between(self, tap: str) -> Cause | None:
        plain = self.traced.plain
        right = spoiling.function_at(tap, plain.order, plain.taps)
        if right is None:
            return None
        given, got = (self._heard(tap, right.settings["before"]).get(x)
                      for x in (right.settings["before"], tap))  # fmt: skip
        before = self._ratio(tap, got)
        if given is None or got is None or before <= self.bound:
            return None
        after = self._ratio(tap, compute(right, given))
        if after > self.bound:
            return None
        made = {name: compute(wrong, given) for name, wrong in _mistakes(right).items()}
        usual = f"something else than {right.settings['name']} behind {right.settings['before']}"
        # Where nothing was negative, say, several functions gave the same: the first is the plain
        # one, that it is missing.
        named = self._matching(tap, made, got).partition(" or ")[0]
        return _cause(tap, named or usual, before, after)


def _mistakes(right: Layer) -> dict[str, Layer]:
    """Each bug's name, and the layer with that bug."""
    made = {bug.name: bug.change(right) for bug in bugs.bugs_of(right)}
    return {name: wrong for name, wrong in made.items() if wrong is not None}


def _equal(one: Layer, other: Layer) -> bool:
    return all(_same(x, other.tensors[name]) for name, x in one.tensors.items())


def _same(one: Array, other: Array) -> bool:
    return bool(np.array_equal(one, other))


def _cause(tap: str, bug: str, before: float, after: float, *wrong: str) -> Cause:
    """``wrong``: the tensors that are not the source's, where it is about these."""
    tensors = f" ({', '.join(wrong)})" if wrong else ""
    said = f"{before:.3g}" if math.isfinite(before) else "infinite"
    sentence = (
        f"{tap}: {bug}{tensors}; with this put right its noise ratio is {after:.3g}, not {said}"
    )
    return Cause(tap, bug, before, after, sentence)
