"""What a bundle and its source are, so that a result says exactly what was compared with what."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import samevoice
from samevoice import family
from samevoice.converters import bundle as bundles
from samevoice.converters import convert
from samevoice.converters.reading.sources import Source
from samevoice.converters.recognise import SeveralFamiliesError
from samevoice.errors import SamevoiceError
from samevoice.models import backend
from samevoice.parity import roles
from samevoice.parity.bounds import Override
from samevoice.parity.inputs import Example
from samevoice.parity.limits import coarsest
from samevoice.parity.result import Artefact

TF32 = "MLX_ENABLE_TF32"


class ParityError(SamevoiceError):
    """Bundle and source cannot be compared."""


class OnDevice(Protocol):
    """A network or a pipeline that says what it runs on."""

    @property
    def device_name(self) -> str: ...


def part_of(
    folder: Path, model_type: str, source: str | Path, revision: str | None
) -> convert.Part:
    """The part of the source that the bundle says it was made from, to the hash."""
    prepare = partial(convert.prepare, source, options=convert.Options(), revision=revision)
    try:
        planned = prepare(model_type="auto")
    except SeveralFamiliesError:
        config = bundles.read_json(folder / bundles.CONFIG)
        planned = prepare(model_type=str(config.get("architecture")))
    fitting = [one for one in planned.parts if one.family.role == model_type]
    if not fitting:
        raise ParityError(
            f"{source} holds no {model_type}, which {folder} is: name the source it was made from"
        )
    said = bundles.read_json(folder / bundles.PROVENANCE)["sources"][model_type]["sha256"]
    if convert.fingerprint(fitting[0].source_hashes) != said:
        raise ParityError(
            f"{folder} was made from another source than {source} (sha256 {said[:12]}...): "
            "name that one, or convert again"
        )
    return fitting[0]


def check_settings(config: Mapping[str, Any], source: Mapping[str, Any], folder: Path) -> None:
    """What a bundle is told must be what its source says, also where no tap would show it."""
    for name, value in source.items():
        if name != "assumed" and config.get(name) != value:
            raise ParityError(
                f"config.json of {folder} says {name} {config.get(name)!r}, its source {value!r}: "
                "convert again"
            )


def strict_float32() -> None:
    """MLX rounds factors to TF32 on GPUs unless told otherwise, before its first product."""
    os.environ.setdefault(TF32, "0")


def fingerprint(folder: Path) -> str:
    """One hash for a bundle: over every file's, but no card's and no provenance's.

    These two may be written anew without a weight being touched, and what a release puts into
    ``parity/`` comes later.
    """
    hashes = bundles.file_hashes(folder)
    parts = bundles.components(bundles.read_json(folder / bundles.CONFIG))
    kept = {name: digest for name, digest in hashes.items() if not _is_beside(name, parts)}
    lines = sorted(f"{digest}  {name}\n" for name, digest in kept.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _is_beside(name: str, parts: Collection[str]) -> bool:
    """A card or a provenance, of the bundle or of one of its parts; or a release's proof."""
    first, _, rest = name.partition("/")
    own = rest if first in parts else name
    return first == bundles.PARITY or own in (bundles.CARD, bundles.PROVENANCE)


def source_of(folder: Path) -> str:
    """The hash of what a bundle was made from, as a result of it must name it."""
    provenance = folder / bundles.PROVENANCE
    with bundles.understood(provenance, ParityError):
        said = bundles.read_json(provenance)
        sources, kind = said["sources"], said["model_type"]
        parts = sources.keys() - {kind}
        if not parts:
            return str(sources[kind]["sha256"])
        files = dict(sources[kind]["files"])
        for part in parts:
            files |= {f"{part}/{name}": x for name, x in sources[part]["files"].items()}
        return convert.fingerprint(files)


def dtype_of(config: Mapping[str, Any]) -> str:
    """The name by which limits know a bundle's precision: of mixed ones the coarsest."""
    quantization, widened = config.get("quantization"), config.get("dtypes", {})
    found = {str(config.get("dtype", "float32")), *widened.values()}
    if quantization and not widened and not any(map(_is_own, quantization.values())):
        return f"q{quantization['bits']}"  # linear layers alone
    return coarsest(found | ({f"mixed-{quantization['bits']}"} if quantization else set()))


def _is_own(entry: object) -> bool:
    """Whether it is of one layer."""
    return isinstance(entry, Mapping)


def dtype_of_pipeline(folder: Path) -> str:
    """The coarsest precision of its networks."""
    parts = bundles.components(bundles.read_json(folder / bundles.CONFIG))
    configs = (bundles.read_json(folder / part / bundles.CONFIG) for part in parts)
    return coarsest(dtype_of(x) for x in configs if not family.named(x["architecture"]).is_data)


def device_of(candidate: OnDevice) -> str:
    """The name by which limits know a device: on a GPU, products may be TF32."""
    name = candidate.device_name.lower()
    return f"{name}-tf32" if is_tf32(name) else name


def is_tf32(device_name: str) -> bool:
    """Whether products on this device are rounded to TF32."""
    return device_name.lower() != "cpu" and os.environ.get(TF32) != "0"


def versions() -> dict[str, str]:
    """All that can change a figure."""
    return {
        "samevoice": samevoice.__version__,
        **convert.versions(),
        "platform": f"{platform.system()} {platform.machine()}",
        "blas": backend.BLAS,
        TF32: os.environ.get(TF32, "unset"),
    }


def command_of(
    folder: Path,
    source: str | Path,
    inputs: str | Sequence[Example],
    audio: Sequence[str | Path],
    device: str,
    overrides: Iterable[Override] = (),
) -> tuple[str, ...]:
    """The command line that repeats the comparison."""
    places = [(f"{one.tap}:" if one.tap else "", one) for one in overrides]
    limits = [word for tap, x in places for word in ("--limit", f"{tap}{x.metric}={x.bound:g}")]
    given = [word for path in audio for word in ("--audio", str(path))]
    some = ["--inputs", inputs] if isinstance(inputs, str) and inputs != roles.QUICK else []
    where = ["--device", device] if device != "auto" else []
    named = ("samevoice", "parity", str(folder), "--source", str(source))
    return (*named, *some, *given, *where, *limits)


def artefact_of(source: Source, files: Mapping[str, str], note: str) -> Artefact:
    """A source by the hash of its files."""
    notes = {"name": source.name, "kind": source.kind}
    notes |= {"revision": source.revision} if source.revision else {}
    notes |= {"note": note} if note else {}
    return Artefact(convert.fingerprint(files), notes)
