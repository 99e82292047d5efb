"""The port's side: a bundle's network in MLX, as people run it, and with every layer seen.

Nothing here knows torch. ``Candidate(network)`` takes a network from anywhere, so that a mutant can
be run as a bundle is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from samevoice.models import backend  # isort: split

import ml_dtypes
import mlx.core as mx
import numpy as np

from samevoice.errors import told
from samevoice.models import registry
from samevoice.models.layers import named_arrays, taps
from samevoice.models.layers.fbank import Fbank
from samevoice.models.layers.pooling import StatsPool
from samevoice.models.network import Network
from samevoice.parity.inputs import Example, Recording, into
from samevoice.parity.metrics import Array


class Candidate:
    """A network on one device."""

    paths: Collection[str] = ()  # under which a module with several is heard

    def __init__(self, network: Network, device: backend.Choice = "auto") -> None:
        self.network = network
        self.device = backend.device(device)

    @classmethod
    def load(cls, bundle: str | Path, device: backend.Choice = "auto") -> Candidate:
        with backend.using(backend.device(device)):
            return cls(registry.load(bundle), device)

    @property
    def takes_features(self) -> bool:
        return hasattr(self.network, "compute_fbank")

    @property
    def device_name(self) -> str:
        """``CPU``, ``Metal`` or ``CUDA``."""
        return backend.device_name(self.device)

    def try_run(self, example: Example) -> tuple[dict[str, Array], str]:
        """All that it gives in the forms that people run, or why it broke off."""
        return self._tried(lambda: self._called(example))

    def try_features(self, example: Example) -> tuple[dict[str, Array], str]:
        """An embedding's output from filterbank features, or why there is none."""
        network: Any = self.network

        def called() -> Any:
            features = network.compute_fbank(mx.array(example.waveforms))
            masks = () if example.masks is None else (mx.array(example.masks),)
            return network(features, *masks)

        return self._tried(called)

    def _tried(self, call: Callable[[], Any]) -> tuple[dict[str, Array], str]:
        with backend.using(self.device):
            try:
                return {name: as_numpy(x) for name, x in taps.outputs_of(call())}, ""
            except Exception as error:
                return {}, told(error, type(self.network).__module__)

    def _called(self, example: Example) -> Any:
        return example.call(self.network, lambda x: mx.array(np.asarray(x)), port=True)

    def record(
        self,
        example: Example,
        fed: Mapping[str, Array] | None = None,
        only: Collection[str] | None = None,
    ) -> Recording:
        """Every tap, or ``only`` some; with ``fed`` each layer there takes the input given for it.

        A network that breaks off half-way leaves what it gave until then, and why it did.
        """
        seen = Recording()
        forced = {name: mx.array(x) for name, x in (fed or {}).items()}
        listening = taps.listen(self.network, forced, paths=self.paths)
        with backend.using(self.device), listening as heard:
            try:
                self._called(example)
            except Exception as error:
                seen.error = told(error, type(self.network).__module__)
            inputs, outputs = heard.inputs, heard.outputs
            if only is not None:
                inputs = {name: x for name, x in inputs.items() if into(name) in only}
                outputs = {name: x for name, x in outputs.items() if name in only}
            seen.inputs.update(_evaluated(inputs, seen))
            seen.outputs.update(_evaluated(outputs, seen))
        return seen

    def is_layer(self, tap: str) -> bool:
        """Whether the original must have this tap: what only holds other layers need not be there.

        A layer has weights of its own, or is a pooling or a filterbank.
        """
        return taps.path_of(tap) in self._layers

    @cached_property
    def _layers(self) -> frozenset[str]:
        modules: dict[str, Any] = dict(self.network.named_modules())  # type: ignore[no-untyped-call]
        plain = {path for path, one in modules.items() if isinstance(one, StatsPool | Fbank)}
        return frozenset(plain | {name.rpartition(".")[0] for name in named_arrays(self.network)})

    def weights(self, tap: str) -> dict[str, Array]:
        """The parameters below a tap's path."""
        named = named_arrays(self.network).items()
        below = f"{taps.path_of(tap)}."
        return {name: as_numpy(x) for name, x in named if name.startswith(below)}


def _evaluated(lazy: dict[str, mx.array], seen: Recording) -> Iterator[tuple[str, Array]]:
    """Each array on the host, and let go of; one that cannot be computed is an error of the run."""
    for name in list(lazy):
        try:
            yield name, as_numpy(lazy.pop(name))
        except (RuntimeError, ValueError) as error:
            seen.error = seen.error or told(error)


def as_numpy(x: mx.array) -> Array:
    """The same values and type on the host; numpy knows bfloat16 only through ml_dtypes."""
    if x.dtype == mx.bfloat16:
        return np.array(x.view(mx.uint16)).view(ml_dtypes.bfloat16)
    return np.array(x)
