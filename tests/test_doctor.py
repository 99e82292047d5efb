"""What the doctor finds, and that for each thing missing it names the command that mends it."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from samevoice import cli, doctor
from samevoice.doctor import Check
from samevoice.models import backend

SECRET = "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"
NAMES = (
    "samevoice",
    "mlx",
    "numpy",
    "scipy",
    "fastcluster",
    "soundfile",
    "safetensors",
    "huggingface-hub",
    "torch",
    "pyannote.audio",
    "pyannote.metrics",
    "pyannote.database",
    "device",
    "BLAS",
    "MLX_ENABLE_TF32",
    "C++ compiler",
    "ffmpeg",
    "hub token",
    "cache",
    "models of samevoice",
)


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This machine's own login must not decide what is tested."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "ENDPOINT", "https://huggingface.co")


def found(name: str) -> Check:
    return next(check for check in doctor.examine() if check.name == name)


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["doctor", *words])
    assert not stopped.value.code
    said = capsys.readouterr()
    assert said.err == ""
    return str(said.out)


# --- what is printed ----------------------------------------------------------------------------


def test_every_check_is_a_line_and_every_mending_one_below(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = printed(capsys).splitlines()
    expected = []
    for check in doctor.examine():
        mark = {"good": "✓", "missing": "–", "broken": "✗"}[check.state]
        expected.append(f"{mark} {check.name:<18} {check.found}")
        expected += [f"{'':<21}→ {check.mend}"] * bool(check.mend)
    assert lines == expected


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(printed(capsys, "--json"))
    assert tuple(check["name"] for check in told) == NAMES
    assert told == [check.as_dict() for check in doctor.examine()]
    assert {frozenset(check) for check in told} == {frozenset(("name", "state", "found", "mend"))}


def test_a_check_is_good_or_has_a_remedy() -> None:
    for check in doctor.examine():
        assert (check.state == "good") == (not check.mend), check


def test_brackets_are_not_taken_for_colours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking(monkeypatch, "torch")
    assert "pip install 'samevoice[parity]'" in printed(capsys)


# --- the token ----------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("--json",), ("--debug",)])
@pytest.mark.parametrize("token", [SECRET, f"{SECRET}\nmore", f" {SECRET} \u00e9"])
def test_the_token_is_told_of_and_never_shown(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    words: tuple[str, ...],
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    said = printed(capsys, *words)
    assert "set, for huggingface.co" in said
    assert SECRET not in said


def test_a_stored_login_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "token").write_text(SECRET)
    assert found("hub token") == Check("hub token", "good", "set, for huggingface.co")
    assert SECRET not in printed(capsys)


def test_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    check = found("hub token")
    assert check.state == "missing"
    assert "hf auth login" in check.mend


def test_the_password_in_an_endpoint_is_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", f"https://user:{SECRET}@hub.example:8080/path")
    for token in ("", SECRET):
        monkeypatch.setenv("HF_TOKEN", token)
        said = printed(capsys)
        assert "for hub.example:8080" in said
        assert SECRET not in said


# --- what is missing or broken ------------------------------------------------------------------


def lacking(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    def version(name: str) -> str:
        if name == package:
            raise PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(doctor, "version", version)


@pytest.mark.parametrize(
    ("package", "state", "mend"),
    [
        ("torch", "missing", "pip install 'samevoice[parity]'"),
        ("pyannote.audio", "missing", "pip install 'samevoice[parity]'"),
        ("pyannote.metrics", "missing", "pip install 'samevoice[evaluate]'"),
        ("mlx", "broken", "pip install 'samevoice'"),
        ("numpy", "broken", "pip install 'samevoice'"),
        ("scipy", "broken", "pip install 'samevoice'"),
        ("soundfile", "broken", "pip install 'samevoice'"),
        ("safetensors", "broken", "pip install 'samevoice'"),
        ("huggingface-hub", "broken", "pip install 'samevoice'"),
    ],
)
def test_a_package_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, package: str, state: str, mend: str
) -> None:
    lacking(monkeypatch, package)
    check = found(package)
    assert (check.state, check.mend) == (state, mend)
    assert check.found.startswith("not installed")


def test_no_compiler_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    check = found("C++ compiler")
    mend = "xcode-select --install" if sys.platform == "darwin" else "apt install g++"
    assert (check.state, check.mend) == ("missing", mend)


def test_no_ffmpeg_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    check = found("ffmpeg")
    mend = "brew install ffmpeg" if sys.platform == "darwin" else "apt install ffmpeg"
    assert (check.state, check.mend) == ("missing", mend)
    program(tmp_path / "ffmpeg")
    assert found("ffmpeg") == Check("ffmpeg", "good", str(tmp_path / "ffmpeg"))


def test_a_compiler_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path / "g++")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found("C++ compiler") == Check("C++ compiler", "good", str(tmp_path / "g++"))


def program(path: Path) -> None:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="CUDA is for Linux")
def test_a_gpu_that_mlx_does_not_see(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(backend, "device_name", lambda which: "CPU")
    program(tmp_path / "nvidia-smi")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found("device").mend == "pip install 'samevoice[cuda]'"


def test_the_slow_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "BLAS", f"{backend.OWN}: because")
    check = found("BLAS")
    assert check.state == "missing"
    assert "because" in check.found
    assert check.mend == "apt install libopenblas0, or pip install 'samevoice[parity]'"


def test_a_setting_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLX_ENABLE_TF32", "0")
    monkeypatch.setenv("SAMEVOICE_CACHE", str(tmp_path / "[red]cache"))
    assert found("MLX_ENABLE_TF32").found == "0"
    assert found("cache").found == str(tmp_path / "[red]cache")


def test_a_broken_check_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> None:
        raise OSError("libmlx.so: wrong ELF class\nand more")

    monkeypatch.setattr(backend, "device", broken)
    check = found("device")
    assert check.state == "broken"
    assert check.found == "OSError: libmlx.so: wrong ELF class"
    assert check.mend == "pip install --force-reinstall samevoice"
    assert f"✗ device             {check.found}\n" in printed(capsys)
