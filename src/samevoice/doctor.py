"""What this machine offers, and for each thing missing the command that mends it."""

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

from samevoice import __version__
from samevoice.family import find

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
    packages = (_package(name, need, extra) for name, need, extra in _PACKAGES)
    checks = (_guarded(name, check) for name, check in _CHECKS)
    return (_samevoice(), *packages, *checks, *_families())


_PACKAGES = (
    ("mlx", "runs the models", ""),
    ("numpy", "", ""),
    ("scipy", "clusters voices and resamples recordings", ""),
    ("fastcluster", "clusters the voices of long recordings", ""),
    ("soundfile", "reads recordings", ""),
    ("safetensors", "", ""),
    ("huggingface-hub", "", ""),
    ("torch", "reads PyTorch checkpoints", "convert"),
    ("pyannote.audio", "builds the reference checkpoints, is compared against", "parity"),
)


def _samevoice() -> Check:
    system = f"{platform.system()} {platform.machine()}"
    return Check(
        "samevoice", "good", f"{__version__}, Python {platform.python_version()}, {system}"
    )


def _package(name: str, need: str, extra: str) -> Check:
    try:
        return Check(name, "good", version(name))
    except PackageNotFoundError:
        wanted = f"samevoice[{extra}]" if extra else "samevoice"
        said = f"not installed{f': {need}' if need else ''}"
        return Check(name, "missing" if extra else "broken", said, f"pip install '{wanted}'")


def _families() -> Iterator[Check]:
    """The models that are known, by the package that brings them; then the plug-ins that fail."""
    found = find()
    for package in dict.fromkeys(family.package for family in found.families):
        names = [x for one in found.families if one.package == package for x in one.architectures]
        yield Check(f"models of {package}", "good", ", ".join(names))
    for one in found.broken:
        yield Check(f"models of {one.package}", "broken", str(one), f"pip uninstall {one.package}")


def _device() -> Check:
    from samevoice.models.backend import device, device_name

    chosen = device("auto")
    name = device_name(chosen)
    if name == "CPU" and sys.platform.startswith("linux") and shutil.which("nvidia-smi"):
        return Check(
            "device",
            "missing",
            "CPU, though an NVIDIA GPU is here",
            "pip install 'samevoice[cuda]'",
        )
    return Check("device", "good", name)


def _blas() -> Check:
    from samevoice.models.backend import BLAS, OWN

    if BLAS.startswith(OWN):
        return Check(
            "BLAS",
            "missing",
            f"{BLAS}, slow",
            "apt install libopenblas0, or pip install 'samevoice[convert]'",
        )
    return Check("BLAS", "good", BLAS)


def _tf32() -> Check:
    state = os.environ.get("MLX_ENABLE_TF32", "unset: MLX's default, which rounds on GPUs that can")
    return Check("MLX_ENABLE_TF32", "good", state)


def _compiler() -> Check:
    from samevoice.models.backend import has_compiler

    if has_compiler():
        return Check("C++ compiler", "good", str(shutil.which("g++") or shutil.which("clang++")))
    mend = "xcode-select --install" if sys.platform == "darwin" else "apt install g++"
    return Check("C++ compiler", "missing", "none: mx.compile runs unfused on the CPU", mend)


def _ffmpeg() -> Check:
    if found := shutil.which("ffmpeg"):
        return Check("ffmpeg", "good", found)
    mend = "brew install ffmpeg" if sys.platform == "darwin" else "apt install ffmpeg"
    return Check("ffmpeg", "missing", "none: no M4A, AAC, WebM and video", mend)


def _token() -> Check:
    """Whether the hub's client finds a token; its value is never looked at further."""
    from huggingface_hub import constants, get_token

    # Without the user and password that a URL may hold.
    hub = urlsplit(constants.ENDPOINT).netloc.rpartition("@")[2]
    if get_token() is None:
        return Check(
            "hub token",
            "missing",
            f"none for {hub}: gated models cannot be fetched",
            "make one at https://huggingface.co/settings/tokens, then: hf auth login",
        )
    return Check("hub token", "good", f"set, for {hub}")


def _cache() -> Check:
    from samevoice.converters.reference import cache_folder

    folder = cache_folder()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        return Check("cache", "broken", f"{folder} cannot be written", "set SAMEVOICE_CACHE")
    return Check("cache", "good", str(folder))


_CHECKS: tuple[tuple[str, Callable[[], Check]], ...] = (
    ("device", _device),
    ("BLAS", _blas),
    ("MLX_ENABLE_TF32", _tf32),
    ("C++ compiler", _compiler),
    ("ffmpeg", _ffmpeg),
    ("hub token", _token),
    ("cache", _cache),
)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """The doctor must see what is broken, not break on it."""
    try:
        return check()
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        return Check(name, "broken", said, "pip install --force-reinstall samevoice")
