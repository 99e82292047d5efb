"""samevoice evaluate as it is typed, on three pieces of a recording and narrow networks."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import made_audio
import pytest
from made_corpus import LINE, PIECES
from made_pipeline import left
from typed import Run

from samevoice.errors import MissingExtraError
from samevoice.evaluation.corpora import read
from samevoice.evaluation.scores import added, judge
from samevoice.models.diarization.output import Turns, read_rttm
from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline

pytestmark = pytest.mark.long


def found(folder: str = "meetings-evaluation") -> dict[str, Any]:
    document: dict[str, Any] = json.loads((Path(folder) / "evaluation.json").read_text())
    return document


def test_every_figure_is_that_of_the_turns_that_diarize_gives(evaluate: Run) -> None:
    said = evaluate("meetings --model full").out
    made = found()
    pipeline, results = SpeakerDiarizationPipeline("full"), []
    for one in read("meetings").recordings:
        written = Path("meetings-evaluation", "full", f"{one.uri}.rttm")
        assert written.read_text() == pipeline(one.audio).to_rttm()
        results.append(judge(one.reference, read_rttm(written)[one.uri], ((0, 12),)))
    (system,) = made["systems"]
    strict, lenient = (added(getattr(x, name) for x in results) for name in ("strict", "lenient"))
    assert system["der"]["micro"]["value"] == pytest.approx(strict.der)
    assert system["der"]["macro"]["value"] == pytest.approx(sum(x.strict.der for x in results) / 3)
    assert system["der"]["confusion"] == pytest.approx(strict.confusion)
    assert system["der_collar"]["micro"]["value"] == pytest.approx(lenient.der)
    jer = sum(x.jaccard.error for x in results) / sum(x.jaccard.speakers for x in results)
    assert system["jer"]["micro"]["value"] == pytest.approx(jer)
    assert system["speakers_right"] == sum(x.found == 2 for x in results)
    assert system["der"]["micro"]["low"] <= strict.der <= system["der"]["micro"]["high"]
    assert 0 < system["real_time_factor"] < 10
    assert 2**26 < system["peak_memory"] < 2**36
    assert made["corpus"]["scored"] == 36
    assert (made["pair"], made["failed"]) == (None, [])
    assert said.startswith(f"A has a DER of {strict.der:.1%} (95% interval ")
    assert made["answer"] in " ".join(said.split())
    assert "3 recordings are few: their intervals are rough" in said
    with Path("meetings-evaluation/evaluation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["uri"] for row in rows] == sorted(PIECES)
    for name in ("evaluation.html", "evaluation.md", "junit.xml"):
        assert made["answer"] in Path("meetings-evaluation", name).read_text()
        assert f"  meetings-evaluation/{name}" in said
    ders = [float(row["A_der"]) for row in rows]
    assert ders == [pytest.approx(one.strict.der) for one in results]


def test_the_page_names_every_key(evaluate: Run) -> None:
    evaluate("meetings --model full")
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    table = page.partition("## evaluation.json")[2]
    named = [re.findall(r"`(\w+)`", row.split("|")[0]) for row in table.split("\n| ")[3:]]
    assert [key for row in named for key in row] == list(found())
    for key in found()["corpus"].keys() - {"name", "recordings"}:
        assert f"`{key}`" in table
    for key in found()["systems"][0]:
        assert f"`{key}`" in table


def test_what_is_done_is_not_done_again(evaluate: Run, ran: list[str]) -> None:
    words = "meetings --model full --against fast --output out"
    first = evaluate(words)
    assert sorted(ran) == sorted([*PIECES, *PIECES])
    assert [one["made_of"]["fast"] for one in found("out")["systems"]] == [False, True]
    assert "B  full-fast" in first.out
    assert "DER A " in first.err.splitlines()[-1]
    before = {name: Path("out", name).read_bytes() for name in left(Path("out"))}

    ran.clear()
    assert evaluate(words).out == first.out
    assert ran == []
    assert {name: Path("out", name).read_bytes() for name in left(Path("out"))} == before

    # What is damaged, or was changed by hand, is made again.
    about = Path("out/full/one.json")
    about.write_bytes(about.read_bytes()[:300])
    with Path("out/full-fast/two.rttm").open("a") as file:
        file.write(LINE.format(uri="two", start=0, length=1, who="eve"))
    Path("out/full/three.rttm").unlink()
    evaluate(words)
    assert sorted(ran) == ["one", "three", "two"]
    assert Path("out/full-fast/two.rttm").read_bytes() == before["full-fast/two.rttm"]

    # Other references are scored with the same turns; another recording is heard.
    ran.clear()
    Path("meetings/one.rttm").write_text(LINE.format(uri="one", start=2, length=3, who="eve"))
    evaluate(words)
    assert ran == []
    assert found("out")["recordings"][0]["A"]["der"]["total"] == 3
    shutil.copy("meetings/two.wav", "meetings/one.wav")
    evaluate(words)
    assert ran == ["one", "one"]


def test_b_may_be_another_bundle_in_its_fast_mode(evaluate: Run) -> None:
    shutil.copytree("full", "half")
    evaluate("meetings --model full --against half:fast --output out")
    a, b = found("out")["systems"]
    assert (a["name"], b["name"]) == ("full", "half-fast")
    assert (a["made_of"]["fast"], b["made_of"]["fast"]) == (False, True)
    assert a["made_of"]["origin"] == b["made_of"]["origin"]
    assert "is read: choose" in evaluate("meetings --against half:fast --output half/out", 2).err


def test_the_hash_of_a_corpus_is_that_of_its_recordings_and_references(evaluate: Run) -> None:
    def hashes() -> tuple[str, list[str]]:
        evaluate("meetings --model theirs --output out")
        said = found("out")
        return said["corpus"]["sha256"], [one["sha256"] for one in said["recordings"]]

    shutil.copytree("meetings", "theirs", ignore=lambda *_: ["one.wav", "two.wav", "three.wav"])
    first, rows = hashes()
    assert hashes() == (first, rows)
    for change in (
        lambda: Path("meetings/one.rttm").write_text(
            LINE.format(uri="one", start=0, length=1, who="x")
        ),
        lambda: Path("meetings/all.uem").write_text("one 1 0 11\ntwo 1 0 12\nthree 1 0 12\n"),
        lambda: shutil.copy("meetings/two.wav", "meetings/one.wav"),
    ):
        change()
        other, others = hashes()
        assert other != first
        assert others[0] != rows[0]
        assert others[1:] == rows[1:]
        first, rows = other, others


def test_a_run_that_is_killed_goes_on(
    evaluate: Run, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = SpeakerDiarizationPipeline.__call__

    def killed(self: Any, audio: Any, **options: Any) -> Any:
        if audio["uri"] == "three":
            raise KeyboardInterrupt
        return call(self, audio, **options)

    with monkeypatch.context() as patch:
        patch.setattr(SpeakerDiarizationPipeline, "__call__", killed)
        evaluate("meetings --model full", 130)
    assert not Path("meetings-evaluation/evaluation.json").exists()
    assert ran == ["one"]
    evaluate("meetings --model full")
    assert ran == ["one", "three", "two"]


def test_a_recording_that_fails_is_told_and_left_out(evaluate: Run, ran: list[str]) -> None:
    Path("meetings/three.wav").write_bytes(b"RIFF")
    answer = evaluate("meetings --model full", 2)
    at_once, *_, last = [line for line in answer.err.splitlines() if "three" in line]
    assert "three.wav" in at_once
    assert last.endswith("1 of 3 recordings failed: three")
    assert "note  1 of 3 failed, and are left out" in answer.out
    made = found()
    assert [one["uri"] for one in made["recordings"]] == ["one", "two"]
    assert made["failed"] == [{"uri": "three", "why": at_once}]
    assert "1 recording failed" in Path("meetings-evaluation/evaluation.html").read_text()
    junit = ElementTree.parse("meetings-evaluation/junit.xml").getroot()
    ((case, error),) = [
        (x.get("name"), x[0].get("message"))
        for x in junit.iter("testcase")
        if x.find("error") is not None
    ]
    assert (case, error) == ("three", at_once)
    ran.clear()
    evaluate("meetings --model full", 2)
    assert ran == ["three"]


def test_turns_of_anybody(evaluate: Run) -> None:
    theirs = Path("theirs")
    theirs.mkdir()
    lines = [Path("meetings", f"{uri}.rttm").read_text() for uri in ("one", "two")]
    (theirs / "some.rttm").write_text(
        "".join(lines) + LINE.format(uri="x", start=0, length=1, who="y")
    )
    answer = evaluate("meetings --model full --against theirs", 2)
    assert "no RTTM below theirs names 'three': add its turns, or an empty three.rttm" in answer.err
    (theirs / "three.rttm").write_text("")
    said = evaluate("meetings --model full --against theirs").out
    a, b = found()["systems"]
    assert b["name"] == "theirs"
    assert b["real_time_factor"] is None
    # The references themselves for two of three; of the third nothing.
    assert b["der"]["micro"]["value"] == pytest.approx(1 / 3)
    assert b["der"]["macro"]["value"] == pytest.approx(1 / 3)
    assert b["speakers_right"] == 2
    change = found()["pair"]["change"]["der"]["micro"]
    assert change["value"] == pytest.approx(1 / 3 - a["der"]["micro"]["value"])
    assert f"{abs(100 * change['value']):.1f} points lower" in " ".join(said.split())

    # What an evaluation wrote can be scored again without the pipeline.
    evaluate("meetings --model meetings-evaluation/full --output again")
    assert found("again")["systems"][0]["der"] == a["der"]
    evaluate("meetings --model theirs --against fast", 2)


def test_a_list_and_a_manifest_give_the_figures_of_the_folder(evaluate: Run) -> None:
    """Anybody's turns over the same recordings, however these are named."""
    lhotse = pytest.importorskip("lhotse")
    theirs = Path("theirs")
    theirs.mkdir()
    for uri in PIECES:
        (theirs / f"{uri}.rttm").write_text(LINE.format(uri=uri, start=1, length=8, who="x"))
    Path("mine.lst").write_text("".join(f"meetings/{x}.wav\t\tmeetings/all.uem\n" for x in PIECES))
    paths = [Path("meetings", f"{uri}.wav") for uri in PIECES]
    recordings = lhotse.RecordingSet.from_recordings(map(lhotse.Recording.from_file, paths))
    recordings.to_file("my_recordings.jsonl.gz")
    lhotse.SupervisionSet.from_rttm([f"meetings/{x}.rttm" for x in PIECES]).to_file(
        "my_supervisions.jsonl.gz"
    )
    evaluate("meetings --model theirs")
    folder = found()
    for word, name in {"mine.lst": "mine", "my_recordings.jsonl.gz": "my"}.items():
        evaluate(f"{word} --model theirs")
        assert found(f"{name}-evaluation")["systems"] == folder["systems"]
        assert found(f"{name}-evaluation")["corpus"]["scored"] == 36
    here = Path("meetings").resolve()
    Path("urls.lst").write_text(
        "".join(f"file://{here}/{x}.wav\tmeetings/{x}.rttm\tmeetings/all.uem\n" for x in PIECES)
    )
    pytest.importorskip("fsspec")
    evaluate("urls.lst --model theirs")
    assert found("urls-evaluation")["systems"] == folder["systems"]
    assert found("urls-evaluation")["recordings"][0]["audio"] == f"file://{here}/one.wav"
    Path("mine.lst").write_text("meetings/one.wav\nmeetings/four.wav\n")
    answer = evaluate("mine.lst --model theirs", 2)
    assert answer.err == (
        "samevoice: mine.lst, line 2: there is no recording meetings/four.wav; paths are relative "
        "to the list's folder\n"
    )


def test_turns_are_scored_again_without_the_pipeline(
    evaluate: Run, typed: Run, ran: list[str]
) -> None:
    evaluate("meetings --model full --against fast")
    before = found()
    ran.clear()
    Path("meetings/all.uem").write_text("".join(f"{uri} 1 0 6\n" for uri in PIECES))
    Path("meetings/two.rttm").write_text(LINE.format(uri="two", start=2, length=3, who="eve"))
    folders = ["meetings-evaluation/full", "meetings-evaluation/full-fast"]
    answer = typed(f"score meetings --turns {folders[0]} --turns {folders[1]}")
    assert (answer.code, ran) == (0, []), answer.err
    after = found("meetings-scores")
    assert answer.out.startswith(after["answer"][:40])
    assert (before["corpus"]["scored"], after["corpus"]["scored"]) == (36, 18)
    evaluate("meetings --model full --against fast")  # scores its own turns again
    assert ran == []
    for ours, theirs in zip(after["systems"], found()["systems"], strict=True):
        assert ours["name"] == theirs["name"]
        assert ours["der"] == theirs["der"] != before["systems"][0]["der"]
        assert ours["jer"] == theirs["jer"]
    assert after["pair"] == found()["pair"]
    assert after["answer"] == "A and B give the same turns on 3 recordings."
    written = {path.name for path in Path("meetings-scores").glob("*.*")}
    assert written == {path.name for path in Path("meetings-evaluation").glob("*.*")}

    single = typed(f"score meetings --turns {folders[1]} --output alone")
    assert single.out.startswith("A has a DER of ")
    assert found("alone")["systems"][0]["der"] == found()["systems"][1]["der"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("meetings", "score needs --turns DIR, once or twice"),
        ("meetings --turns a --turns a --turns a", "score needs --turns DIR, once or twice"),
        ("meetings --turns full", "full is no folder of RTTM files; evaluate runs pipelines"),
        ("meetings --turns nowhere", "nowhere is no folder of RTTM files"),
        ("meetings --turns a --turns ./a", "a is named twice: name two folders that differ"),
        ("meetings --turns b", "no RTTM below b names 'three'"),
        ("meetings --turns c", "no RTTM below c names 'one': add its turns, or an empty one.rttm"),
        ("nowhere --turns a", "nowhere is no corpus"),
        ("meetings --turns a --output a/scores", "would lie in a, which is read"),
    ],
)
def test_what_cannot_be_scored_is_one_line(
    evaluate: Run, typed: Run, words: str, said: str
) -> None:
    for name in ("a", "b"):
        shutil.copytree("meetings", name, ignore=shutil.ignore_patterns("*.wav"))
    Path("b/three.rttm").unlink()
    Path("c").mkdir()
    Path("c/other.rttm").write_text(LINE.format(uri="other", start=0, length=1, who="eve"))
    answer = typed(f"score {words}")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert said in answer.err
    assert not Path("meetings-scores").exists()


def test_two_are_compared_without_references(evaluate: Run) -> None:
    for path in [*Path("meetings").glob("*.rttm"), Path("meetings/all.uem")]:
        path.unlink()
    assert "no RTTM below meetings names" in evaluate("meetings --model full", 2).err
    (theirs := Path("theirs")).mkdir()
    for uri in PIECES:
        (theirs / f"{uri}.rttm").write_text(LINE.format(uri=uri, start=0, length=12, who="x"))
    said = evaluate("meetings --model theirs --against full").out
    made = found()
    wrong = total = 0.0
    for uri in PIECES:
        turns = read_rttm(f"meetings-evaluation/full/{uri}.rttm").get(uri, Turns())
        apart = judge(Turns.of([(0, 12, "x")]), turns, ((0, 12),)).strict
        wrong, total = wrong + apart.wrong, total + apart.total
    assert made["pair"]["disagreement"]["micro"]["value"] == pytest.approx(wrong / total)
    assert made["pair"]["change"] is None
    assert "der" not in made["systems"][0]
    assert made["recordings"][0]["speakers"] is None
    assert said.startswith(f"B's turns are {wrong / total:.1%} (95% interval ")


def test_the_same_turns_are_said_to_be_the_same(evaluate: Run) -> None:
    shutil.copytree("meetings", "theirs", ignore=shutil.ignore_patterns("*.wav", "*.uem"))
    shutil.copytree("theirs", "copy")
    with Path("copy/one.rttm").open("a") as file:
        file.write(LINE.format(uri="other", start=0, length=1, who="x"))
    said = evaluate("meetings --model theirs --against copy").out
    assert said.startswith("A and B give the same turns on 3 recordings.")
    assert found()["pair"]["moved"] == []
    for one in found()["systems"]:
        assert one["der"]["micro"] == {"value": 0, "low": 0, "high": 0}
        assert one["jer"]["micro"]["value"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nowhere --model full", "nowhere is no corpus"),
        ("meetings --model nothing", "nothing: no such bundle"),
        ("meetings --model full --against full", "full and full are the same"),
        ("meetings --model full --output meetings/out", "would lie in meetings, which is read"),
        ("meetings --model full --output taken", "evaluation.json exists and is not a result"),
        ("meetings --model full --output taken/too", "evaluation.html exists and is not a result"),
        ("meetings --model full --output taken/three", "junit.xml exists and is not a result"),
        ("meetings --model full --against theirs", "both name 'one': remove one"),
        (
            "meetings --model theirs/a --against fast",
            "fast needs a pipeline, and theirs/a",
        ),
        ("meetings --model theirs/b", "no RTTM below theirs/b names 'three'"),
    ],
)
def test_what_cannot_be_is_one_line_before_the_work(
    evaluate: Run, words: str, said: str, ran: list[str]
) -> None:
    for name in ("a", "b"):
        shutil.copytree("meetings", Path("theirs", name), ignore=shutil.ignore_patterns("*.wav"))
    Path("theirs/b/three.rttm").unlink()
    Path("taken").mkdir()
    Path("taken/evaluation.json").write_text("{}")
    Path("taken/too").mkdir()
    Path("taken/too/evaluation.html").write_text("<!doctype html>mine")
    Path("taken/three").mkdir()
    Path("taken/three/junit.xml").write_text("<testsuites/>")
    answer = evaluate(words, 2)
    *before, last = answer.err.splitlines()
    assert said in last
    assert len(before) <= 2  # that the weights are made up
    assert ran == []


def test_groups_and_the_verdict_by_hand(evaluate: Run) -> None:
    """One second each: five of one speaker, whom B hears, and five of two, of whom B hears one."""
    for number in range(10):
        uri = f"talk{number}"
        made_audio.recording(Path("talks", f"{uri}.wav"))
        voices = ["ana", "bob"][: 1 + number // 5]
        turns = [
            LINE.format(uri=uri, start=0.5 * n, length=0.5, who=w) for n, w in enumerate(voices)
        ]
        for folder, kept in {"talks": turns, "a": turns, "b": turns[:1]}.items():
            Path(folder).mkdir(exist_ok=True)
            Path(folder, f"{uri}.rttm").write_text("".join(kept))
    said = evaluate("talks --model a --against b").out
    made = found("talks-evaluation")
    # 2.5 of 7.5 s are missed; on its recordings that is half.
    _, b = made["systems"]
    assert b["der"]["micro"]["value"] == pytest.approx(1 / 3)
    assert b["der"]["macro"]["value"] == pytest.approx(1 / 4)
    assert b["jer"]["micro"]["value"] == pytest.approx(5 / 15)
    assert b["speakers_right"] == 5
    assert said.startswith("B is worse than A: its DER is 33.3 points higher (95% interval +")
    one, two = made["by_speakers"]
    assert [one["speakers"], two["speakers"]] == ["1", "2"]
    assert one["systems"][1]["der"]["micro"]["value"] == 0
    assert two["systems"][1]["der"]["micro"]["value"] == 0.5
    assert two["change"]["der"]["macro"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    moved = {one["uri"]: one["change"] for one in made["pair"]["moved"]}
    assert moved == {f"talk{number}": 0.5 for number in range(5, 10)}
    lines = [line.split() for line in said.splitlines()]
    assert ["2", "5", "0.0%", "(0.0-0.0)", "50.0%", "(50.0-50.0)"] in lines
    assert ["talk5", "+50.0", "50.0%"] in lines
    assert "B is better than A" in evaluate("talks --model b --against a --output other").out


def test_overlap_makes_groups_of_its_own(evaluate: Run) -> None:
    """A second each, of which Ana has half; Bob speaks over none, a tenth or three tenths of it."""
    for number in range(15):
        uri = f"talk{number:02d}"
        start = (0.5, 0.4, 0.2)[number // 5]
        made_audio.recording(Path("talks", f"{uri}.wav"))
        ana = LINE.format(uri=uri, start=0, length=0.5, who="ana")
        bob = LINE.format(uri=uri, start=start, length=1 - start, who="bob")
        Path("ours").mkdir(exist_ok=True)
        Path("talks", f"{uri}.rttm").write_text(ana + bob)
        Path("ours", f"{uri}.rttm").write_text(ana)
    said = evaluate("talks --model ours").out
    made = found("talks-evaluation")
    assert [one["overlap"] for one in made["by_overlap"]] == ["0-5 %", "5-15 %", "15 %+"]
    ders = [one["systems"][0]["der"]["micro"]["value"] for one in made["by_overlap"]]
    assert ders == pytest.approx([0.5, 0.6 / 1.1, 0.8 / 1.3])
    assert [one["overlap"] for one in made["recordings"][::5]] == pytest.approx([0, 0.1, 0.3])
    lines = [line.split() for line in said.splitlines()]
    assert ["5-15", "%", "5", "54.5%", "(54.5-54.5)"] in lines
    assert made["by_speakers"][0]["speakers"] == "2"
    page, text = (Path("talks-evaluation", f"evaluation.{x}").read_text() for x in ("html", "md"))
    for words in (page, text):
        assert "By share of overlap" in words
        assert "By number of speakers" not in words  # there is but one
        assert "54.5% (54.5-54.5)" in words
    with Path("talks-evaluation/evaluation.csv").open(newline="") as file:
        assert float(list(csv.DictReader(file))[-1]["overlap"]) == pytest.approx(0.3)


def test_without_pyannote_metrics_the_extra_is_named(
    evaluate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyannote.metrics.diarization", None)
    answer = evaluate("meetings --model full", 2)
    assert "is not installed: pip install 'samevoice[evaluate]'" in answer.err


def test_without_what_draws_the_page_the_figures_are_there(
    evaluate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Missing(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise MissingExtraError("jinja2, which writes the reports,", "parity")

    monkeypatch.setitem(sys.modules, "samevoice.reports.evaluations", Missing("missing"))
    answer = evaluate("meetings --model full")
    assert "no page: jinja2" in answer.err
    assert "evaluation.html" not in answer.out
    assert found()["recordings"]
    assert not Path("meetings-evaluation/evaluation.html").exists()
