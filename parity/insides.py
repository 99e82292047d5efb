"""What torch's own layers of several layers do inside, which no hook tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from samevoice.errors import SamevoiceError

if TYPE_CHECKING:
    import torch


class ReferenceError(SamevoiceError):
    """The reference cannot be built, or is not what it is taken for."""


def layers_of(lstm: Any) -> list[torch.nn.RNNBase]:
    """The layers of an LSTM, or of its kin, as ones of one layer that hold the same weights."""
    import torch

    if lstm.proj_size:
        raise ReferenceError("an LSTM must be without projection to be looked into")
    found = []
    for number in range(lstm.num_layers):
        ends = ("", "_reverse") if lstm.bidirectional else ("",)
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = {
            f"{kind}_l0{end}": getattr(lstm, f"{kind}_l{number}{end}")
            for kind in kinds[: 4 if lstm.bias else 2]
            for end in ends
        }
        with torch.device("meta"):
            one = type(lstm)(
                weights["weight_ih_l0"].shape[1],
                lstm.hidden_size,
                bias=lstm.bias,
                batch_first=lstm.batch_first,
                bidirectional=lstm.bidirectional,
                **{name: getattr(lstm, name) for name in ("nonlinearity",) if hasattr(lstm, name)},
            )
        one.load_state_dict(weights, strict=True, assign=True)
        found.append(one.eval())
    return found


@contextmanager
def instead(module: torch.nn.Module, **parameters: Any) -> Iterator[None]:
    """A module with other parameters for a while."""
    before = dict(module._parameters)
    module._parameters.update(
        {name: None if x is None else _parameter(x) for name, x in parameters.items()}
    )
    try:
        yield
    finally:
        module._parameters.update(before)


def _parameter(x: torch.Tensor) -> torch.nn.Parameter:
    import torch

    return torch.nn.Parameter(x)


def part_of(states: Any, begin: int, count: int) -> Any:
    """Those of a layer: an LSTM has a pair of them, and others one."""
    if isinstance(states, tuple):
        return tuple(part_of(one, begin, count) for one in states)
    return None if states is None else states[begin : begin + count]


def together(ends: list[Any]) -> Any:
    import torch

    if isinstance(ends[0], tuple):
        return tuple(torch.cat(each) for each in zip(*ends, strict=True))
    return torch.cat(ends)


def check_chain(path: str, whole: torch.Tensor, chained: torch.Tensor) -> None:
    """Layer by layer must be the same LSTM; its outputs lie in [-1, 1], a ReLU's may be larger."""
    import torch

    gap = float((whole - chained).abs().max()) if whole.numel() else 0.0
    largest = max(1.0, float(whole.abs().max())) if whole.numel() else 1.0
    if not gap <= 64 * torch.finfo(whole.dtype).eps * largest:
        raise ReferenceError(f"{path}: its layers one by one are {gap:.3g} off the whole LSTM")
