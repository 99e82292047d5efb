"""Listening to a PyTorch module: which of its modules answers to which tap, and what they give.

That is read off the converter's rules, never written down twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from samevoice.converters.convert import Part
from samevoice.models.layers.taps import again, first_of, outputs_of
from samevoice.parity import hints
from samevoice.parity.inputs import Recording, is_output
from samevoice.parity.insides import ReferenceError as ReferenceError
from samevoice.parity.insides import check_chain, instead, layers_of, part_of, together
from samevoice.parity.metrics import Array

if TYPE_CHECKING:
    import torch

FBANK = "fbank"
MIXTURE = "mixture"
Axes: TypeAlias = str | hints.Order | None
LIBRARIES = ("torch.nn.", "torchaudio.")  # what no network's author wrote
_LSTM_WEIGHT = re.compile(r"weight_hh_l(\d+)(_reverse)?")


# From modules to taps -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Names:
    """Torch module path -> tap, as the rules pair their tensors.

    ``lstms`` holds, for each LSTM module, the tap of every layer and direction inside it;
    ``attentions``, for each of torch's own, those of its projections; ``methods`` is a family's.
    """

    modules: Mapping[str, str]
    lstms: Mapping[str, Mapping[tuple[int, bool], str]]
    attentions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    methods: Mapping[str, str] = field(default_factory=dict)

    def tap(self, path: str) -> str | None:
        """The tap of a module that holds no tensors itself, from those below or above it."""
        if path in self.modules:
            return self.modules[path]
        for source, target in self.modules.items():
            rest = source.removeprefix(f"{path}.")
            if rest != source and target.endswith(f".{rest}"):
                return target.removesuffix(f".{rest}")
        parent, _, own = path.rpartition(".")
        if not parent:  # of the whole's own modules, one without tensors has its name on both sides
            return None if any(one.startswith(f"{path}.") for one in self.modules) else path
        above = self.tap(parent)
        return None if above is None else f"{above}.{own}"


def names_of(pairs: Sequence[tuple[str, str]]) -> Names:
    """Source and target tensors, as the rules move them -> whose output is which tap."""
    modules: dict[str, str] = {}
    lstms: dict[str, dict[tuple[int, bool], str]] = {}
    attentions: dict[str, tuple[str, ...]] = {}
    for source, target in pairs:
        path, _, tensor = source.rpartition(".")
        # A weight that torch computes from others belongs to the layer that it is computed for.
        path = path.partition(".parametrizations.")[0]
        tap = target.rpartition(".")[0].partition(".parametrizations.")[0]
        if tensor == "in_proj_weight":
            attentions[path] = (*attentions.get(path, ()), tap)
        if tensor.startswith("in_proj_"):
            tap = tap.rpartition(".")[0]
        if inner := _LSTM_WEIGHT.fullmatch(tensor):
            lstms.setdefault(path, {})[int(inner[1]), inner[2] is not None] = tap
        if path:  # what the outermost module holds itself is nobody's output
            modules.setdefault(path, tap)
    alone = {path: tap for path, tap in modules.items() if path not in lstms}
    # A port that keeps the three in one has no layers for them.
    attentions = {path: taps for path, taps in attentions.items() if len(taps) > 1}
    return Names(alone, lstms, attentions)


def names_of_part(part: Part) -> Names:
    pairs = [
        (source, target)
        for move in part.plan.moves
        for source in move.sources
        for target in move.targets
    ]
    return replace(names_of(pairs), methods=part.family.methods)


@dataclass(frozen=True)
class Seams:
    """Where a module is listened to: ``modules`` is tap -> torch path, ``lstms`` as in Names.

    ``methods`` is tap -> torch path and the method of the module there; ``attentions``: tap -> the
    path of torch's own attention, and the taps of its projections. ``as_mlx`` lays what a module
    gives out as MLX does; "output" is the tap of the whole. With ``fbank`` the filterbank is
    listened to; with ``blocks`` a block that gives several tensors is heard by the first.
    """

    modules: Mapping[str, str]
    lstms: Mapping[str, Mapping[tuple[int, bool], str]] = field(default_factory=dict)
    methods: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    as_mlx: Callable[[str, torch.nn.Module, torch.Tensor], Array] = lambda tap, module, x: to_mlx(
        x, not is_output(tap) and gives_channels_first(module), hints.axes_given(module, x.ndim)
    )
    attentions: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    fbank: bool = False
    blocks: bool = False

    def final_outputs(self, module: torch.nn.Module, output: Any) -> dict[str, Array]:
        """All that the whole module gives, by tap."""
        return {tap: self.as_mlx(tap, module, x) for tap, x in outputs_of(output)}


def seams_of(module: torch.nn.Module, names: Names) -> Seams:
    """The seams at which the rules pair a torch module and its port.

    Every module with tensors, and every module of the authors' own that has a name in the port: the
    blocks and the pooling. A module that is the only one in its parent is seen at the parent,
    which calls it or uses its tensors in its own way. Of several that are one layer in the port,
    the outermost is seen.
    """
    modules = dict(module.named_modules())
    for path in names.modules:
        if path not in modules:
            raise ReferenceError(f"the reference has no module {path!r}, which the rules name")
    seen = {_seen_at(modules, path): tap for path, tap in names.modules.items()}
    names = replace(names, modules={**names.modules, **seen})
    found: dict[str, str] = {}
    for path, one in modules.items():
        library = type(one).__module__.startswith(LIBRARIES) and not hints.is_block(one)
        own = path in names.modules or not library
        tap = names.tap(path) if path and own and path not in names.lstms else None
        if tap is None or hints.is_function(one) or _is_only_child(modules, path):
            continue
        if not path.startswith(f"{found.get(tap)}."):
            found[tap] = path
    methods = {
        f"{tap}.{inner}": (path, method)
        for tap, path in found.items()
        for method, inner in names.methods.items()
        if hasattr(modules[path], method)
    }
    attentions = {names.modules[path]: (path, taps) for path, taps in names.attentions.items()}
    fbank = hasattr(module, "compute_fbank")
    return Seams(found, names.lstms, methods, attentions=attentions, fbank=fbank)


def _seen_at(modules: Mapping[str, torch.nn.Module], path: str) -> str:
    while _is_only_child(modules, path):
        path = path.rpartition(".")[0]
    return path


def _is_only_child(modules: Mapping[str, torch.nn.Module], path: str) -> bool:
    """Whether the parent is a module of its own kind around this one, not a list or a network."""
    parent = path.rpartition(".")[0]
    if not parent or type(modules[parent]).__module__.startswith("torch.nn."):
        return False
    if hints.calls_its_child(modules[parent]) or any(
        map(hints.is_laid, (modules[parent], modules[path]))
    ):
        return False
    return len(list(modules[parent].children())) == 1


# Layouts ------------------------------------------------------------------------------------------


def channels_first(module: torch.nn.Module) -> bool:
    """Whether what this module gives has its channels in front of time: (B, C, T)."""
    import torch.nn.modules as nn

    kinds = (
        nn.conv._ConvNd,
        nn.instancenorm._InstanceNorm,
        nn.batchnorm._BatchNorm,
        nn.pooling._MaxPoolNd,
        nn.pooling._AvgPoolNd,
        nn.GroupNorm,
    )
    # asteroid's Encoder is a convolution in all but type.
    return isinstance(module, kinds) or hasattr(module, "filterbank")


def block_channels_first(module: torch.nn.Module) -> bool:
    """The same of a block of layers, which gives what the last of them gives."""
    inner = [one for one in module.modules() if one is module or _holds_tensors(one)]
    return channels_first(module) or channels_first(inner[-1])


def _takes_channels_first(module: torch.nn.Module, like_before: bool) -> bool:
    """An original may say of a module of its own what it takes.

    One without tensors, such as a pooling, takes what the layer before gave as it lies.
    """
    without = not any(map(_holds_tensors, module.modules()))
    known = block_channels_first(module) or (without and like_before)
    return bool(getattr(module, "takes_channels_first", known))


def gives_channels_first(module: torch.nn.Module) -> bool:
    """The same, or what an original says of a module of its own: a pooling has no time left."""
    return bool(getattr(module, "gives_channels_first", block_channels_first(module)))


def _holds_tensors(module: torch.nn.Module) -> bool:
    """Of its own, and not of what lies in it."""
    return any(True for _ in module.parameters(recurse=False))


def to_mlx(x: torch.Tensor, first: bool, axes: Axes = None) -> Array:
    """A copy with the channels last: NCHW -> NHWC, NCL -> NLC where they come first.

    ``axes`` says otherwise.
    """
    array = x.detach().numpy()
    if there := _turned(array.ndim, first, axes):
        array = array.transpose(there)
    # A copy, always: the layer behind may change the tensor in place, as a residual sum does.
    return np.array(array, order="C")


def _turned(dims: int, first: bool, axes: Axes) -> tuple[int, ...]:
    """The axes in the order that MLX has them; none where nothing is turned."""
    if isinstance(axes, tuple):
        return axes
    if axes == hints.TIME_FIRST and dims == 3:
        return (1, 0, 2)
    if axes in (hints.TIME_FIRST, hints.AS_MLX):
        return ()
    if dims == 4:
        return (0, 2, 3, 1)
    return (0, 2, 1) if dims == 3 and (first or axes == hints.CHANNELS_FIRST) else ()


def from_mlx(array: Array, first: bool, like: torch.Tensor, axes: Axes = None) -> torch.Tensor:
    """The way back, in the type of the tensor that it stands in for."""
    import torch

    if axes == hints.ROWS:
        array = array.reshape(-1, array.shape[-1])
    if there := _turned(array.ndim, first, axes):
        array = array.transpose(np.argsort(there))
    if tuple(array.shape) != tuple(like.shape):
        raise ReferenceError(f"a layer takes {tuple(like.shape)}, but was to be fed {array.shape}")
    return torch.from_numpy(np.array(array, order="C")).to(like.dtype)


# Recording ----------------------------------------------------------------------------------------


class Listener:
    """Hooks on every watched module; with ``fed`` each takes the input given for its tap.

    Of what hears ``sound`` the filterbank and the mixture of layers are taps as well.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        seams: Seams,
        fed: Mapping[str, Array] | None = None,
        *,
        sound: bool = True,
    ) -> None:
        self.seen, self.sound = Recording(), sound
        self.module, self.seams, self.fed = module, seams, fed or {}
        self.batch = 1  # of the run that is listened to
        self._last: Any = None  # the shape of what came last, where its channels came first

    @contextmanager
    def listening(self) -> Iterator[Recording]:
        with ExitStack() as stack:
            for tap, path in self.seams.modules.items():
                one = self.module.get_submodule(path)
                before = one.register_forward_pre_hook(self._before(tap), with_kwargs=True)
                stack.callback(before.remove)
                # Also where it raises, and somebody calls it in another way: then it gave nothing.
                after = one.register_forward_hook(self._after(tap), always_call=True)
                stack.callback(after.remove)
            for path in self.seams.lstms:
                lstm = self.module.get_submodule(path)
                hook = lstm.register_forward_hook(self._lstm(path), with_kwargs=True)
                stack.callback(hook.remove)
            for tap, (path, method) in self.seams.methods.items():
                one = self.module.get_submodule(path)
                stack.enter_context(self._method(tap, one, method))
            stack.callback(self.module.register_forward_pre_hook(self._begun).remove)
            if self.sound and self.seams.fbank:
                stack.enter_context(self._fbank())
            if self.sound and (mixture := hints.mixture(self.module)):
                stack.enter_context(self._mixture(*mixture))
            stack.callback(self.module.register_forward_hook(self._whole).remove)
            yield self.seen

    def _begun(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        self.batch = len(args[0]) if args and hasattr(args[0], "detach") else 1

    def _by_item(self, module: torch.nn.Module, array: Array) -> Array:
        """(B * T, C) -> (B, T, C) where a module has all frames one after the other."""
        rows = hints.axes(module) == hints.ROWS
        return array.reshape(self.batch, -1, array.shape[-1]) if rows else array

    def _before(self, tap: str) -> Callable[..., Any]:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
            x: Any = args[0] if args else named.get("query")
            if not hasattr(x, "detach"):
                return None
            first = _takes_channels_first(module, x.shape == self._last)
            axes, name = hints.axes_taken(module, x.ndim), again(self.seen.inputs, tap)
            self.seen.note_input(name, self._by_item(module, to_mlx(x, first, axes)))
            if hints.is_inside(module):
                self.seen.inside.add(name)
            fed = from_mlx(self.fed[name], first, x, axes) if name in self.fed else x
            # What takes the same tensor twice, as attention does, is fed twice.
            args = tuple(fed if value is x else value for value in args)
            named = {key: fed if value is x else value for key, value in named.items()}
            if tap in self.seams.attentions:
                self._projections(tap, args, named, axes)
            return None if fed is x else (args, named)

        return hook

    def _projections(
        self, tap: str, args: tuple[Any, ...], named: dict[str, Any], axes: Axes
    ) -> None:
        """torch's own attention tells nothing of what it makes of its input: it is made again."""
        import torch

        path, taps = self.seams.attentions[tap]
        inner: Any = self.module.get_submodule(path)
        # A class of its own around it, as WavLM's, is given one sequence, and what it adds.
        whole = self.seams.modules[tap] == path
        rest = ("query", "key", "value")[len(args) :] if whole else ()
        given = [*args[:3], *(named[one] for one in rest)] if whole else [args[0]] * 3
        weights = inner.in_proj_weight.chunk(3)
        biases = (None,) * 3 if inner.in_proj_bias is None else inner.in_proj_bias.chunk(3)
        for one, x, weight, bias in zip(taps, given, weights, biases, strict=True):
            part = torch.nn.functional.linear(x, weight, bias)
            self.seen.note_input(again(self.seen.inputs, one), to_mlx(x, False, axes))
            self.seen.note_output(again(self.seen.outputs, one), to_mlx(part, False, axes))
        if whole:
            self._last_projection(path, inner, args, named, axes)

    def _last_projection(
        self, path: str, inner: Any, args: tuple[Any, ...], named: dict[str, Any], axes: Axes
    ) -> None:
        """Called as a whole, it never calls its last layer: what reaches that is what it gives
        where the layer changes nothing."""
        import torch

        last = next(t for t, one in self.seams.modules.items() if one == f"{path}.out_proj")
        weight, bias = inner.out_proj.weight, inner.out_proj.bias
        same = torch.eye(len(weight), dtype=weight.dtype)
        none = None if bias is None else torch.zeros_like(bias)
        with instead(inner.out_proj, weight=same, bias=none):
            given = inner.forward(*args, **named)[0]
        name = again(self.seen.inputs, last)
        self.seen.note_input(name, to_mlx(given, False, axes))
        self.seen.inside.add(name)
        found = torch.nn.functional.linear(given, weight, bias)
        self.seen.note_output(again(self.seen.outputs, last), to_mlx(found, False, axes))

    def _after(self, tap: str) -> Callable[..., Any]:
        def hook(module: torch.nn.Module, args: Any, output: Any) -> None:
            # Of several tensors a layer's first counts.
            one = self.seams.blocks or hints.by_first(module) or not list(module.children())
            first = first_of(output) if one else output
            name = again(self.seen.outputs, tap)
            if hasattr(first, "detach"):
                array = self.seams.as_mlx(tap, module, first)
                self.seen.note_output(name, self._by_item(module, array))
                self._last = first.shape if gives_channels_first(module) else None
            else:
                self.seen.forget(name)

        return hook

    def _whole(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        for tap, array in self.seams.final_outputs(module, output).items():
            self.seen.note_output(tap, array)

    def _lstm(self, path: str) -> Callable[..., Any]:
        """torch tells nothing of the layers inside an LSTM: they run once more, one by one."""
        taps = self.seams.lstms[path]

        def hook(
            lstm: torch.nn.RNNBase, args: tuple[Any, ...], said: dict[str, Any], output: Any
        ) -> Any:
            x, axes = args[0], None if lstm.batch_first else hints.TIME_FIRST
            states = args[1] if len(args) > 1 else said.get("hx")
            ends = []
            for number, layer in enumerate(layers_of(lstm)):
                named = (taps[key] for key in sorted(taps) if key[0] == number)
                ways = [again(self.seen.inputs, tap) for tap in named]
                for tap in ways:
                    self.seen.note_input(tap, to_mlx(x, False, axes))
                if ways[0] in self.fed:
                    x = from_mlx(self.fed[ways[0]], False, x, axes)
                x, end = layer(x, part_of(states, number * len(ways), len(ways)))
                ends.append(end)
                halves = x.split(lstm.hidden_size, dim=-1)
                for tap, half in zip(ways, halves, strict=True):
                    self.seen.note_output(tap, to_mlx(half, False, axes))
            if self.fed:
                return x, together(ends)
            check_chain(path, output[0], x)
            return None

        return hook

    @contextmanager
    def _mixture(self, layers: Any, behind: torch.nn.Module) -> Iterator[None]:
        """The mixture of a network's layers is a line of code: it is heard before and behind."""
        import torch

        extract = layers.extract_features

        def extracting(*args: Any, **named: Any) -> Any:
            found, lengths = extract(*args, **named)
            stacked = torch.stack(found, dim=-1)
            self.seen.note_input(MIXTURE, to_mlx(stacked, False, hints.AS_MLX))
            if MIXTURE in self.fed:
                stacked = from_mlx(self.fed[MIXTURE], False, stacked, hints.AS_MLX)
                found = list(stacked.unbind(-1))
            return found, lengths

        def taking(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
            self.seen.note_output(MIXTURE, to_mlx(args[0], False))

        # Before the module's own hook, which may take something else.
        hook = behind.register_forward_pre_hook(taking, prepend=True)
        layers.extract_features = extracting
        try:
            yield
        finally:
            del layers.extract_features
            hook.remove()

    def _method(
        self, tap: str, module: torch.nn.Module, method: str
    ) -> AbstractContextManager[None]:
        """A method that the port has as a layer is heard as one."""
        compute = getattr(module, method)
        before, after = self._before(tap), self._after(tap)

        def computing(*args: torch.Tensor) -> torch.Tensor:
            fed = before(module, args, {})
            output: torch.Tensor = compute(*(fed[0] if fed else args))
            after(module, args, output)
            return output

        return _wrapped(module, method, computing)

    def _fbank(self) -> AbstractContextManager[None]:
        """The filterbank is a method, not a module."""
        module: Any = self.module
        compute = module.compute_fbank

        def computing(waveforms: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = compute(waveforms)
            name = again(self.seen.outputs, FBANK)
            self.seen.note_output(name, to_mlx(features, first=False))
            return features

        return _wrapped(module, "compute_fbank", computing)


@contextmanager
def _wrapped(module: torch.nn.Module, method: str, computing: Callable[..., Any]) -> Iterator[None]:
    """Another method in the place of one, on this one object."""
    setattr(module, method, computing)
    try:
        yield
    finally:
        delattr(module, method)
