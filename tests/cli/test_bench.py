"""samevoice bench, typed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typed import ended

from samevoice.bench import parts
from samevoice.bench.parts import Plan
from samevoice.bench.rows import Row, Series, Target

SMALL = ["--runs", 1, "--minutes", 0.1, "--growth", "0.1", "--hours", "0.02"]


@pytest.mark.long
def test_it_measures_and_writes(
    narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "growth", "pipeline", "conversion", *SMALL, "--model", narrow_bundle]
    assert ended(*words, "--output", tmp_path) == 0
    said = capsys.readouterr()
    tables = [line for line in said.out.splitlines()[2:] if str(tmp_path) not in line]
    assert max(map(len, tables)) <= 80
    found = json.loads((tmp_path / "bench.json").read_text())
    assert [row["what"] for row in found["rows"] if not row["what"].startswith(" ")] == [
        "0.1 min",
        "0.1 min, --fast",
        "0.1 min, --fast",
        "0.1 min",
        "behind the networks, 0.02 h",
    ]
    assert all(row["samevoice"]["median"] > 0 for row in found["rows"])
    assert "conversion" in found["left_out"]
    assert "conversion: it needs pyannote.audio" in said.out
    page = (tmp_path / "bench.md").read_text()
    assert "## growth" in page
    assert (tmp_path / "bench.svg").read_text().startswith("<?xml")


@pytest.mark.long
def test_where_the_time_goes(
    narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "limits", *SMALL, "--model", narrow_bundle, "--output", tmp_path]
    assert ended(*words) == 0
    said = capsys.readouterr().out.splitlines()[2:]
    assert max(len(line) for line in said if str(tmp_path) not in line) <= 80
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert rows[0]["what"].startswith("product, 1 core")
    tiers = [at for at, row in enumerate(rows) if row["what"] in ("exact", "--fast")]
    for first, last in (tiers, [tiers[1], len(rows)]):
        whole, *stages = (row for row in rows[first:last] if not row["what"].startswith("    "))
        for figure in ("flop", "nbytes", "share"):
            parts = sum(row["work"][figure] for row in stages)
            assert parts == pytest.approx(whole["work"][figure])
        assert sum(row["samevoice"]["median"] for row in stages) == pytest.approx(
            whole["samevoice"]["median"]
        )
        layers = [row for row in rows[first:last] if row["what"].startswith("    ")]
        networks = [row for row in stages if row["what"] in ("  segmentation", "  embeddings")]
        assert sum(row["work"]["share"] for row in layers) == pytest.approx(
            sum(row["work"]["share"] for row in networks)
        )
        (heard,) = (row for row in stages if row["what"] == "  segmentation")
        assert heard["work"]["flop"] == pytest.approx(2.636e9, rel=1e-3)
    page = (tmp_path / "bench.md").read_text()
    assert "| – LSTM |" in page


@pytest.mark.long
def test_one_network_from_its_sound(
    pyannote: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del pyannote
    words = ["bench", "networks", "start", "--runs", 1, "--batch", "1,2"]
    assert ended(*words, "--source", "reference:XVectorMFCC/small", "--output", tmp_path) == 0
    found = json.loads((tmp_path / "bench.json").read_text())
    assert [(row["what"], row["beside"]["who"], row["said"]) for row in found["rows"]] == [
        ("network × 1", "torch", ""),
        ("network × 2", "torch", ""),
    ]
    why = "start: reference:XVectorMFCC/small is one network, and no pipeline"
    assert why in " ".join(capsys.readouterr().out.split())


@pytest.mark.long
def test_beside_pyannote(references: dict[str, Path], narrow_bundle: Path, tmp_path: Path) -> None:
    words = ["bench", "pipeline", *SMALL, "--model", narrow_bundle]
    assert ended(*words, "--source", references["full"], "--output", tmp_path) == 0
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert rows[0]["beside"]["who"] == "pyannote"
    assert set(rows[0]["beside"]["stages"]) == set(parts.STAGES)
    assert 0 < rows[0]["ratio"] < 1
    assert rows[0]["beside"]["peak_gb"] > rows[0]["samevoice"]["peak_gb"] > 0.05


@pytest.mark.parametrize(
    ("words", "source"),
    [
        (["--model", "open:diarization"], "open:diarization"),
        (["--model", "open:diarization", "--source", "reference:full"], "reference:full"),
        (["--source", "open:diarization"], "open:diarization"),
    ],
)
def test_a_model_s_name_is_its_source(
    words: list[str], source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr("samevoice.cli.pipeline_options.bundle", lambda _: tmp_path)
    monkeypatch.setattr("samevoice.cli.bench._measure", lambda plan, *_: plans.append(plan))
    assert ended("bench", "networks", *words, "--output", tmp_path / "out") == 0
    assert plans[0].material.given == source


@pytest.mark.long
def test_what_was_measured_before_a_fault_is_kept(
    monkeypatch: pytest.MonkeyPatch,
    narrow_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def breaks(_: Plan) -> Iterator[Row]:
        yield Row("start", "first", Series("samevoice", (0.1,)), target=Target("seconds", 0.3))
        raise KeyboardInterrupt

    monkeypatch.setitem(parts.PARTS, "start", parts.Part(breaks, "broken"))
    assert ended("bench", "start", "--model", narrow_bundle, "--output", tmp_path) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "samevoice: stopped"
    assert json.loads((tmp_path / "bench.json").read_text())["rows"][0]["what"] == "first"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["network"], "there is no part 'network': start, conversion, networks, pipeline"),
        (["--runs", "0"], "--runs is 0: it must be from 1 to"),
        (["--runs", "99999999999999999999"], "it must be from 1 to 10000"),
        (["--minutes", "1e300"], "every number must be more than 0, at most 2000"),
        (["--growth", "1e300"], "every number must be more than 0, at most 2000"),
        (["--hours", "1e300"], "every number must be more than 0, at most 1000"),
        (["--batch", "9" * 400], "every number must be more than 0, at most 4096"),
        (["--minutes", "1,x"], "--minutes is '1,x': numbers with commas between them"),
        (["--batch", "1.5"], "--batch is '1.5': whole numbers with commas between them"),
        (["--growth", "-1"], "--growth is '-1': every number must be more than 0"),
        (["--hours", "inf"], "--hours is 'inf': every number must be more than 0"),
        (["--source", "/nowhere"], "--source /nowhere: not the folder of a pipeline"),
        (["--model", "/nowhere"], "/nowhere: no such bundle, and not the name of a model"),
        (["--audio", "/nowhere.wav"], "--audio /nowhere.wav: no such file"),
        (["--senko", "/nowhere/python"], "--senko /nowhere/python: no such file"),
        (["start", "--device", "cuda"], "device 'gpu': this MLX sees neither Metal nor CUDA"),
    ],
)
def test_bad_usage_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert ended("bench", *words, "--output", tmp_path) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_half_precision_of_a_bundle_that_is_made_already(
    narrow_bundle: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["bench", "start", "--model", narrow_bundle, "--dtype", "float16"]
    assert ended(*words, "--output", tmp_path) == 2
    assert "does not go with --model" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_said_before_anything_is_measured(
    narrow_bundle: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    words = ["bench", "pipeline", "--model", narrow_bundle, "--output", tmp_path / "file" / "here"]
    assert ended(*words) == 2
    said = capsys.readouterr()
    assert said.err.endswith(f"file/here cannot be made: {tmp_path}/file is not a folder\n")
