"""What modules of torchaudio's kind do that their class alone does not tell a listener.

They are marked once a reference is loaded; listening.py looks the marks up. An original marks what
its authors wrote themselves where it is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch

AS_MLX, CHANNELS_FIRST, TIME_FIRST = "as MLX", "channels first", "time first"
ROWS = "rows"  # all frames of a batch one after the other
_AXES, _SEVERAL, _CALLS = "_heard_axes", "_heard_by_first", "_heard_child"
_MIXTURE, _INSIDE, _BLOCK = "_heard_mixture", "_heard_inside", "_heard_as_block"
_ORDERS = "_heard_orders"
Order: TypeAlias = tuple[int, ...]  # the axes of a tensor of torch's, as MLX has them
# Of torchaudio's classes, and of copies under the same names: what gives several tensors, what
# turns the channels to where MLX has them, what turns them away, what calls an only child, and
# what normalises a whole batch as one.
_ATTENTIONS = ("SelfAttention", "WavLMSelfAttention", "MultiheadAttention")
_GIVE_SEVERAL = (
    *("ConvLayerBlock", "FeatureExtractor", "EncoderLayer", "Conformer"),
    *_ATTENTIONS,
)
# Blocks that a port has, too, by the same names.
_BLOCKS = (
    *_GIVE_SEVERAL,
    *("FeatureProjection", "ConvolutionalPositionalEmbedding", "FeedForward"),
    *("ConformerLayer", "_FeedForwardModule", "_ConvolutionModule"),
)
_TURN_BACK = ("FeatureExtractor", "ConvolutionalPositionalEmbedding", "_ConvolutionModule")
_TURN_AWAY = ("LayerNorm",)
_EVEN_OUT = ("_NormalizedWav2Vec2", "_Wav2Vec2Model")
_CALL_THEIR_CHILD = ("ConvLayerBlock", "ConvolutionalPositionalEmbedding")


def hears_neighbours(module: torch.nn.Module) -> bool:
    """Whether what it gives for one of a batch depends on the others: it evens out their levels."""
    return any(type(one).__name__ in _EVEN_OUT for one in module.modules())


def axes(module: Any) -> str | None:
    """How inputs and outputs lie, where that is not what the module's kind tells."""
    said: str | None = getattr(module, _AXES, None)
    return said


def axes_taken(module: Any, dims: int) -> str | Order | None:
    """The same of what it takes: the very order, where one is known for so many axes."""
    return _axes_of(module, 0, dims)


def axes_given(module: Any, dims: int) -> str | Order | None:
    """The same of what it gives."""
    return _axes_of(module, 1, dims)


def _axes_of(module: Any, end: int, dims: int) -> str | Order | None:
    order: Order | None = getattr(module, _ORDERS, (None, None))[end]
    return order if order is not None and len(order) == dims else axes(module)


def is_laid(module: Any) -> bool:
    """Whether it is known exactly how its tensors lie, and so that the port has it as well."""
    return hasattr(module, _ORDERS)


def is_function(module: Any) -> bool:
    """Whether it is a function that no port has as a layer."""
    return getattr(module, _BLOCK, False) is None


def is_block(module: Any) -> bool:
    """Whether it is a block of layers that a port has as well."""
    return bool(getattr(module, _BLOCK, False)) or is_laid(module)


def by_first(module: Any) -> bool:
    """Whether it gives several tensors, of which the first counts."""
    return bool(getattr(module, _SEVERAL, False))


def calls_its_child(module: Any) -> bool:
    """Whether an only child is called as any layer is, and so heard for itself."""
    return bool(getattr(module, _CALLS, False))


def is_inside(module: Any) -> bool:
    """Whether it is the end of a layer that is compared as a whole, and so is not fed alone."""
    return bool(getattr(module, _INSIDE, False))


def mixture(module: Any) -> tuple[torch.nn.Module, torch.nn.Module] | None:
    """What gives a list of layers by ``extract_features``, and what their mixture goes into."""
    found: tuple[torch.nn.Module, torch.nn.Module] | None = getattr(module, _MIXTURE, None)
    return found


def mark_axes(axes: str, *modules: Any) -> None:
    for one in modules:
        setattr(one, _AXES, axes)


def lay(module: torch.nn.Module, orders: Mapping[str, tuple[Order | None, Order | None]]) -> None:
    """Says by path where modules have their axes, and that the port has these modules as well.

    Each has the order in which MLX has the axes of its first input, and that of its outputs; None
    where the module's kind tells it. The path "" is the whole, whose outputs are then laid so.
    """
    for path, order in orders.items():
        setattr(module.get_submodule(path), _ORDERS, order)


def lay_kinds(
    module: torch.nn.Module, orders: Mapping[str, tuple[Order | None, Order | None]]
) -> None:
    """The same of all modules in it whose class has that name."""
    for path, one in module.named_modules():
        if path and type(one).__name__ in orders:
            setattr(one, _ORDERS, orders[type(one).__name__])


def hear_by_first(*modules: Any) -> None:
    """Of the several tensors that these blocks give, the first is compared."""
    for one in modules:
        setattr(one, _SEVERAL, True)


def mark_inside(*modules: Any) -> None:
    for one in modules:
        setattr(one, _INSIDE, True)


def mark_function(*modules: Any) -> None:
    """Says that these modules are functions: no port has them as layers."""
    for one in modules:
        setattr(one, _BLOCK, None)


def mark(module: torch.nn.Module, written_in: str = "torchaudio.") -> None:
    """Marks all modules in it that this package wrote: torchaudio, or who copied from it."""
    for one in module.modules():
        name, own = type(one).__name__, type(one).__module__.startswith(written_in)
        if not own and name != "MultiheadAttention":
            continue
        if name in _GIVE_SEVERAL:
            hear_by_first(one)
        setattr(one, _BLOCK, name in _BLOCKS)
        if name in _ATTENTIONS:
            mark_inside(*(x for path, x in one.named_modules() if path.endswith("out_proj")))
        if name in _TURN_BACK:
            mark_axes(AS_MLX, one)
        if name in _TURN_AWAY:
            mark_axes(CHANNELS_FIRST, one)
        if name in _CALL_THEIR_CHILD:
            setattr(one, _CALLS, True)
        if (gates := getattr(one, "gru_rel_pos_linear", None)) is not None:
            mark_axes(AS_MLX, gates)  # heads stand before frames, and there are no channels
        if name == "ConformerLayer" and hasattr(one, "conv_module"):
            _time_first(one)
    if hasattr(module, "wav2vec_weights") and hasattr(module, "wav2vec"):
        behind: Any = getattr(module, "conformer", getattr(module, "lstm", None))
        first = behind if not hasattr(behind, "__getitem__") else behind[0]
        setattr(module, _MIXTURE, (module.wav2vec, first))


def _time_first(layer: Any) -> None:
    """torchaudio's Conformer has time in front of the batch, but for its convolutions."""
    inside = set(layer.conv_module.modules())
    mark_axes(TIME_FIRST, *(one for one in layer.modules() if one not in inside))
