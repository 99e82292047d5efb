"""What commands refuse to replace, and what they replace because it is their own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_results
import pytest
from made_up import SEALED
from typed import ended

from samevoice import outputs
from samevoice.bench import parts
from samevoice.bench.parts import Plan
from samevoice.bench.rows import Row, Series
from samevoice.cli import paths
from samevoice.cli.options import UsageError
from samevoice.parity import gallery
from samevoice.parity.gallery import Finding
from samevoice.parity.result import write

MINE = "what I wrote, and have nowhere else\n"
KEPT = " exists and is not a result of this kind: choose another path, or pass --overwrite"
FOLDER = " is a folder with other files: choose another path"


@pytest.fixture
def here(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reference_bundle: Path,
    references: dict[str, Path],
) -> Path:
    """A folder with a bundle, its source, and a result."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").symlink_to(reference_bundle)
    (tmp_path / "source").symlink_to(references["full"])
    write(tmp_path / "green" / "result.json", made_results.copied())
    return tmp_path


@pytest.mark.parametrize(
    ("words", "mine", "said"),
    [
        ("parity full --source source --output out", "out/plda/result.json", KEPT),
        ("parity full --source source --output out", "out/pipeline/report.html", KEPT),
        ("parity full --source source --only plda --output out", "out/plda/junit.xml", KEPT),
        ("parity full --source source --output out", "out/segmentation/plots/ladder.svg", KEPT),
        ("parity full --source source --fast --output out", "out/fast/golden/notes", FOLDER),
        ("parity full --source source --output out", "out/embedding/reproduction/x", FOLDER),
        ("parity full/embedding --source source --save-golden out", "out/notes", FOLDER),
        ("parity full/embedding --source source --output out/below", "out", " is not a folder"),
        ("parity full --source source", "full-parity/embedding/report.md", KEPT),
        ("gallery --output out.md", "out.md", KEPT),
        ("gallery --output out.md", "out.json", KEPT),
        ("gallery --output out/below.md", "out", " is not a folder"),
        ("report green", "green/report.html", KEPT),
        ("report green --output out", "out/report.md", KEPT),
        ("report green --output out/below", "out", " is not a folder"),
        ("report --index green", "green/index.html", KEPT),
        ("bench start --model full --output out", "out/bench.json", KEPT),
        ("bench start --model full --output out", "out/bench.md", KEPT),
        ("bench start --model full --output out/below", "out", " is not a folder"),
        ("convert source --mlx-path out/below", "out", " is not a folder"),
        ("convert source --mlx-path out", "out", " exists: pass --overwrite"),
        ("export full --output out.d/below", "out.d", " is not a folder"),
        ("release full --result green --output out/below", "out", " is not a folder"),
        ("release full --result green --output out", "out", " exists: pass --overwrite"),
    ],
)
def test_what_somebody_else_wrote_is_kept_and_no_work_is_done(
    here: Path, words: str, mine: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = here / mine
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(MINE)
    (here / "a.wav").touch()
    before = sorted(here.rglob("*"))
    assert ended(*words.split()) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    named = str(Path(mine).parent) if said == FOLDER else mine
    assert named in told.err
    assert said in told.err
    assert path.read_text() == MINE
    assert sorted(here.rglob("*")) == before


def test_a_database_that_cannot_be_made_is_said_before_anything_is_heard(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a.wav").write_text("no sound")
    words = ("speakers", "enroll", "Ana", "a.wav", "--model", "full", "--db")
    assert ended(*words, f"{SEALED}/db") == 2
    assert f"{SEALED} cannot be written to" in capsys.readouterr().err.splitlines()[-1]


def test_a_bundle_is_not_replaced_by_what_is_made_of_it(
    reference_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "seg"
    shutil.copytree(reference_bundle / "segmentation", bundle)
    weights = bundle / "model.safetensors"
    before = weights.read_bytes()
    words = ("export", bundle, "--output", weights, "--overwrite")
    assert ended(*words) == 2
    assert f"{weights} is read here and would be overwritten" in capsys.readouterr().err
    assert weights.read_bytes() == before


def test_overwrite_gives_files_up_but_no_folder(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "green/report.md").write_text(MINE)
    with made_results.drawn_once():
        assert ended("report", "green", "--overwrite") == 0
    assert MINE not in (here / "green/report.md").read_text()
    (here / "golden").mkdir()
    (here / "golden/notes").write_text(MINE)
    words = "parity full/embedding --source source --save-golden golden --overwrite"
    assert ended(*words.split()) == 2
    assert "golden is a folder with other files" in capsys.readouterr().err


def test_reports_replace_reports(here: Path) -> None:
    write(here / "red" / "result.json", made_results.red())
    for words in ("report red", "report red green", "report green", "report --index ."):
        assert [ended(*words.split()) for _ in range(2)] == [0, 0]


def test_a_comparison_replaces_an_earlier_one(here: Path) -> None:
    words = "parity full/plda --source source --output out"
    assert [ended(*words.split()) for _ in range(2)] == [0, 0]
    assert json.loads((here / "out/result.json").read_text())["passed"]


def test_a_gallery_replaces_a_gallery(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [Finding("a bias dropped", "lost", "segmentation", "PyanNet", "x", "x", 1000.0)]
    monkeypatch.setattr(gallery, "examine", lambda source, **more: found)
    monkeypatch.setattr(gallery, "examine_pairs", lambda source, **more: found)
    assert [ended("gallery", "--output", "new/g.md") for _ in range(2)] == [0, 0]
    assert "| bug | found at |" in (here / "new/g.md").read_text()
    assert json.loads((here / "new/g.json").read_text())["findings"]
    assert ended("gallery", "--prove", "--output", "new/g.md") == 0
    said = "Bugs: the cause of 0 of 1 proven, 0 wrongly"
    assert said in (here / "new/g.md").read_text()
    capsys.readouterr()
    assert ended("gallery", "--output", "g.json") == 2
    assert "--output g.json is for the table" in capsys.readouterr().err


def test_figures_replace_figures(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(_: Plan) -> Iterator[Row]:
        yield Row("start", "first", Series("samevoice", (0.1,)), Series("torch", (0.3,)))

    monkeypatch.setitem(parts.PARTS, "start", parts.Part(rows, "made up"))
    words = "bench start --model full --output out"
    assert [ended(*words.split()) for _ in range(2)] == [0, 0]
    assert {path.name for path in (here / "out").iterdir()} == {
        "bench.json",
        "bench.md",
        "bench.svg",
    }


@pytest.mark.parametrize("name", ["x" * 300 + ".rttm", "new/" + "é" * 200 + "/a.rttm"])
def test_a_name_that_is_too_long_is_said_before_the_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(outputs.OutputError, match="cannot be made: File name too long"):
        outputs.refuse([(tmp_path / name, "turns")])


def test_ten_thousand_results_are_not_each_compared_with_all_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, asked = 200, []
    for k in range(count):
        (tmp_path / f"{k}.wav").write_bytes(b"RIFF")
        (tmp_path / f"{k}.rttm").write_text("SPEAKER a 1 0.0 1.0 <NA> <NA> x <NA> <NA>\n")
    real = os.path.realpath

    def counted(path: Any, **options: Any) -> Any:
        asked.append(path)
        return real(path, **options)

    monkeypatch.setattr(os.path, "realpath", counted)
    targets = [(tmp_path / f"{k}.rttm", "turns") for k in range(count)]
    outputs.refuse(targets, inputs=[tmp_path / f"{k}.wav" for k in range(count)])
    assert len(asked) <= 4 * count


def test_a_disk_that_ignores_case_is_known(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert outputs._ignores_case(tmp_path / "b" / "c") is (tmp_path / "A").exists()


@pytest.mark.parametrize("other", ["Zo\u00eb.rttm", "zoe\u0308.rttm"], ids=["case", "accent"])
def test_two_names_that_a_mac_takes_for_one_are_refused(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = [(tmp_path / "zo\u00eb.rttm", "turns"), (tmp_path / other, "turns")]
    monkeypatch.setattr(outputs, "_ignores_case", lambda _: False)
    outputs.refuse(pair)
    monkeypatch.setattr(outputs, "_ignores_case", lambda _: True)
    with pytest.raises(outputs.OutputError, match="would be written twice: choose two names"):
        outputs.refuse(pair)
    recordings = ["x/zo\u00eb.wav", f"y/{other[:-5]}.wav"]
    with pytest.raises(UsageError, match="would both become"):
        paths.targets(recordings, ["rttm"], f"{tmp_path}/", recordings)
    paths.targets(recordings[:1], ["rttm"], f"{tmp_path}/", recordings)
