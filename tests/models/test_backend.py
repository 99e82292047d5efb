from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from samevoice.errors import SamevoiceError
from samevoice.models import backend, registry


def python(code: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


EVERYTHING = "import samevoice.models, samevoice.models.registry, sys; "


def test_models_import_neither_torch_nor_pyannote() -> None:
    code = EVERYTHING + "print([m for m in sys.modules if m.split('.')[0] in"
    assert python(code + " ('torch', 'pyannote', 'torchaudio', 'scipy')])") == "[]"


BLAS = "from samevoice.models import backend; print(backend.BLAS); import mlx.core as mx; "


@pytest.mark.skipif(sys.platform != "linux", reason="other systems bring their own BLAS")
def test_blas_can_be_chosen() -> None:
    assert python(BLAS, SAMEVOICE_BLAS="none") == backend.OWN
    assert "cannot be loaded" in python(BLAS, SAMEVOICE_BLAS="/nowhere/libblas.so")
    assert "before samevoice" in python("import mlx.core; " + BLAS) or backend.BLAS == backend.OWN


def test_results_do_not_hang_on_the_blas() -> None:
    code = BLAS + "mx.random.seed(0); print((mx.random.normal((64, 64)) @ mx.ones(64))[3].item())"
    ours = float(python(code).splitlines()[-1])
    plain = float(python(code, SAMEVOICE_BLAS="none").splitlines()[-1])
    assert ours == pytest.approx(plain, abs=1e-4)


def test_device_choice(monkeypatch: Any) -> None:
    assert backend.device("cpu") == mx.Device(mx.cpu)
    monkeypatch.setattr(mx, "is_available", lambda _: False)
    assert backend.device("auto") == mx.Device(mx.cpu)
    assert backend.device_name(mx.Device(mx.cpu)) == "CPU"
    with pytest.raises(ValueError, match="neither Metal nor CUDA"):
        backend.device("gpu")
    with pytest.raises(ValueError, match="choose"):
        backend.device("tpu")  # type: ignore[arg-type]


def test_a_gpu_that_is_not_here_is_one_sentence() -> None:
    import mlx.core as mx

    if mx.is_available(mx.Device(mx.gpu)):
        pytest.skip("this machine has a GPU")
    with pytest.raises(SamevoiceError, match="sees neither Metal nor CUDA"):
        registry.load("anywhere", device="gpu")


@pytest.mark.parametrize(("code", "found"), [(0, True), (2, False)])
def test_a_macs_compiler_is_there_with_apples_tools(
    code: int, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its g++ alone only asks for them."""
    for name, script in (("g++", "exit 1"), ("xcode-select", f"exit {code}")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert backend.has_compiler() is found


def test_a_mac_brings_its_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(backend, "_load", lambda _: pytest.fail("nothing is put beneath MLX"))
    assert backend.load_blas() == "Accelerate"
