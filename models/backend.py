"""What the networks run on: the BLAS beneath MLX, the device, the compiler for CPU kernels."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from samevoice.errors import SamevoiceError

if TYPE_CHECKING:
    import mlx.core as mx

Choice = Literal["auto", "gpu", "cpu"]


class DeviceError(SamevoiceError, ValueError):
    """A device that is not here."""


OWN = "MLX's own (reference BLAS)"
SYSTEM = ("libopenblas.so.0", "libopenblas.so", "libmkl_rt.so.2", "libmkl_rt.so.1", "libmkl_rt.so")


def load_blas() -> str:
    """Put a fast BLAS beneath MLX's Linux CPU wheel; returns the name of what was taken.

    The wheel links the reference BLAS, some thirty times slower. The first library loaded with
    global symbols wins, so this must come before the first ``import mlx.core``. The environment
    variable SAMEVOICE_BLAS holds ``none`` or a library's path to overrule the choice.
    """
    if sys.platform == "darwin":
        return "Accelerate"
    wanted = os.environ.get("SAMEVOICE_BLAS", "")
    if wanted.lower() == "none" or not _is_linux_cpu_wheel():
        return OWN
    if "mlx.core" in sys.modules:
        return f"{OWN}: mlx was imported before samevoice"
    if wanted:
        return wanted if _load(wanted) else f"{OWN}: SAMEVOICE_BLAS={wanted} cannot be loaded"
    torch = _torch_library()
    if torch is not None and _load(str(torch)):
        return f"torch's {torch.name}"
    return next((name for name in SYSTEM if _load(name)), OWN)


def _is_linux_cpu_wheel() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        importlib.metadata.version("mlx-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _torch_library() -> Path | None:
    """torch's CPU library, found without importing torch (which would take seconds)."""
    spec = importlib.util.find_spec("torch")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        library = Path(folder) / "lib" / "libtorch_cpu.so"
        if library.is_file():
            return library
    return None


def _load(library: str) -> bool:
    try:
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def device(choice: Choice = "auto") -> mx.Device:
    """The MLX device for a choice: ``auto`` takes the GPU (Metal or CUDA) where there is one."""
    import mlx.core as mx

    has_gpu = mx.is_available(mx.Device(mx.gpu))
    if choice == "gpu" and not has_gpu:
        raise DeviceError("device 'gpu': this MLX sees neither Metal nor CUDA; use 'cpu' or 'auto'")
    if choice not in ("auto", "gpu", "cpu"):
        raise DeviceError(f"device {choice!r}: choose 'auto', 'gpu' or 'cpu'")
    return mx.Device(mx.gpu if has_gpu and choice != "cpu" else mx.cpu)


@contextmanager
def using(which: mx.Device) -> Iterator[None]:
    """This device as MLX's default, and afterwards the one that was."""
    import mlx.core as mx

    before = mx.default_device()
    mx.set_default_device(which)
    try:
        yield
    finally:
        mx.set_default_device(before)


def device_name(which: mx.Device) -> str:
    """``Metal``, ``CUDA`` or ``CPU``."""
    import mlx.core as mx

    if which == mx.Device(mx.cpu):
        return "CPU"
    return "Metal" if mx.metal.is_available() else "CUDA"


def on_cpu() -> bool:
    """Whether the next operation runs on the CPU, where other forms are fast than on a GPU."""
    import mlx.core as mx

    return mx.default_device() == mx.Device(mx.cpu)


def has_compiler() -> bool:
    """Whether ``mx.compile`` finds the g++ it needs on CPU; without it, it runs unfused."""
    if shutil.which("g++") is None or sys.platform != "darwin":
        return shutil.which("g++") is not None
    # A Mac has one that only asks for Apple's tools, until they are there.
    ask = subprocess.run(["xcode-select", "--print-path"], capture_output=True, check=False)
    return ask.returncode == 0


BLAS = load_blas()
