"""Parity for anyone's own modules: a torch.nn.Module and the mlx.nn.Module that was made of it.

    verdict = samevoice.parity.compare(torch_module, mlx_module, inputs)
    print(verdict.passed, verdict.first_divergence)

Every leaf of the torch module is paired with the MLX module of the same path, or of the one that
``names`` gives, and both are held against the torch module in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any, TypeAlias

from samevoice.models import backend as backend  # isort: split

import mlx.core as mx
import numpy as np

from samevoice.errors import SamevoiceError
from samevoice.models.layers.taps import path_of
from samevoice.parity.bounds import overrides_from
from samevoice.parity.candidate import Candidate
from samevoice.parity.engine import Floors, Outputs, Trace, compare_traces, trace
from samevoice.parity.identity import device_of
from samevoice.parity.inputs import FREE, Arguments, Example
from samevoice.parity.judge import Verdict
from samevoice.parity.limits import Limits, limits_for
from samevoice.parity.listening import Seams, channels_first, to_mlx
from samevoice.parity.metrics import Array
from samevoice.parity.reference import Reference, without_onednn

# Torch path -> MLX path; None where the port has no such layer, for a reason known to the caller.
Names: TypeAlias = Mapping[str, str | None] | Callable[[str], str | None]
Layout: TypeAlias = Callable[[Array], Array]  # from torch's to MLX's
Inputs: TypeAlias = Mapping[str, Array] | Sequence[Array] | Array


class CompareError(SamevoiceError):
    """The two modules, or what they are fed, cannot be paired."""


def compare(
    torch_module: Any,
    mlx_module: Any,
    inputs: Inputs,
    names: Names | None = None,
    *,
    layouts: Mapping[str, Layout] | None = None,
    mlx_inputs: Inputs | None = None,
    limits: Limits | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Verdict:
    """Both modules on the same inputs, every leaf and the output judged against float64.

    ``inputs`` are numpy arrays: one, several, or by argument name. Where the port wants another
    layout (channels last), give ``mlx_inputs`` too. What torch gives channels first, by the kind
    of the layer that gives it, is turned around; ``layouts`` says otherwise for a tap, and "output"
    is one. A tap that the port lacks fails; a name given as None is left out.
    All outputs are compared: output, output.1, output.key; wrap a module whose port gives fewer.
    "output" is of a run in which nobody looks, "output.recorded" of one in which every layer is
    seen. A port that breaks off raises CompareError.
    """
    pairs = _paired(torch_module, names)
    port = _Port(mlx_module, pairs)
    chosen = limits or limits_for("generic", "float32", device_of(port))
    chosen = chosen.overridden(overrides_from(overrides or {}, "given to compare()"))
    theirs, ours = (None if x is None else _arguments(x) for x in (inputs, mlx_inputs))
    example = Example("", depth=FREE, arguments=theirs, port_arguments=ours)
    traced, kept = _traced(_original(torch_module, pairs, layouts or {}), example), Outputs()
    if not traced.plain.final_outputs:
        raise CompareError("the torch module gave nothing to compare")
    order = [*traced.plain.outputs]
    with _evaluating(mlx_module):
        verdict = compare_traces([traced], port, chosen, order=order, kept=kept)
    if kept.errors:
        raise CompareError(f"the port broke off: {next(iter(kept.errors.values()))}")
    return verdict


def _arguments(inputs: Inputs) -> Arguments:
    return (inputs,) if isinstance(inputs, np.ndarray) else inputs


def _paired(torch_module: Any, names: Names | None) -> dict[str, str]:
    """Torch path -> MLX path, for every leaf that both sides must have."""
    named = torch_module.named_modules()
    leaves = [path for path, one in named if path and not list(one.children())]
    if isinstance(names, Mapping):
        known = {path for path, _ in torch_module.named_modules()}
        if strangers := [path for path in names if path not in known]:
            raise CompareError(f"names: the torch module has no {strangers[0]!r}")
        leaves += [path for path in names if path not in leaves]
    found: dict[str, str] = {}
    for path in leaves:
        target = _named(path, names, _has_tensors(torch_module.get_submodule(path)))
        if target is not None:
            found[path] = target
    return found


def _named(path: str, names: Names | None, has_tensors: bool) -> str | None:
    if callable(names):
        return names(path)
    if names is not None and path in names:
        return names[path]
    # Activations and their kin are functions in most ports: what they do shows in the next layer.
    return path if has_tensors else None


def _has_tensors(module: Any) -> bool:
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())


# Both sides ---------------------------------------------------------------------------------------


def _original(module: Any, pairs: Mapping[str, str], layouts: Mapping[str, Layout]) -> Reference:
    """A copy in float32, so that the caller's module keeps its mode and its type."""

    def as_mlx(tap: str, module: Any, x: Any) -> Array:
        if layout := layouts.get(tap):
            return np.array(layout(x.detach().numpy()), order="C")
        first = channels_first(_last(module))
        turned = first or x.ndim != 4
        return to_mlx(x, first) if turned else np.array(x.detach().numpy(), order="C")

    seams = Seams({tap: path for path, tap in pairs.items()}, as_mlx=as_mlx, blocks=True)
    return Reference(deepcopy(module).float(), seams)


def _traced(reference: Reference, example: Example) -> Trace:
    """Every tap, and one other evaluation of them, as valid."""

    def without() -> Floors:
        with without_onednn():
            return {"without oneDNN": reference.record(example).outputs}

    return replace(trace(reference, example), evaluate=without, measured=True)


def _last(module: Any) -> Any:
    """The layer that gives a chain's output, whose kind tells the output's layout."""
    import torch

    while isinstance(module, torch.nn.Sequential) and len(module):
        module = module[-1]
    return module


class _Port(Candidate):
    """Anybody's module, where MLX runs now: what nobody named is not asked for."""

    takes_features = False

    def __init__(self, module: Any, pairs: Mapping[str, str]) -> None:
        self.network, self.device = module, mx.default_device()
        self.paths = frozenset(pairs.values())
        found: dict[int, str] = {}
        for path, one in module.named_modules():
            if path in self.paths and found.setdefault(id(one), path) != path:
                raise CompareError(f"{path!r} and {found[id(one)]!r} are one module: name one")

    def is_layer(self, tap: str) -> bool:
        return path_of(tap) in self.paths


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    training = bool(module.training)
    module.eval()
    try:
        yield
    finally:
        module.train(training)
