"""A few lines of PyTorch, ported and run on both sides: what is written, and how exact it is."""

from __future__ import annotations

import linecache
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from mlx.utils import tree_flatten

from samevoice.converters import layers as rules_of_layers
from samevoice.converters import rules, transforms
from samevoice.models import nn
from samevoice.port import inputs as fed
from samevoice.port import operations
from samevoice.port.capture import capture
from samevoice.port.classes import classes
from samevoice.port.frames import Writer
from samevoice.port.graph import Op, calls_in
from samevoice.port.package import Ported, _table, letters
from samevoice.port.render import render

import mlx.core as mx  # isort: skip  # behind samevoice.models

SIZES = {"B": 2, "T": 29, "U": 13}
OTHER_SIZES = {"B": 3, "T": 34, "U": 18}  # that were not traced
# What rounding the result alone errs by, of its own size.
ROUNDED = 0.3 * 2.0**-24
_SPEC = {"float": "float32", "int": "int64", "bool": "bool"}


@dataclass(frozen=True)
class Case:
    """Code for a forward, the last line of which is what it gives, and what it takes.

    A shape is "B 6 T", a letter for each free size; behind a colon stands the type, "B T:int<7".
    ``layers`` are modules that the code finds in ``self``. ``bound`` is the largest noise ratio.
    """

    code: str
    given: Mapping[str, str] = field(default_factory=lambda: {"x": "B 6 T"})
    layers: Mapping[str, str] = field(default_factory=dict)
    bound: float = 3.0
    moved: bool = True  # also with its inputs' channels last
    parameters: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return " ".join(self.code.split())

    def inputs(self, channels_last: bool) -> fed.Inputs:
        found = []
        for name, spec in self.given.items():
            shape, _, kind = spec.partition(":")
            dtype, _, below = kind.partition("<")
            dims = tuple(d if d in SIZES else int(d) for d in shape.split())
            if channels_last and len(dims) > 1:
                dims = (dims[0], *dims[2:], dims[1]) if len(dims) > 2 else dims[::-1]
            most = int(below) if below else None
            found.append(fed.Input(name, dims, _SPEC.get(dtype, "float32"), most))
        return fed.Inputs(tuple(found), {k: v for k, v in SIZES.items() if self._has(k)})

    def _has(self, letter: str) -> bool:
        return any(letter in spec.partition(":")[0].split() for spec in self.given.values())

    def module(self, channels_last: bool) -> torch.nn.Module:
        """The layers, and a forward of that code."""
        lines = self.code.strip().splitlines()
        moves = []
        if channels_last:
            for name, spec in self.given.items():
                rank = len(spec.partition(":")[0].split())
                how = "t()" if rank == 2 else "movedim(-1, 1)"
                moves += [f"{name} = {name}.{how}"] if rank > 1 else []
        body = [*moves, *lines[:-1], f"return {lines[-1]}"]
        source = f"def forward(self, {', '.join(self.given)}):\n" + "".join(
            f"    {x}\n" for x in body
        )
        file = f"<case {abs(hash(source))}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        known: dict[str, Any] = {"torch": torch, "F": torch.nn.functional, "nn": torch.nn}
        exec(compile(source, file, "exec"), known)
        made = type("Small", (torch.nn.Module,), {"forward": known["forward"]})()
        torch.manual_seed(1)
        for name, code in self.layers.items():
            setattr(made, name, eval(code, known))
        for name, shape in self.parameters.items():
            setattr(made, name, torch.nn.Parameter(torch.randn(shape)))
        for one in made.modules():  # statistics that are no mere zeros and ones
            for name, held in one.named_buffers(recurse=False):
                if name in ("running_mean", "running_var"):
                    held.copy_(torch.rand_like(held) + 0.5)
            if (
                isinstance(one, torch.nn.modules.batchnorm._NormBase | torch.nn.GroupNorm)
                and one.affine
            ):
                torch.nn.init.normal_(one.weight, 1.0)
                torch.nn.init.normal_(one.bias)
        own: torch.nn.Module = made.eval()
        return own


class Trial:
    """One case, traced and written."""

    def __init__(self, case: Case, channels_last: bool = False) -> None:
        self.case = case
        self.given = case.inputs(channels_last)
        self.module = case.module(channels_last)
        call = capture(self.module, fed.runs(self.given))
        writer = Writer(operations.write, operations.pointwise())
        writer.write(call)
        found = classes(writer, self.module, {})
        self.ported = Ported("m:Small", {}, self.module, call, writer, found, self.given, "Small")

    @property
    def operations(self) -> set[str]:
        """ "add.Tensor", "relu"."""
        return {
            item.kind
            for call in calls_in(self.ported.call)
            for item in call.body
            if isinstance(item, Op)
        }

    @cached_property
    def code(self) -> str:
        named = letters(self.ported)
        each = (render(x, named, whole=not x.first.path) for x in self.ported.classes)
        return "\n\n".join(each)

    @property
    def lines(self) -> list[str]:
        """What the network's own call does."""
        _, _, call = self.code.rpartition("def __call__")
        return [one.strip() for one in call.splitlines()[1:]]

    @cached_property
    def network(self) -> Any:
        constants = {k: mx.array(v) for k, v in self.ported.writer.constants.items()}
        known: dict[str, Any] = {"mx": mx, "nn": nn, "CONSTANTS": constants}
        exec(compile(f"from __future__ import annotations\n{self.code}", "written", "exec"), known)
        network = known[self.ported.kind]({})
        network.load_weights(self._weights(network))
        return network

    def _weights(self, network: Any) -> list[tuple[str, mx.array]]:
        """By the table that the port would have."""
        known = {**vars(rules_of_layers), **vars(transforms), **vars(rules)}
        table: rules.Table = eval(f"({_table(self.ported)}\n)", known)
        held = self.module.state_dict()
        targets = {name: x.shape for name, x in dict(tree_flatten(network.parameters())).items()}
        moves = [move for rule in table if isinstance(rule, rules.Rule) for move in rule.moves()]
        sources = {name for move in moves for name in move.sources}
        plan = rules.plan(
            table, {name: rules.Tensor.of(held[name].numpy()) for name in sources}, targets
        )
        return [(name, mx.array(x)) for name, x in rules.convert(plan)]

    # How exact it is ------------------------------------------------------------------------------

    def ratio(self, sizes: Mapping[str, int]) -> float:
        """The largest noise ratio of all that it gives; infinite where it gives anything else."""
        wanted = {name: sizes[name] for name in self.given.sizes}
        tensors = self.given.tensors(wanted, seed=3)
        wide = [x.double() if x.is_floating_point() else x for x in tensors]
        with torch.no_grad():
            usual = _flat(self.module(*tensors))
            torch.set_default_dtype(torch.float64)
            try:
                truth = _flat(self.module.double()(*wide))
            finally:
                torch.set_default_dtype(torch.float32)
                self.module.float()
        given = [mx.array(x.numpy().astype(_mlx_type(x))) for x in tensors]
        made = _flat(self.network(*given))
        assert len(made) == len(truth)
        return max(map(_ratio, truth, usual, made))


def _mlx_type(x: torch.Tensor) -> Any:
    return np.int32 if x.dtype == torch.int64 else x.numpy().dtype


def _flat(given: Any) -> list[np.ndarray]:
    if isinstance(given, Mapping):
        given = list(given.values())
    if isinstance(given, tuple | list):
        return [x for one in given for x in _flat(one)]
    if isinstance(given, torch.Tensor):
        return [given.detach().resolve_conj().numpy()]
    return [np.array(given)]


def _ratio(truth: np.ndarray, usual: np.ndarray, made: np.ndarray) -> float:
    if truth.shape != made.shape:
        raise AssertionError(f"shapes {made.shape} for {truth.shape}")
    if truth.dtype.kind in "biu":
        same = made.dtype.kind in "biu" and (made.dtype.kind == "b") == (truth.dtype.kind == "b")
        assert same, f"{made.dtype} for {truth.dtype}"
        return 0.0 if np.array_equal(truth, made) else float("inf")
    assert made.dtype.kind == truth.dtype.kind, f"{made.dtype} for {truth.dtype}"
    odd = ~np.isfinite(truth)
    if odd.any() and not np.array_equal(truth[odd], made[odd].astype(truth.dtype), equal_nan=True):
        return float("inf")
    truth, usual, made = truth[~odd], usual[~odd], made[~odd]
    ours, theirs, size = _rms(made - truth), _rms(usual - truth), _rms(truth)
    return ours / max(theirs, ROUNDED * size) if ours else 0.0


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(np.abs(x.astype(np.complex128)))))) if x.size else 0.0


def trials(cases: Sequence[Case]) -> Iterator[tuple[Case, bool]]:
    """Each case, and where it is told so a second time with its inputs' channels last."""
    for case in cases:
        yield case, False
        ranks = [len(spec.partition(":")[0].split()) for spec in case.given.values()]
        if case.moved and max(ranks) > 1:
            yield case, True
