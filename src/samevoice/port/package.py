"""The files of a family: its table, its network, its original, a test, and what tells about it."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samevoice import outputs
from samevoice.errors import MissingExtraError
from samevoice.port import layers, templates
from samevoice.port.classes import Class
from samevoice.port.frames import Writer
from samevoice.port.graph import Call, PortError, Size
from samevoice.port.inputs import Inputs
from samevoice.port.kinds import target
from samevoice.port.layers import Layer
from samevoice.port.orders import Order, last, plain
from samevoice.port.places import PROJECT, README, Place
from samevoice.port.render import render


@dataclass(frozen=True)
class Ported:
    """All that is known once a module was traced and written."""

    spec: str  # MODULE:CLASS
    args: Mapping[str, Any]
    module: torch.nn.Module
    call: Call
    writer: Writer
    classes: list[Class]
    inputs: Inputs
    architecture: str

    @property
    def kind(self) -> str:
        """The class of the network."""
        return next(one.name for one in self.classes if one.first.path == "")

    @property
    def unknown(self) -> list[str]:
        return [one for frame in self.writer.frames.values() for one in frame.unknown]


def write(ported: Ported, place: Place, *, draft: bool = False, overwrite: bool = False) -> None:
    """All files of a port. A draft has a list of layers for a network."""
    constants = ported.writer.constants
    names = _names(ported, place)
    files = {
        place.file(place.family): _family(ported, names),
        place.file(place.original): _original(ported, names),
    }
    if place.is_package:
        own = place.file(place.family).with_name("__init__.py")
        files[own] = f'"""{ported.architecture} in MLX."""\n'
        files[place.folder / PROJECT] = _pyproject(names, bool(constants))
        files[place.folder / README] = _readme(ported, names)
    if draft:
        files[place.results / "layers.md"] = _layers(ported)
    else:
        files[place.file(place.network)] = _network(ported, place.constants if constants else None)
        files[place.test] = templates.TEST.substitute(names)
    outputs.refuse([(path, "code") for path in files], overwrite=overwrite)
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    if constants:
        np.savez(place.constants, **constants)  # type: ignore[arg-type]
    _format([path for path in files if path.suffix == ".py"])


def _layers(ported: Ported) -> str:
    """Every layer, and what it is in MLX, for who writes the network."""
    rows = [
        f"| `{path}` | `{type(call.module).__name__}` | `{_spelled(call.module)}` |"
        for path, call in ported.writer.leaves.items()
    ]
    head = (
        f"# The layers of {ported.architecture}\n\n| path | PyTorch | MLX |\n| --- | --- | --- |\n"
    )
    return head + "\n".join(rows) + "\n"


def _spelled(module: torch.nn.Module) -> str:
    return "".join(map(str, layers.built(module).pieces))


def refuse_without_ruff() -> None:
    if find_spec("ruff") is None:
        raise MissingExtraError("ruff, which formats the code,", "parity")


def _format(paths: list[Path]) -> None:
    """As the field formats its code; imports that are not needed go."""
    names = ["--isolated", "--line-length", "100", *map(str, paths)]
    for command in (["check", "--fix", "--quiet", "--select", "I,F401"], ["format", "--quiet"]):
        line = [sys.executable, "-m", "ruff", *command, *names]
        done = subprocess.run(line, check=False, capture_output=True, text=True)
        if done.returncode:
            raise PortError(
                f"ruff does not take what was written: {done.stdout}{done.stderr}"[:300]
            )


# The network --------------------------------------------------------------------------------------


def letters(ported: Ported) -> dict[tuple[int, ...], str]:
    found: dict[tuple[int, ...], str] = {}
    for one, value in zip(ported.inputs.each, ported.call.inputs, strict=True):
        for letter, dim in zip(one.shape, value.dims, strict=True):
            if isinstance(dim, Size) and isinstance(letter, str):
                found[dim.values] = letter
    return found


def _network(ported: Ported, constants: Path | None) -> str:
    named = letters(ported)
    several = {one.name for one in ported.classes if one.gives_several}
    code = "\n\n".join(
        render(one, named, whole=one.first.path == "", several=several) for one in ported.classes
    )
    args = ", ".join(f"{name}={value!r}" for name, value in ported.args.items())
    head = f'"""{ported.architecture} in MLX, channels last inside.\n\n'
    head += f"Written from {ported.spec}({args}).\n"
    if re.search(r'"""\(.*\b[NM]\b', code):
        head += "N and M stand for sizes that follow from the others.\n"
    head += '"""\n\n'
    head += "from __future__ import annotations\n\n"
    head += (
        "from collections.abc import Mapping\nfrom pathlib import Path\nfrom typing import Any\n\n"
    )
    head += "import mlx.core as mx\n\nfrom samevoice.models import nn\n"
    if constants is not None:
        head += f'\nCONSTANTS = nn.constants(Path(__file__).with_name("{constants.name}"))\n'
    return head + "\n\n" + code


# The table ----------------------------------------------------------------------------------------

_LETTERS = "ijklmnpqrstuvw"  # what stands for the numbers in a path


@dataclass(frozen=True)
class _Row:
    """A rule for one layer, with the path that it is for."""

    code: str  # with {path} where the path stands, and {target} for that of the port
    path: str


def _rows(ported: Ported) -> Iterator[_Row]:
    for path, call in ported.writer.leaves.items():
        layer = layers.layer_of(call.module)
        assert layer is not None
        module: Any = call.module
        if layer.rule in ("lstm", "gru"):
            for n in range(module.num_layers):
                for way in ("forward", "backward")[: 2 if module.bidirectional else 1]:
                    more = f", layer={n}" + (", reverse=True" if way == "backward" else "")
                    yield _Row(
                        f'*{layer.rule}("{{path}}", "{{target}}.layers.{n}.{way}"{more})', path
                    )
            continue
        told = "".join(f", {name}={value!r}" for name, value in layer.told(module).items())
        rule = layer.rule
        if rule == "affine" and not any(True for _ in module.parameters()):
            continue
        if rule == "affine" and getattr(module, "bias", None) is None:
            rule, told = "embedding", ""
        yield _Row(f'*{rule}("{{path}}", "{{target}}"{told})', path)
    for path, value in ported.writer.weights.items():
        order = ported.writer.orders.get(value, plain(value.rank))
        turned = "" if order == plain(value.rank) else f", permuted{order!r}"
        yield _Row(f'Rule("{{path}}", "{{target}}"{turned})', path)


def _table(ported: Ported) -> str:
    """Rows of the same kind stand as one, over all indices."""
    groups: dict[tuple[str, str], list[tuple[int, ...]]] = defaultdict(list)
    for row in _rows(ported):
        parts = re.split(r"(?<!\d)(0|[1-9]\d*)(?=\.|$)", row.path)
        words, numbers = parts[::2], parts[1::2]
        letters = [f"{{{letter}}}" for letter in _LETTERS[: len(numbers)]]
        pattern = "".join(chain.from_iterable(zip(words, [*letters, ""], strict=True)))
        groups[row.code, pattern].append(tuple(map(int, numbers)))
    lines = []
    for (code, pattern), indices in groups.items():
        for over in _products(indices):
            lines.append(_line(code, pattern, over))
    return "\n".join(f"        {one}," for one in lines)


def _line(code: str, pattern: str, over: list[list[int]]) -> str:
    fixed = {
        name: values[0] for name, values in zip(_LETTERS, over, strict=False) if len(values) == 1
    }
    path = pattern
    for name, value in fixed.items():
        path = path.replace(f"{{{name}}}", str(value))
    free = {name: values for name, values in zip(_LETTERS, over, strict=False) if len(values) > 1}
    row = code.replace("{path}", path).replace("{target}", target(path))
    if not free:
        return row
    said = ", ".join(f"{name}={_range(values)}" for name, values in free.items())
    if row.startswith("Rule("):
        return f"{row[:-1]}, {said})"
    return f"*each({row[1:]}, {said})"


def _range(values: list[int]) -> str:
    if values == list(range(values[0], values[-1] + 1)):
        return (
            f"range({values[-1] + 1})" if not values[0] else f"range({values[0]}, {values[-1] + 1})"
        )
    return str(tuple(values))


def _products(indices: list[tuple[int, ...]]) -> Iterator[list[list[int]]]:
    """Index sets that together are all combinations of a few numbers: as few sets as are found."""
    if not indices or not indices[0]:
        yield []
        return
    axes = [sorted({one[n] for one in indices}) for n in range(len(indices[0]))]
    whole = 1
    for values in axes:
        whole *= len(values)
    if whole == len(set(indices)):
        yield axes
        return
    by_rest: dict[tuple[tuple[int, ...], ...], list[int]] = defaultdict(list)
    for first in axes[0]:
        rest = tuple(sorted(one[1:] for one in indices if one[0] == first))
        by_rest[rest].append(first)
    for rest, firsts in by_rest.items():
        for inner in _products(list(rest)):
            yield [firsts, *inner]


def _dropped(ported: Ported) -> list[tuple[str, str]]:
    """What a checkpoint holds and the network does not, with the reason."""
    leaves = tuple(f"{path}." for path in ported.writer.leaves)
    found = []
    for name, value in ported.module.state_dict().items():
        if (
            name in ported.writer.weights
            or name.endswith("num_batches_tracked")
            or name.startswith(leaves)
        ):
            continue
        floats = value.is_floating_point()
        why = "not read when the network runs" if floats else "integers, which the code has itself"
        found.append((name, why))
    return found


def _family(ported: Ported, told: Mapping[str, str]) -> str:
    table, dropped = _table(ported), _dropped(ported)
    drops = "\n".join(f'        Drop("{name}", why="{why}"),' for name, why in dropped)
    names = [name for name, one in ported.module.state_dict().items() if one.is_floating_point()]
    if not names:
        raise PortError("it has no weights")
    anchors = list(dict.fromkeys([names[0], names[len(names) // 2], names[-1]]))
    rules = sorted({"BATCH_COUNTERS", *re.findall(r"\*(?:each\()?(\w+)\(", table)} - {"each"})
    return templates.FAMILY.substitute(
        told,
        rules=", ".join(rules),
        fed=repr(ported.inputs.described()),
        table=table,
        drops=drops,
        anchors=repr(tuple(anchors)),
    )


def _names(ported: Ported, place: Place) -> dict[str, str]:
    modules = ("family", "network", "original")
    return {
        **{name: getattr(place, name) for name in ("name", *modules)},
        "architecture": ported.architecture,
        "kind": ported.kind,
        "spec": ported.spec,
    }


# The original -------------------------------------------------------------------------------------


Orders = dict[str, tuple[Order | None, Order | None]]


def _kinds(ported: Ported) -> tuple[Orders, Orders, list[str], list[str]]:
    """Where the authors' classes have their axes, and layers that differ from others of their kind;
    which classes give several tensors, and which have no counterpart."""
    kinds: Orders = {}
    paths: Orders = {}
    several, functions = set(), set()
    for path, pair in ported.writer.taps.items():
        module = ported.module.get_submodule(path)
        name = type(module).__name__
        if path in ported.writer.frames:
            if kinds.setdefault(name, pair) != pair:
                paths[path] = pair
            several |= {name} if len(ported.writer.frames[path].outputs) > 1 else set()
        elif path in ported.writer.leaves:
            layer = layers.layer_of(module)
            assert layer is not None
            usual = tuple(None if one is None else _usual(layer, len(one)) for one in pair)
            if layer.name not in layers.RECURRENT and usual != pair:
                paths[path] = pair
            several |= {name} if layer.name == layers.ATTENTION else set()
        elif not _is_torchs(module):
            functions.add(name)
    held = (one.module for kind in ported.classes for one in kind.instances if one.frame is None)
    functions |= {type(one).__name__ for one in held if not _is_torchs(one)}
    return kinds, paths, sorted(several), sorted(functions - set(kinds))


def _is_torchs(module: torch.nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.")


def _usual(layer: Layer, rank: int) -> Order:
    """How the axes of such a layer are read where nobody says it."""
    return last(4) if rank == 4 else layer.order(plain(rank))


_MARKS = {  # table of the original -> the mark that it is for, and what stands above it
    "KINDS": (
        "lay_kinds",
        "Which axes of torch stand where in MLX: what a class takes, and gives.",
    ),
    "LAYERS": ("lay", "The same of layers that differ from others of their kind."),
    "SEVERAL": ("hear_by_first", "These give several tensors; the first is compared."),
    "FUNCTIONS": (
        "mark_function",
        "These are no layers of the port, or nobody calls them.",
    ),
}


def _original(ported: Ported, told: Mapping[str, str]) -> str:
    marks, tables = ["    hints.mark_axes(hints.AS_MLX, module)"], []
    for (name, (mark, remark)), held in zip(_MARKS.items(), _kinds(ported), strict=True):
        if isinstance(held, dict) and held:
            tables.append(f"# {remark}\n{name}: Orders = {held!r}")
            marks.append(f"    hints.{mark}(module, {name})")
        elif held:
            tables.append(f"# {remark}\n{name} = {tuple(held)!r}")
            those = f"one for one in module.modules() if type(one).__name__ in {name}"
            marks.append(f"    hints.{mark}(*({those}))")
    return templates.ORIGINAL.substitute(
        told,
        args=repr(dict(ported.args)),
        tensors=_told_by(ported.module),
        tables="\n".join(tables),
        marks="\n".join(marks),
    )


def _told_by(module: torch.nn.Module) -> str:
    """What tells a class from the same one after it was edited."""
    shapes = repr([(name, tuple(x.shape)) for name, x in module.state_dict().items()])
    return hashlib.sha256(shapes.encode()).hexdigest()[:8]


def _pyproject(told: Mapping[str, str], has_constants: bool) -> str:
    name = told["name"]
    data = f'\n[tool.setuptools.package-data]\n{name} = ["*.npz"]\n' if has_constants else ""
    return templates.PROJECT.substitute(told, distribution=name.replace("_", "-"), data=data)


def _readme(ported: Ported, told: Mapping[str, str]) -> str:
    given = ", ".join(
        f"`{one.name}` ({', '.join(map(str, one.shape))})" for one in ported.inputs.each
    )
    return templates.README.substitute(told, given=given, module=ported.spec.partition(":")[0])
