"""Parity for anyone's own modules: a torch.nn.Module and the mlx.nn.Module that was made of it.

    verdict = samevoice.parity.compare(torch_module, mlx_module, inputs)
    print(verdict.passed, verdict.first_divergence)

Every leaf of the torch module is paired with the MLX module of the same path, or of the one that
``names`` gives, and both are held against the torch module in float64.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import Any, TypeAlias

import numpy as np

from samevoice.errors import SamevoiceError
from samevoice.parity.judge import Verdict, judge
from samevoice.parity.limits import Limits, limits_for
from samevoice.parity.metrics import Array
from samevoice.parity.overrides import overrides_from

# Torch path -> MLX path; None where the port has no such layer, for a reason known to the caller.
Names: TypeAlias = Mapping[str, str | None] | Callable[[str], str | None]
Layout: TypeAlias = Callable[[Array], Array]  # from torch's to MLX's
Inputs: TypeAlias = Mapping[str, Array] | Sequence[Array] | Array

OUTPUT = "output"


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
    """
    chosen = limits or limits_for("generic", "float32", _device())
    chosen = chosen.overridden(overrides_from(overrides or {}, "given to compare()"))
    pairs = _paired(torch_module, names)
    truth = _torch_taps(torch_module, inputs, pairs, layouts or {}, double=True)
    reference = _torch_taps(torch_module, inputs, pairs, layouts or {}, double=False)
    given = inputs if mlx_inputs is None else mlx_inputs
    candidate = _mlx_taps(mlx_module, given, set(pairs.values()))
    again = [_torch_taps(torch_module, inputs, pairs, layouts or {}, double=False, plainly=True)]
    outputs = [tap for tap in reference if tap.partition(".")[0] == OUTPUT]
    return judge(
        truth, reference, candidate, chosen, outputs=outputs, order=list(reference), floors=again
    )


def _device() -> str:
    """The name by which limits know MLX's default device."""
    import os

    from samevoice.models import backend  # isort: split

    import mlx.core as mx

    name = backend.device_name(mx.default_device()).lower()
    return name if name == "cpu" or os.environ.get("MLX_ENABLE_TF32") == "0" else f"{name}-tf32"


def _paired(torch_module: Any, names: Names | None) -> dict[str, str]:
    """Torch path -> MLX path, for every leaf that both sides must have."""
    leaves = [path for path, one in torch_module.named_modules() if path and _is_leaf(one)]
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


def _is_leaf(module: Any) -> bool:
    return not any(True for _ in module.children())


def _has_tensors(module: Any) -> bool:
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())


# torch --------------------------------------------------------------------------------------------


def _torch_taps(
    module: Any,
    inputs: Inputs,
    pairs: Mapping[str, str],
    layouts: Mapping[str, Layout],
    *,
    double: bool,
    plainly: bool = False,
) -> dict[str, Array]:
    """What every paired layer gives; ``plainly`` is another, equally valid evaluation."""
    import torch

    from samevoice.parity.reference import without_onednn

    dtype = torch.float64 if double else torch.float32
    # A copy, so that the caller's module keeps its mode and its type.
    running = deepcopy(module).to(dtype).eval()
    seen: dict[str, Array] = {}
    for path, tap in pairs.items():
        hook = _noting(seen, tap, layouts.get(tap))
        running.get_submodule(path).register_forward_hook(hook)
    args, kwargs = _arguments(inputs, lambda x: _tensor(x, dtype))
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.inference_mode(), without_onednn() if plainly else nullcontext():
            output = running(*args, **kwargs)
    finally:
        torch.set_default_dtype(before)
    for tap, part in _outputs(output):
        _noting(seen, tap, layouts.get(tap))(_last(running), None, part)
    return seen


def _noting(seen: dict[str, Array], tap: str, layout: Layout | None) -> Callable[..., None]:
    from samevoice.parity.listening import channels_first, to_mlx

    def hook(module: Any, args: Any, output: Any) -> None:
        tensor = _first(output)
        name = _again(seen, tap)
        if layout is not None:
            seen[name] = np.array(layout(tensor.detach().numpy()), order="C")
        else:
            first = channels_first(module)
            array = to_mlx(tensor, first) if first or tensor.ndim != 4 else tensor.detach().numpy()
            seen[name] = np.array(array, order="C")

    return hook


def _tensor(x: Array, dtype: Any) -> Any:
    import torch

    tensor = torch.from_numpy(np.array(x))
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _last(module: Any) -> Any:
    """The layer that gives a chain's output, whose kind tells the output's layout."""
    import torch

    while isinstance(module, torch.nn.Sequential) and len(module):
        module = module[-1]
    return module


# MLX ----------------------------------------------------------------------------------------------


def _mlx_taps(module: Any, inputs: Inputs, wanted: set[str]) -> dict[str, Array]:
    from samevoice.models import backend as backend  # isort: split

    import mlx.core as mx

    from samevoice.parity.candidate import as_numpy

    args, kwargs = _arguments(inputs, lambda x: mx.array(np.asarray(x)))
    seen: dict[str, Array] = {}
    training = bool(module.training)
    module.eval()
    try:
        with _wrapped(module, wanted, lambda tap, y: seen.update({_again(seen, tap): as_numpy(y)})):
            for tap, part in _outputs(module(*args, **kwargs)):
                seen[tap] = as_numpy(part)
    finally:
        module.train(training)
    return seen


@contextmanager
def _wrapped(module: Any, wanted: set[str], note: Callable[[str, Any], None]) -> Iterator[None]:
    """The modules at the wanted paths get, for a while, a class that notes what they give."""
    originals: list[tuple[Any, type]] = []
    paths: dict[int, str] = {}
    try:
        for path, one in module.named_modules():
            if path not in wanted:
                continue
            if id(one) in paths:
                raise CompareError(f"{path!r} and {paths[id(one)]!r} are one module: name one")
            paths[id(one)] = path
            originals.append((one, type(one)))
            one.__class__ = _noting_class(type(one), path, note)
        yield
    finally:
        for one, kind in originals:
            one.__class__ = kind


def _noting_class(kind: type, path: str, note: Callable[[str, Any], None]) -> type:
    """Python looks __call__ up in the class, so one object alone is wrapped by a class of its own.

    It keeps the name, because some modules look at it.
    """

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = kind.__call__(self, *args, **kwargs)
        note(path, _first(output))
        return output

    return type(kind.__name__, (kind,), {"__call__": call})


# Both ---------------------------------------------------------------------------------------------


def _again(seen: Mapping[str, Array], tap: str) -> str:
    """A layer that runs several times has a tap for each."""
    if tap not in seen:
        return tap
    count = 2
    while f"{tap}#{count}" in seen:
        count += 1
    return f"{tap}#{count}"


def _outputs(output: Any, name: str = OUTPUT) -> Iterator[tuple[str, Any]]:
    """All that a module gives, each under a name: output, output.1, output.key."""
    if isinstance(output, Mapping):
        parts = [(str(key), part) for key, part in output.items()]
    elif isinstance(output, tuple | list):
        parts = [(str(n) if n else "", part) for n, part in enumerate(output)]
    else:
        parts = []
        if output is not None:
            yield name, output
    if not parts and isinstance(output, Mapping | tuple | list):
        raise CompareError("a module gave nothing to compare")
    for key, part in parts:
        yield from _outputs(part, f"{name}.{key}" if key else name)


def _first(output: Any) -> Any:
    """Of several things that a module gives, the first: LSTMs give their states behind it."""
    while isinstance(output, tuple | list):
        if not output:
            raise CompareError("a module gave nothing to compare")
        output = output[0]
    return output


def _arguments(
    inputs: Inputs, convert: Callable[[Array], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), {name: convert(x) for name, x in inputs.items()}
    if isinstance(inputs, np.ndarray):
        return (convert(inputs),), {}
    return tuple(convert(x) for x in inputs), {}


class _Callable(types.ModuleType):
    """Python puts this module in the place of the function of the same name: so both are called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Verdict:
        return compare(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
