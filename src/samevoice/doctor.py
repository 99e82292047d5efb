"""What is installed on this machine, and for each thing missing the command that fixes it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal
from urllib.parse import urlsplit

from samevoice.family import find
from samevoice.versions import named

State = Literal["good", "missing", "broken"]


@dataclass(frozen=True)
class Check:
    name: str
    state: State
    found: str
    mend: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> tuple[Check, ...]:
    """Every check, in the order in which things depend on each other."""
    here = f"{named()}, Python {platform.python_version()}, {platform.system()} "
    return (
        Check("samevoice", "good", here + platform.machine()),
        *(_package(*package) for package in _PACKAGES),
        *(_guarded(name, check) for name, check in _CHECKS.items()),
        *_families(),
    )


_PACKAGES = (
    ("mlx", "runs the models", ""),
    ("numpy", "", ""),
    ("scipy", "clusters voices and resamples recordings", ""),
    ("fastcluster", "clusters long recordings by linkages other than centroid", ""),
    ("soundfile", "reads recordings", ""),
    ("safetensors", "", ""),
    ("huggingface-hub", "", ""),
    ("torch", "runs the originals that ports are compared with", "parity"),
    ("pyannote.audio", "builds the reference checkpoints and runs the originals", "parity"),
    ("pyannote.metrics", "scores diarizations against references", "evaluate"),
    ("pyannote.database", "reads corpora by their database.yml", "evaluate"),
)


def _package(name: str, need: str, extra: str) -> Check:
    try:
        return Check(name, "good", version(name))
    except PackageNotFoundError:
        wanted = f"samevoice[{extra}]" if extra else "samevoice"
        said = f"not installed{f': {need}' if need else ''}"
        return Check(name, "missing" if extra else "broken", said, f"pip install '{wanted}'")


def _families() -> Iterator[Check]:
    """The models by the package that brings them, then the plug-ins that cannot be loaded."""
    found = find()
    for package in dict.fromkeys(family.package for family in found.families):
        names = [x for one in found.families if one.package == package for x in one.architectures]
        yield Check(f"models of {package}", "good", ", ".join(names))
    for one in found.broken:
        yield Check(f"models of {one.package}", "broken", str(one), f"pip uninstall {one.package}")


# What a check found, and unless all is good the state and the command that fixes it.
Finding = str | tuple[State, str, str]


def _device() -> Finding:
    from samevoice.models.backend import device, device_name

    name = device_name(device("auto"))
    if name == "CPU" and sys.platform.startswith("linux") and shutil.which("nvidia-smi"):
        return "missing", "CPU, although there is an NVIDIA GPU", "pip install 'samevoice[cuda]'"
    return name


def _blas() -> Finding:
    from samevoice.models.backend import BLAS, OWN

    if BLAS.startswith(OWN):
        fix = "apt install libopenblas0, or pip install 'samevoice[parity]'"
        return "missing", f"{BLAS}, slow", fix
    return BLAS


def _tf32() -> Finding:
    return os.environ.get("MLX_ENABLE_TF32", "unset: MLX's default, which rounds on GPUs that can")


def _compiler() -> Finding:
    from samevoice.models.backend import has_compiler

    if has_compiler():
        return str(shutil.which("g++") or shutil.which("clang++"))
    fix = "xcode-select --install" if sys.platform == "darwin" else "apt install g++"
    return "missing", "none: mx.compile runs unfused on the CPU", fix


def _ffmpeg() -> Finding:
    fix = "brew install ffmpeg" if sys.platform == "darwin" else "apt install ffmpeg"
    return shutil.which("ffmpeg") or ("missing", "none: no M4A, AAC, WebM or video", fix)


def _token() -> Finding:
    """Whether the hub's client finds a token; nothing else is done with it."""
    from huggingface_hub import constants, get_token

    # Without the user and password that a URL may hold.
    hub = urlsplit(constants.ENDPOINT).netloc.rpartition("@")[2]
    if get_token() is not None:
        return f"set, for {hub}"
    fix = "make one at https://huggingface.co/settings/tokens, then: hf auth login"
    return "missing", f"none for {hub}: gated models cannot be fetched", fix


def _cache() -> Finding:
    from samevoice.files import cache_folder

    folder = cache_folder()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if there.is_dir() and os.access(there, os.W_OK):
        return str(folder)
    return "broken", f"{folder} cannot be written", "set SAMEVOICE_CACHE"


_CHECKS: dict[str, Callable[[], Finding]] = {
    "device": _device,
    "BLAS": _blas,
    "MLX_ENABLE_TF32": _tf32,
    "C++ compiler": _compiler,
    "ffmpeg": _ffmpeg,
    "hub token": _token,
    "cache": _cache,
}


def _guarded(name: str, check: Callable[[], Finding]) -> Check:
    """A check that fails is a finding of its own."""
    try:
        found = check()
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        found = "broken", said, "pip install --force-reinstall samevoice"
    return Check(name, "good", found) if isinstance(found, str) else Check(name, *found)
