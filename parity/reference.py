"""PyTorch's side: the original's own module, in float32 as people run it and in float64 as truth.

Only this module of the harness, listening.py, insides.py and modules.py know torch, and only once
something is asked of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import ml_dtypes
import numpy as np

from samevoice.converters.convert import Part
from samevoice.converters.reading.stand_ins import decode
from samevoice.converters.transforms import cast
from samevoice.errors import MissingExtraError
from samevoice.parity import hints
from samevoice.parity.inputs import OUTPUT, Example, Recording
from samevoice.parity.listening import Listener, ReferenceError, Seams, names_of_part, seams_of
from samevoice.parity.metrics import Array, rms, root_mean_square

if TYPE_CHECKING:
    import torch

FAR = 0.05  # of its size: no noise in float32 is that large
Precision: TypeAlias = Literal["float32", "float64"]


class Reference:
    """A torch module, its double in float64, and the taps of both."""

    def __init__(self, module: torch.nn.Module, seams: Seams) -> None:
        self.module, self.seams = module.eval(), seams

    @classmethod
    def load(cls, part: Part) -> Reference:
        """pyannote's module with the weights of a located checkpoint."""
        module = load(part)
        return cls(module, seams_of(module, names_of_part(part)))

    @cached_property
    def double(self) -> torch.nn.Module:
        return deepcopy(self.module).double()

    @cached_property
    def _channels_last(self) -> torch.nn.Module:
        import torch

        copy = deepcopy(self.module)
        copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return copy

    def run(self, example: Example, precision: Precision = "float32") -> Array:
        """The output alone, nobody listening."""
        return self.outputs(example, precision)[OUTPUT]

    def outputs(
        self,
        example: Example,
        precision: Precision = "float32",
        module: torch.nn.Module | None = None,
    ) -> dict[str, Array]:
        """The same where there may be several."""
        module = module or self._module(precision)
        with self._running(precision):
            return self.seams.final_outputs(module, _called(module, example, precision))

    def record(
        self,
        example: Example,
        precision: Precision = "float32",
        fed: Mapping[str, Array] | None = None,
        module: torch.nn.Module | None = None,
    ) -> Recording:
        """Every tap; with ``fed`` each layer named there takes the input given for it."""
        module = module or self._module(precision)
        listener = Listener(module, self.seams, fed, sound=example.arguments is None)
        with self._running(precision), listener.listening() as seen:
            _called(module, example, precision)
        return seen

    def heard(
        self,
        example: Example,
        precision: Precision = "float32",
        module: torch.nn.Module | None = None,
        *,
        deep: bool,
    ) -> Recording:
        """Every tap, or where that is not ``deep`` the output alone."""
        if deep:
            return self.record(example, precision, module=module)
        return Recording(outputs=self.outputs(example, precision, module))

    def floors(self, example: Example, *, deep: bool) -> dict[str, dict[str, Array]]:
        """What each of the other evaluations gives, by tap."""
        return {name: one.outputs for name, one in self.evaluations(example, deep=deep)}

    def evaluations(
        self, example: Example, *, deep: bool = True
    ) -> Iterator[tuple[str, Recording]]:
        """The same network in float32 in other ways, all of them as valid: PyTorch's own noise."""
        import torch

        threads = torch.get_num_threads()
        other = 1 if threads > 1 else 2
        with _threads(other):
            whole = self.heard(example, deep=deep)
        yield f"{other} threads", whole
        if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            with without_onednn():
                yield "without oneDNN", self.heard(example, deep=deep)
        if any(isinstance(one, torch.nn.Conv2d) for one in self.module.modules()):
            yield "channels last", self.heard(example, module=self._channels_last, deep=deep)
        if example.count > 1 and not hints.hears_neighbours(self.module):
            yield "one by one", self._one_by_one(example, whole, deep)

    def _module(self, precision: Precision) -> torch.nn.Module:
        return self.module if precision == "float32" else self.double

    def _one_by_one(self, example: Example, whole: Recording, deep: bool) -> Recording:
        """Those taps that the batch has together; who cuts voices out hears them one by one.

        Where that is another result, and no noise, the items hear each other.
        """
        alone = [self.heard(example.item(k), deep=deep) for k in range(example.count)]
        found = {}
        for tap, together in whole.outputs.items():
            if not together.ndim:
                continue
            parts = [one.outputs[tap] for one in alone if tap in one.outputs]
            rows = sum(len(one) for one in parts)
            if {(rows, *one.shape[1:]) for one in parts} == {together.shape}:
                apart = np.concatenate(parts)
                if rms(together, apart) <= FAR * root_mean_square(together):
                    found[tap] = apart
        return Recording(outputs=found)

    @contextmanager
    def _running(self, precision: Precision) -> Iterator[None]:
        import torch

        # An LSTM in float64 is thousands of small products: threads only wait for each other.
        alone = precision == "float64" and self.seams.lstms
        with _arithmetic(precision), _threads(1 if alone else torch.get_num_threads()):
            yield


def _called(module: torch.nn.Module, example: Example, precision: Precision) -> Any:
    """What the module gives."""
    import torch

    def convert(x: Array) -> torch.Tensor:
        tensor = torch.from_numpy(np.array(x))
        return tensor.to(getattr(torch, precision)) if tensor.is_floating_point() else tensor

    return example.call(module, convert)


@contextmanager
def _arithmetic(precision: Precision) -> Iterator[None]:
    """What is made inside, such as a mel bank or a window, is made in this precision too."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, precision))
    try:
        with torch.inference_mode(), _doubled() if precision == "float64" else nullcontext():
            yield
    finally:
        torch.set_default_dtype(before)


def _doubled() -> AbstractContextManager[None]:
    """What a module casts to float32 itself, as by ``x.float()``, stays in float64."""
    import torch
    from torch.overrides import TorchFunctionMode

    def double(one: Any) -> Any:
        return torch.float64 if one is torch.float32 else one

    class Doubled(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if function is torch.Tensor.float:
                return args[0].double()
            named = {name: double(one) for name, one in (kwargs or {}).items()}
            return function(*map(double, args), **named)

    return Doubled()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def without_onednn() -> Iterator[None]:
    """As on machines that have none: ARM builds, old processors."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about Intel GPUs
        with torch.backends.mkldnn.flags(enabled=False):
            yield


# Loading ------------------------------------------------------------------------------------------


def load(part: Part) -> torch.nn.Module:
    """The module of a checkpoint that the converter has read, and so found harmless.

    pyannote's own loader takes checkpoints of its own classes. Any other goes into its authors'
    class as the converter's config describes it. Either way every tensor is compared bit for bit.
    """
    try:
        module = _as_pyannote_loads(part) if _is_pyannotes(part) else _built(part)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{error.name}, which runs the reference,", "parity") from error
    _check_weights(module, part)
    hints.mark(module)
    return module.eval()


def _is_pyannotes(part: Part) -> bool:
    single = len(part.source.files) == 1
    loaded = part.checkpoint
    if not single or loaded.container != "state_dict" or "pyannote.audio" not in loaded.entries:
        return False
    if isinstance(decode(loaded.beside.get("hyper_parameters", {})).get("wav2vec"), str):
        return False  # pyannote would download that network, to put the checkpoint's in its place
    said = decode(loaded.beside["pyannote.audio"])
    return str(said["architecture"]["module"]).startswith("pyannote.audio.")


def _as_pyannote_loads(part: Part) -> torch.nn.Module:
    from samevoice.converters.reference import import_pyannote

    pyannote = import_pyannote()
    path = part.source.root / part.source.files[0]
    # Not strict: a checkpoint may hold the weights of its training loss. What counts is compared.
    module: torch.nn.Module | None = pyannote.Model.from_pretrained(path, strict=False)
    if module is None:
        raise ReferenceError(f"pyannote.audio cannot load {path}")
    return module


def _built(part: Part) -> torch.nn.Module:
    """The authors' class from the converter's config, filled strictly."""
    import torch

    module: torch.nn.Module = part.family.build_original(part.config)
    held = module.state_dict()
    state = {
        name: torch.from_numpy(_known_to_torch(np.array(tensor.load())))
        for name, tensor in part.plan.sources.items()
        if name not in part.plan.dropped or (name in held and "num_batches" not in name)
    }
    counters = {name: value for name, value in held.items() if "num_batches" in name}
    try:
        module.load_state_dict({**counters, **state}, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ReferenceError(f"the original does not take this checkpoint: {reason}") from None
    return module


def _known_to_torch(array: Array) -> Array:
    """torch takes no bfloat16 from numpy: widened, the numbers are the same."""
    return cast(array, "float32") if array.dtype == ml_dtypes.bfloat16 else array


def _check_weights(module: torch.nn.Module, part: Part) -> None:
    """Every tensor that the rules use, in the module as in the checkpoint, to the last bit."""
    held = _by_older_names(module.state_dict())
    for name, tensor in part.plan.sources.items():
        if name in part.plan.dropped:
            continue
        if name not in held:
            raise ReferenceError(f"the reference has no tensor {name!r}, but the checkpoint does")
        if not np.array_equal(held[name].numpy(), np.asarray(tensor.load()), equal_nan=True):
            raise ReferenceError(f"the reference holds another {name!r} than the checkpoint")


def _by_older_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """With the names too that older versions of torch gave a weight's norm and direction."""
    older = {"parametrizations.weight.original0": "weight_g"}
    older |= {"parametrizations.weight.original1": "weight_v"}
    found = dict(state)
    for new, old in older.items():
        found |= {n.removesuffix(new) + old: x for n, x in state.items() if n.endswith(new)}
    return found
