"""What several tests of commands share."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from made_pipeline import Told
from typed import Answer, Run

import samevoice
from samevoice import cli
from samevoice.models.diarization import pipeline
from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> type[Told]:
    kind = type("Told", (Told,), {"made": [], "asked": []})
    monkeypatch.setattr(pipeline, "SpeakerDiarizationPipeline", kind)
    return kind


@pytest.fixture
def typed(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Run:
    """A whole command in a folder of its own: what it says is never a traceback."""
    monkeypatch.chdir(tmp_path)

    def answer(words: str) -> Answer:
        with pytest.raises(SystemExit) as stopped:
            cli.main(shlex.split(words))
        said = capfd.readouterr()
        assert "Traceback" not in said.err
        return Answer(int(stopped.value.code or 0), said.out, said.err)

    return answer


@pytest.fixture
def diarize(told: type[Told], typed: Run, tmp_path: Path) -> Run:
    """``samevoice diarize`` in this process, in a folder with a bundle called full."""
    del told
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "config.json").write_text("{}")
    return lambda words: typed(f"diarize {words}")


@pytest.fixture(scope="session")
def narrow(references: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a pipeline of the agglomerative kind, its embedding narrow."""
    from made_campplus import small_campplus, source_of

    folder = tmp_path_factory.mktemp("narrow")
    network = small_campplus(folder / "campplus.pt")
    source = source_of(folder / "source", references["segmentation"], network)
    samevoice.convert(source, folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="session")
def pieces(references: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of three recordings with references."""
    del references
    pytest.importorskip("pyannote.metrics")
    import made_corpus

    folder = tmp_path_factory.mktemp("corpus")
    made_corpus.write(folder)
    return folder


@pytest.fixture
def evaluate(narrow: Path, pieces: Path, typed: Run, tmp_path: Path) -> Run:
    """In a folder with a bundle called full and a corpus called meetings."""
    (tmp_path / "full").symlink_to(narrow)
    shutil.copytree(pieces, tmp_path / "meetings")

    def answer(words: str, code: int = 0) -> Answer:
        found = typed(f"evaluate {words}")
        assert found.code == code, found.err
        assert all(len(line) <= 80 for line in found.out.splitlines())
        return found

    return answer


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The recordings that a pipeline has heard, as the commands go."""
    names: list[str] = []
    call = SpeakerDiarizationPipeline.__call__

    def told(self: Any, audio: Any, **options: Any) -> Any:
        names.append(audio if isinstance(audio, str) else audio["uri"])
        return call(self, audio, **options)

    monkeypatch.setattr(SpeakerDiarizationPipeline, "__call__", told)
    return names
