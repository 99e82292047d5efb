"""pyannote.audio's own WeSpeaker ResNets."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

from samevoice.converters.reference import import_pyannote
from samevoice.parity.listening import ReferenceError

if TYPE_CHECKING:
    import torch


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    import_pyannote()
    from pyannote.audio.models.embedding import wespeaker

    kind = getattr(wespeaker, config["architecture"])
    taken = {name: config[name] for name in signature(kind).parameters if name in config}
    module: torch.nn.Module = kind(**taken)
    held = dict(getattr(module, "hparams"))  # noqa: B009  (lightning's, unknown to torch's types)
    for name in ("round_to_power_of_two", "snip_edges", "fbank_centering_span"):
        if held.get(name) != config[name]:
            raise ReferenceError(
                f"{config['architecture']} of pyannote.audio cannot be built with "
                f"{name}={config[name]!r}: compare with a checkpoint that pyannote saved"
            )
    return module
