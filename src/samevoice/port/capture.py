"""A torch module, run by example: every operation that it does, and which module does it.

The module runs several times, each time on other sizes, while torch notes each operation. A number
that is the same in all runs is a constant; one that is not follows from the sizes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from inspect import signature
from typing import Any

import torch
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from samevoice.errors import told
from samevoice.port.graph import Call, Line, Op, PortError, Size, SizesError, Value, merged
from samevoice.port.layers import layer_of
from samevoice.port.sources import of_authors

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)\n\s*(.*)')
# What changes nothing of what is computed without training.
_SAME = (
    *("contiguous", "clone", "detach", "detach_", "alias", "lift_fresh_copy", "lift_fresh"),
    *("dropout", "dropout_", "feature_dropout", "alpha_dropout", "positive", "_conj_physical"),
)
_VIEWS = (
    *("view", "select", "slice", "transpose", "permute", "unsqueeze", "squeeze", "expand", "t"),
    *("narrow", "unfold", "split", "chunk", "unbind", "flatten", "view_as", "reshape"),
)
_PARTS = ("select", "slice", "unsqueeze")  # views through which a tensor is written
_ITEMS = ("item", "_local_scalar_dense")
_NOTES = (
    *("_assert_async", "_assert_scalar", "_assert_tensor_metadata"),
    "sym_constrain_range_for_size",
)


class _HiddenError(Exception):
    """torch.vmap keeps to itself what is done in it, unless one listens below it."""


@dataclass
class _Run:
    """One run: the graph, and the calls in the order in which they began."""

    graph: GraphModule
    calls: list[_Noted]


@dataclass
class _Noted:
    path: str
    names: list[str]
    result: Any = None  # with the place of each tensor instead of it


def capture(module: torch.nn.Module, runs: Sequence[Sequence[torch.Tensor]]) -> Call:
    """What the module does with these inputs, the same ones in several sizes."""
    try:
        return _captured(module, runs, inside=False)
    except _HiddenError:
        return _captured(module, runs, inside=True)


def _captured(
    module: torch.nn.Module, runs: Sequence[Sequence[torch.Tensor]], *, inside: bool
) -> Call:
    traced = [_run(module, args, whose=not n, inside=inside) for n, args in enumerate(runs)]
    return _Builder(module, traced, runs).build()


# Runs ---------------------------------------------------------------------------------------------


def _library() -> Any:
    made: Callable[..., Any] = torch.library.Library
    return made("samevoice", "FRAGMENT")


@cache
def _markers() -> tuple[Any, Any]:
    """Two operations that do nothing, and stand where a module begins and ends."""
    library: Any = _library()
    found = []
    for name in ("enter", "leave"):
        library.define(f"{name}(Tensor?[] xs, int number) -> ()")
        library.impl(name, lambda xs, number: None, "CompositeExplicitAutograd")
        operation = getattr(torch.ops.samevoice, name)
        torch.fx.node.has_side_effect(operation.default)
        found.append(operation)
    _markers.library = library  # type: ignore[attr-defined]  # alive, or they are gone
    return found[0], found[1]


def _run(
    module: torch.nn.Module, args: Sequence[torch.Tensor], *, whose: bool, inside: bool
) -> _Run:
    """``whose``: with the line of the original that does it, which takes a while.

    ``inside``: torch's own functions in the parts that they are made of, and those under vmap.
    """
    calls: list[_Noted] = []
    with _noting(module, calls), torch.enable_grad(), one_thread():
        # With gradients torch takes no short cuts that hide what an attention does.
        made = make_fx(
            lambda *given: module(*given),
            tracing_mode="real",
            pre_dispatch=not inside,
            record_stack_traces=whose,
            _allow_non_fake_inputs=True,
            _error_on_data_dependent_ops=False,
        )
        try:
            graph = made(*args)
        except Exception as error:
            raise PortError(f"torch cannot trace it: {told(error)}") from error
    return _Run(graph, calls)


@contextmanager
def one_thread() -> Iterator[None]:
    """The numbers do not matter here, and threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _noting(module: torch.nn.Module, calls: list[_Noted]) -> Iterator[None]:
    enter, leave = _markers()
    open_calls: list[int] = []

    def before(path: str) -> Callable[..., None]:
        def hook(inner: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            given = _by_name(inner, args, named)
            open_calls.append(len(calls))
            calls.append(_Noted(path, list(given)))
            enter(list(given.values()), open_calls[-1])

        return hook

    def after(inner: Any, args: tuple[Any, ...], output: Any) -> None:
        tensors: list[torch.Tensor] = []
        number = open_calls.pop()
        calls[number].result = _structure(output, tensors)
        leave(tensors, number)

    with ExitStack() as stack:
        for path, inner in module.named_modules():
            hook = inner.register_forward_pre_hook(before(path), with_kwargs=True, prepend=True)
            stack.callback(hook.remove)
            stack.callback(inner.register_forward_hook(after, always_call=True).remove)
        yield


def _by_name(
    module: torch.nn.Module, args: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """Every tensor among the arguments, by the name that the module has for it."""
    try:
        given = signature(module.forward).bind(*args, **named).arguments
    except TypeError:
        given = {f"x{n}": one for n, one in enumerate(args)} | named
    found: dict[str, torch.Tensor] = {}
    for name, one in given.items():
        tensors = [x for x in pytree.tree_leaves(one) if isinstance(x, torch.Tensor)]
        for n, tensor in enumerate(tensors):
            found[name if len(tensors) == 1 else f"{name}_{n}"] = tensor
    return found


def _structure(output: Any, tensors: list[torch.Tensor]) -> Any:
    """The same with the place of each tensor in ``tensors`` instead of it."""
    if isinstance(output, torch.Tensor):
        tensors.append(output)
        return len(tensors) - 1
    if isinstance(output, Mapping):
        return {name: _structure(one, tensors) for name, one in output.items()}
    if isinstance(output, tuple | list):
        return tuple(_structure(one, tensors) for one in output)
    return None


# One graph of all runs ----------------------------------------------------------------------------


@dataclass
class _Builder:
    module: torch.nn.Module
    runs: list[_Run]
    args: Sequence[Sequence[torch.Tensor]]
    values: dict[Node, Any] = field(default_factory=dict)
    stack: list[Call] = field(default_factory=list)
    weights: dict[int, Value] = field(default_factory=dict)
    root: Call | None = None

    def build(self) -> Call:
        names = dict(self._named_weights())
        inputs = iter(range(len(self.args[0])))
        each = [_outside_layers(one, self.module) for one in self.runs]
        if len({len(nodes) for nodes in each}) > 1:
            raise SizesError("it does other things for other sizes")
        for nodes in zip(*each, strict=True):
            node = nodes[0]
            if len({(one.op, str(one.target)) for one in nodes if one.op != "get_attr"}) > 1:
                raise SizesError(f"it does other things for other sizes, at {_where(node)}")
            if node.op == "placeholder":
                n = next(inputs)
                self.values[node] = _value([one[n] for one in self.args])
            elif node.op == "get_attr":
                self.values[node] = self._weight(nodes, names)
            elif node.op == "call_function":
                self._function(nodes)
        assert self.root is not None
        return self.root

    def _named_weights(self) -> Iterator[tuple[int, str]]:
        for name, one in self.module.named_parameters(remove_duplicate=False):
            yield id(one), name
        for name, buffer in self.module.named_buffers(remove_duplicate=False):
            yield id(buffer), name

    def _weight(self, nodes: Sequence[Node], names: Mapping[int, str]) -> Value:
        held = [
            getattr(one.graph, str(node.target)) for one, node in zip(self.runs, nodes, strict=True)
        ]
        first = held[0]
        functions: Any = torch._C._functorch
        if functions.is_functorch_wrapped_tensor(first):
            raise _HiddenError
        if id(first) not in self.weights:
            found = _value(held)
            found.weight = names.get(id(first), "")
            if not found.weight:
                if any(x.shape != first.shape or not torch.equal(x, first) for x in held[1:]):
                    raise SizesError(
                        f"a constant is another one for other sizes, at {_where(nodes[0])}"
                    )
                found.data = first.detach().numpy()
            self.weights[id(first)] = found
        return self.weights[id(first)]

    def _function(self, nodes: Sequence[Node]) -> None:
        node = nodes[0]
        target = node.target
        if target is torch.ops.samevoice.enter.default:
            self._enter(node)
        elif target is torch.ops.samevoice.leave.default:
            self._leave(nodes)
        elif getattr(target, "__name__", "") == "getitem":
            whole, index = self._given(node)
            self.values[node] = self.values[whole][index]
        else:
            self._operation(nodes)

    def _enter(self, node: Node) -> None:
        given, number = self._given(node)
        noted = self.runs[0].calls[number]
        inner = self.module.get_submodule(noted.path)
        inputs = [self.values[one] for one in given]
        call = Call(noted.path, inner, list(noted.names), inputs, _lines(node))
        if self.stack:
            self.stack[-1].body.append(call)
        else:
            self.root = call
        call.result = noted.result
        self.stack.append(call)

    def _leave(self, nodes: Sequence[Node]) -> None:
        given, _ = self._given(nodes[0])
        for made in zip(*(self._given(node)[0] for node in nodes), strict=True):
            if made[0] not in self.values:  # a layer's
                self.values[made[0]] = _of_meta([one.meta["val"] for one in made])
        call = self.stack.pop()
        call.outputs = [self.values[one] for one in given]
        if not call.outputs and self.stack:  # it raised, and was called in another way
            self.stack[-1].body.remove(call)

    def _given(self, node: Node) -> tuple[Any, Any]:
        first, second = node.args
        return first, second

    def _operation(self, nodes: Sequence[Node]) -> None:
        node = nodes[0]
        kind = str(node.target).removeprefix("aten.").removesuffix(".default")
        base, _, overload = kind.partition(".")
        args = _merged([one.args for one in nodes], self.values)
        named = _merged([dict(one.kwargs) for one in nodes], self.values)
        if base in _NOTES or base in _ITEMS:
            if base in _ITEMS:
                self._check_item(node, args[0])
            return
        if base in _SAME:
            self.values[node] = args[0]
            return
        if base == "fill" or base in ("fill_", "copy_", "zero_"):
            self._put(node, base, args)
            return
        source: Any = node.args[0] if node.args else None
        if base == "as_strided" and not source.meta["val"].is_contiguous():
            raise PortError(f"the strides of a tensor that has others itself, at {_where(node)}")
        in_place = base.endswith("_") and not base.endswith("__")
        if in_place:
            kind = base[:-1] + (f".{overload}" if overload else "")
        outputs = [
            _of_meta([one[n] for one in _metas(nodes)]) for n in range(len(_metas(nodes)[0]))
        ]
        op = Op(kind, args, named, outputs, _lines(node))
        self._add(op)
        if in_place and _base(node.args[0]) in _PARTS:
            self._put(node, "copy_", (args[0], outputs[0]))
        elif in_place:
            self._refuse_seen_views(node)
        several = isinstance(node.meta.get("val"), tuple | list)
        self.values[node] = outputs if several else outputs[0]

    def _add(self, op: Op) -> None:
        if not self.stack:
            raise PortError(f"an operation outside of the module: {op.kind}")
        self.stack[-1].body.append(op)

    def _put(self, node: Node, base: str, args: tuple[Any, ...]) -> None:
        """A part of a tensor, or all of it, that is written over: a new tensor from here on."""
        target: Any = node.args[0]
        chain: list[Node] = []
        while _base(target) in _PARTS:
            chain.append(target)
            target = target.args[0]
        self._refuse_old_views(target, node, chain)
        old = self.values[target]
        index = [(_base(one), *_merged([one.args[1:]], self.values)) for one in reversed(chain)]
        new = Value(old.shapes, old.dtype)
        written = 0.0 if base == "zero_" else args[1]
        puts = (one for one in self.stack[-1].body if isinstance(one, Op) and one.kind == "put")
        before = next((one for one in puts if one.outputs[0] is old), None)
        if before and before.args[1:] == (tuple(index), written):  # as y[2:4] += 1 does
            self.values[node] = old
            return
        lines = _lines(node)
        self._add(Op("put", (old, tuple(index), written), {}, [new], lines))
        for one in (target, node):
            self.values[one] = new

    def _refuse_seen_views(self, node: Node) -> None:
        """What is changed in place must not be seen through another tensor later."""
        changed: Any = node.args[0]
        self._refuse_old_views(changed, node, [])
        while _base(changed) in _VIEWS:
            changed = changed.args[0]
            if _seen_after(changed, node):
                raise PortError(f"a view is changed in place and seen elsewhere, at {_where(node)}")

    def _refuse_old_views(self, changed: Node, node: Node, own: list[Node]) -> None:
        views = (one for one in _views_of(changed) if one < node and one not in own)
        if any(_seen_after(one, node) for one in views):
            raise PortError(f"a tensor is changed in place under a view of it, at {_where(node)}")

    def _check_item(self, node: Node, value: Value) -> None:
        """A number that is read off a tensor must be one of the sizes, or only be asserted."""
        code = _lines(node)[-1].code if _lines(node) else ""
        if code.startswith("assert") or value.dtype not in ("int64", "int32"):
            if code.startswith("assert"):
                return
            raise PortError(
                f"what it does depends on the values that it is fed, at {_where(node)}: {code}"
            )
        read = tuple(
            _item(one, args, node.name) for one, args in zip(self.runs, self.args, strict=True)
        )
        # One that is the same in all runs may be so by chance: an input must have it.
        known = [one for one in self.values.values() if isinstance(one, Value)]
        known = known if isinstance(merged(read), Size) else known[: len(self.args[0])]
        if merged(read) not in {d for one in known for d in one.dims}:
            raise PortError(
                f"what it does depends on the values that it is fed, at {_where(node)}: {code}"
            )


def _outside_layers(run: _Run, module: torch.nn.Module) -> list[Node]:
    """Without what torch's layers do inside, as often as time is long: they are known whole."""
    enter, leave = (one.default for one in _markers())
    inside: set[Node] = set()
    depth = 0
    for node in run.graph.graph.nodes:
        if node.target is enter:
            inner = module.get_submodule(run.calls[node.args[1]].path)
            depth += bool(depth) or layer_of(inner) is not None
        if depth > 1 or (depth and node.target not in (enter, leave)):
            inside.add(node)
        if node.target is leave and depth:
            depth -= 1
    # A tensor that a layer is the first to take may be taken by others, too.
    kept = {node for node in inside if node.op == "get_attr" and not inside.issuperset(node.users)}
    return [node for node in run.graph.graph.nodes if node not in inside or node in kept]


def _seen_after(one: Node, change: Node) -> bool:
    """Whether an operation takes a tensor behind the one that changes it."""
    return any(change < user and "samevoice" not in str(user.target) for user in one.users)


def _views_of(node: Node) -> Iterator[Node]:
    for user in node.users:
        if _base(user) in _VIEWS and user.args[0] is node:
            yield user
            yield from _views_of(user)


def _base(node: Any) -> str:
    """ "add" of aten.add.Tensor."""
    name = str(getattr(node, "target", ""))
    return name.removeprefix("aten.").partition(".")[0] if name.startswith("aten.") else ""


def _item(run: _Run, args: Sequence[torch.Tensor], name: str) -> int:
    """What such a node reads in a run."""
    found: dict[str, Any] = {}

    class Reader(Interpreter):
        def run_node(self, n: Node) -> Any:
            given = super().run_node(n)
            found[n.name] = given
            return given

    with torch.no_grad():
        Reader(run.graph).run(*args)
    return int(found[name])


def _metas(nodes: Sequence[Node]) -> list[list[Any]]:
    """The tensors that a node gives, in each run."""
    made = [one.meta.get("val") for one in nodes]
    return [list(one) if isinstance(one, tuple | list) else [one] for one in made]


def _of_meta(metas: Sequence[Any]) -> Value:
    if not all(isinstance(one, torch.Tensor) for one in metas):
        return Value(((),) * len(metas), "none")
    return _value(metas)


def _value(tensors: Sequence[torch.Tensor]) -> Value:
    shapes = tuple(tuple(int(size) for size in one.shape) for one in tensors)
    return Value(shapes, str(tensors[0].dtype).removeprefix("torch."))


def _merged(given: Sequence[Any], values: Mapping[Node, Any]) -> Any:
    """The arguments of all runs as one: nodes as their values, integers that differ as sizes."""
    first = given[0]
    if isinstance(first, Node):
        return values[first]
    if isinstance(first, tuple | list):
        if any(len(one) != len(first) for one in given):
            raise SizesError("it does other things for other sizes")
        return tuple(_merged(each, values) for each in zip(*given, strict=True))
    if isinstance(first, Mapping):
        return {name: _merged([one[name] for one in given], values) for name in first}
    if isinstance(first, int) and not isinstance(first, bool):
        return merged(tuple(given))
    if isinstance(first, torch.dtype):
        return str(first).removeprefix("torch.")
    if any(one != first for one in given):
        raise SizesError(f"a number follows from the sizes: {', '.join(map(str, given))}")
    return first


def _lines(node: Node) -> tuple[Line, ...]:
    trace = node.meta.get("stack_trace") or ""
    return tuple(
        Line(file, int(number), function, code)
        for file, number, function, code in _FRAME.findall(trace)
    )


def _where(node: Node) -> str:
    lines = of_authors(_lines(node))
    return str(lines[-1]) if lines else str(node.target)
