"""The layers of an MLX network as data, and bugs put into them for a while."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from samevoice.models.layers import EPSILON, Module, named_arrays
from samevoice.models.network import CutEmbedding
from samevoice.parity.bugs import BEHIND, BUGS, CONV, INSTEAD, LYING, NORM, Case, function_bug
from samevoice.parity.candidate import as_numpy
from samevoice.parity.metrics import Array
from samevoice.parity.textbook import FUNCTIONS, NOTHING, Layer, compute

if TYPE_CHECKING:
    import mlx.core as mx

# Layers of a network ------------------------------------------------------------------------------


def layers_of(network: Any) -> dict[str, Layer]:
    """Path -> layer, for all whose kind the module tells, in the order of the module tree."""
    found = {}
    for path, module in sorted(network.named_modules(), key=lambda one: _in_order(one[0])):
        layer = layer_of(path, module)
        if layer.kind == "pool" and isinstance(network, CutEmbedding):
            layer = layer.having(masked=False)
        if layer.kind:
            found[layer.path] = layer
    return found


def _in_order(path: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in path.split(".")]


def layer_of(path: str, module: Any) -> Layer:
    """A module, or a layer's tensors by name, as data."""
    kind = _kind(module) if path else "network"
    if kind in ("fbank", "mel"):
        return _fbank(path, module) if kind == "fbank" else _mel(path, module)
    inner = kind in ("network", "bilstm", "attention", "attentive pool", "fusion")
    own = {name: x for name, x in module.items() if hasattr(x, "shape")}
    held = named_arrays(module) if inner else own
    return Layer(
        kind, path, {n: as_numpy(x) for n, x in held.items()}, _settings(kind, path, module)
    )


def _kind(module: Any) -> str:
    """The kind of layer that a module is, by what it holds; "" for none that is known."""
    name = type(module).__name__
    recurrent = "Wx" in module and "Wh" in module
    gates = module["Wx"].shape[0] // module["Wh"].shape[1] if recurrent else 0
    dims = getattr(module.get("weight"), "ndim", 0)
    ours = (
        *(("fbank", hasattr(module, "mel_banks")), ("mel", hasattr(module, "banks"))),
        ("pool", name == "StatsPool"),
        ("attentive pool", hasattr(module, "score_layers")),
        ("simam", name == "SimAM"),
        ("activation", hasattr(module, "function")),
        ("clipped", hasattr(module, "ceiling")),
        ("fusion", "local_att" in module),
        ("mixture", name == "Mixture"),
        ("sinc", "low_hz" in module and "band_hz" in module),
    )
    kinds = (
        ("", "scales" in module or "Transpose" in name or "Embedding" in name),
        *(ours if _is_ours(module) else ()),
        ("batch norm", "running_mean" in module),
        ("lstm", gates == 4),
        ("gru", gates == 3),
        ("", recurrent),
        ("attention", "query_proj" in module and "key_proj" in module),
        ("bilstm", "forward" in module and "backward" in module),
        ("norm", "InstanceNorm" in name or "LayerNorm" in name),
        *(("linear", dims == 2), ("conv1d", dims == 3), ("conv2d", dims == 4)),
    )
    return next((kind for kind, fits in kinds if fits), "")


def _is_ours(module: Any) -> bool:
    """Whether its class is one of samevoice's, or made of one: others may have the same names."""
    kinds = (one for one in type(module).__mro__ if one is not Module)
    return any(one.__module__.startswith("samevoice.") for one in kinds)


def _settings(kind: str, path: str, module: Any) -> dict[str, Any]:
    if kind in CONV:
        kernel = module["weight"].shape[1:-1]
        pads = _each(getattr(module, "padding", 0), len(kernel))
        return {
            "stride": _each(getattr(module, "stride", 1), len(kernel)),
            "padding": tuple((n, n) for n in pads),
            "dilation": _each(getattr(module, "dilation", 1), len(kernel)),
            "groups": int(getattr(module, "groups", 1)),
            "pads": getattr(module, "pads", "zeros"),
        }
    if kind in NORM:
        over = "time" if "InstanceNorm" in type(module).__name__ else "last"
        return {"eps": float(getattr(module, "eps", 1e-5)), "over": over}
    if kind == "lstm":
        return {"backward": getattr(module, "backward", path.endswith("backward"))}
    if kind == "sinc":
        return {"stride": (int(module.stride),), "rate": int(module.sample_rate)}
    if kind == "pool":
        return {name: getattr(module, name) for name in ("rows", "flat", "added")}
    if kind == "attentive pool":
        said = ("score_layers", "has_tanh", "context", "floor", "masked", "rows", "image")
        return {"eps": EPSILON, **{name: getattr(module, name) for name in said}}
    if kind == "activation":
        return {"name": module.function}
    if kind == "clipped":
        return {"ceiling": float(module.ceiling)}
    if kind == "fusion":  # one layer inside takes both images
        return {"eps": EPSILON, "before": f"{path}.local_att.0.input"}
    if kind == "attention":
        return _of_attention(module)
    return {}


def _of_attention(module: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"heads": int(getattr(module, "num_heads", 1))}
    for positions in getattr(module, "shared", ()):
        table = as_numpy(positions.weight)
        found |= {"positions": table, "distance": positions.distance, "kept": module.kept}
    return found


def _each(value: Any, count: int) -> tuple[int, ...]:
    return (int(value),) * count if isinstance(value, int) else tuple(int(n) for n in value)


def _fbank(path: str, one: Any) -> Layer:
    usual = one.snip_edges and not (one.use_energy or one.dither or one.fbank_centering_span)
    if not usual:
        return Layer("", path)
    settings = {
        "window": one.window.kernel,
        "step": one.window.stride,
        "window_type": one.window_type,
        "fft": one.fft_size,
        "scale": one.full_scale,
    }
    return Layer("fbank", path, {"mel_banks": one.mel_banks}, settings)


def _mel(path: str, one: Any) -> Layer:
    frames = one.frames
    settings = {
        "fft": frames.fft_size,
        "step": frames.hop,
        "reach": frames.reach,
        "pad": frames.pad,
        "pad_mode": frames.numpys_mode,
        "power": getattr(one, "power", 2.0),
        "scale": math.sqrt(float(getattr(one, "scale", 1.0))),
        "log": one.log,
        "centred": one.centred,
    }
    names = ("window", "banks", "cosines")
    held = {name: np.array(getattr(one, name)) for name in names if hasattr(one, name)}
    return Layer("mel", path, held, settings)


# The gallery of a network -------------------------------------------------------------------------


def gallery_of(network: Any) -> list[Case]:
    """Every bug that the network's layers can have, in the first, a middle and the last of a kind.

    Each bug is put into one of the three, in turn, so that a gallery stays cheap.
    """
    layers = layers_of(network)
    kinds = dict.fromkeys(layer.kind for layer in layers.values())
    found = []
    for kind in kinds:
        same = [layer for layer in layers.values() if layer.kind == kind]
        for turn, bug in enumerate(bug for bug in BUGS if kind in bug.kinds):
            # From its turn on, the first layer that the bug has something to change in.
            places = [same[0], same[len(same) // 2], same[-1]]
            places = places[turn % 3 :] + places[: turn % 3]
            cases = (
                Case(bug, one, wrong) for one in [*places, *same] if (wrong := bug.change(one))
            )
            found += list(cases)[:1]
    return found


@contextmanager
def installed(network: Any, *changes: tuple[Layer, Layer]) -> Iterator[None]:
    """The network with layers changed: tensors in place, calls as the textbook has them."""
    from samevoice.models.layers import taps

    with ExitStack() as stack:
        for layer, changed in changes:
            new = {n: x for n, x in changed.tensors.items() if x is not layer.tensors.get(n)}
            if new:
                stack.enter_context(_tensors_put(network, layer, new))
            if changed.settings != layer.settings:
                calls = {changed.path: _calling(changed)}
                stack.enter_context(taps.listen(network, changes=calls))
        yield


@contextmanager
def _tensors_put(network: Any, layer: Layer, new: Mapping[str, Array]) -> Iterator[None]:
    import mlx.core as mx

    owner = at(network, layer.path)
    places = []
    for name, array in new.items():
        path, _, last = name.rpartition(".")
        module = at(owner, path)
        places.append((module, last, module[last]))
        module[last] = mx.array(np.ascontiguousarray(array)).astype(module[last].dtype)
    try:
        yield
    finally:
        for module, last, before in places:
            module[last] = before


def at(network: Any, path: str) -> Any:
    """The module at a path below another."""
    for part in filter(None, path.split(".")):
        network = network[int(part)] if part.isdigit() else network[part]
    return network


def _calling(layer: Layer) -> Callable[[Mapping[str, mx.array], mx.array], mx.array]:
    """What the layer's tap passes on: what the textbook computes for it."""
    import mlx.core as mx

    before = layer.settings.get("before", f"{layer.path}.input")

    def call(given: Mapping[str, mx.array], value: mx.array) -> mx.array:
        x, masks = as_numpy(given[before]), given.get(f"{before}.1")
        found = compute(layer, x, None if masks is None else as_numpy(masks))
        if found is None:
            raise ValueError(f"{layer.path}: the textbook has no {layer.kind}")
        return mx.array(found).astype(value.dtype)

    return call


# Functions between layers -------------------------------------------------------------------------


def function_at(tap: str, order: Sequence[str], arrays: Mapping[str, Array]) -> Layer | None:
    """What stands between the layer before and this seam, told from what they gave.

    ``arrays`` are the reference's own. None where it is more than one known function and, at most,
    a max-pooling over time.
    """
    here = order.index(tap) if tap in order else 0
    outputs = [name for name in order[:here] if not name.endswith(".input") and name in arrays]
    if not outputs or tap not in arrays:
        return None
    given, got = arrays[outputs[-1]], arrays[tap]
    same = got.ndim == given.ndim
    if not same and (given.ndim, got.ndim) != (3, 4):
        return None
    width = given.shape[1] // max(got.shape[1], 1) if same and got.ndim == 3 else 1
    form = {"width": max(width, 1)} if same else {"image": "frequency by time"}
    for name in FUNCTIONS:
        layer = Layer("function", tap, {}, {"name": name, "before": outputs[-1], **form})
        found = compute(layer, given)
        if found is not None and found.shape == got.shape and _same(found, got):
            return layer
    return None


def _same(one: Array, other: Array) -> bool:
    scale = float(np.abs(other).max(initial=0.0))
    return bool(np.abs(one - other).max(initial=0.0) <= 1e-6 * scale)


def function_cases(layers: Sequence[Layer]) -> list[Case]:
    """Bugs of the functions between layers: each kind of function once, the end for itself."""
    found: dict[str, Case] = {}
    for layer in layers:
        right = layer.settings["name"]
        last = layer.path == "output" and right == NOTHING
        for wrong in (*INSTEAD.get(right, ()), *(BEHIND if last else ())):
            bug = function_bug(right, wrong)
            found.setdefault(bug.name, Case(bug, layer, layer.having(name=wrong)))
        if "image" in layer.settings and (wrong_layer := LYING.change(layer)):
            found.setdefault(LYING.name, Case(LYING, layer, wrong_layer))
    return list(found.values())
