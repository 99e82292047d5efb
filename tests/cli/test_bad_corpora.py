"""What is wrong with a corpus is one line, before any work, whatever its form."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from made_corpus import LINE, PIECES
from typed import Run

DATABASE = """\
Databases:
   Mine: meetings/{uri}.wav
Protocols:
   Mine:
      SpeakerDiarization:
         Few:
            test:
               uri: list.lst
               annotation: all.rttm
"""
PROTOCOL = "database.yml:Mine.SpeakerDiarization.Few.test"
Make = Callable[[], object]


@pytest.fixture
def here(pieces: Path, typed: Run, tmp_path: Path) -> Run:
    """In a folder with a corpus, turns of anybody, and the corpus as list, manifest, protocol."""
    shutil.copytree(pieces, "meetings")
    Path("theirs").mkdir()
    for uri in PIECES:
        (Path("theirs") / f"{uri}.rttm").write_text(turn(uri))
    Path("all.rttm").write_text("".join(map(turn, PIECES)))
    Path("mine.lst").write_text("".join(f"meetings/{uri}.wav\n" for uri in PIECES))
    Path("list.lst").write_text("".join(f"{uri}\n" for uri in PIECES))
    Path("database.yml").write_text(DATABASE)
    recordings, supervisions = [], []
    for uri in PIECES:
        source = {"type": "file", "channels": [0], "source": f"meetings/{uri}.wav"}
        recordings.append(json.dumps({"id": uri, "sources": [source]}))
        turns = {"id": f"{uri}-1", "recording_id": uri, "start": 1.0, "duration": 2.0}
        supervisions.append(json.dumps({**turns, "speaker": "ana"}))
    Path("recordings.jsonl").write_text("\n".join(recordings))
    Path("supervisions.jsonl").write_text("\n".join(supervisions))
    return typed


def turn(uri: str) -> str:
    return LINE.format(uri=uri, start=1, length=2, who="ana")


def write(path: str, text: str) -> Make:
    return lambda: Path(path).write_text(text)


def change(path: str, old: str, new: str) -> Make:
    return lambda: Path(path).write_text(Path(path).read_text().replace(old, new))


def remove(*paths: str) -> Make:
    return lambda: list(map(Path.unlink, map(Path, paths)))


def again(source: str, target: str) -> Make:
    """The same recording elsewhere."""

    def copy() -> None:
        Path(target).parent.mkdir()
        shutil.copy(source, target)

    return copy


RTTMS = [f"meetings/{uri}.rttm" for uri in PIECES]


def test_each_form_is_right_as_long_as_nothing_is_changed(here: Run) -> None:
    for word in ("meetings", "mine.lst", "recordings.jsonl", PROTOCOL):
        answer = here(f"evaluate {word} --model theirs --output out")
        assert answer.code == 0, answer.err


@pytest.mark.parametrize(
    ("word", "make", "said"),
    [
        # No references.
        ("meetings", remove(*RTTMS), "no RTTM below meetings names meetings/one.wav: write one"),
        ("mine.lst", remove(*RTTMS), "mine.lst has no RTTM of meetings/one.wav: write one.rttm"),
        ("recordings.jsonl", remove("supervisions.jsonl"), "has no manifest of supervisions besi"),
        (PROTOCOL, change("database.yml", "annotation", "other"), "has no turn of 'one'"),
        # RTTMs of other names.
        ("meetings", write(RTTMS[0], turn("x")), "names 'x', and meetings holds no such recording"),
        ("mine.lst", write(RTTMS[0], turn("x")), "meetings/one.rttm does not name 'one', as mine"),
        (
            "recordings.jsonl",
            change("supervisions.jsonl", '"one"', '"x"'),
            "supervisions.jsonl, line 1: recordings.jsonl has no recording 'x'",
        ),
        (PROTOCOL, write("all.rttm", turn("x")), "has no turn of 'one': leave it out of the list"),
        # Overlapping regions.
        (
            "meetings",
            write("meetings/all.uem", "one 1 0 5\none 1 4 8\n"),
            "meetings/all.uem, one: two regions overlap at 4 s: merge them",
        ),
        (
            "mine.lst",
            write("meetings/one.uem", "one 1 0 5\none 1 4 8\n"),
            "meetings/one.uem, one: two regions overlap at 4 s: merge them",
        ),
        # Empty files.
        ("meetings", write("meetings/all.uem", ""), "meetings/all.uem names no regions"),
        (
            "meetings",
            lambda: [Path(path).write_text("") for path in RTTMS],
            "nobody speaks in any reference of meetings: there is nothing to score",
        ),
        ("mine.lst", write("mine.lst", ""), "mine.lst names no recordings: write one path a line"),
        ("recordings.jsonl", write("recordings.jsonl", ""), "recordings.jsonl is empty"),
        (
            "recordings.jsonl",
            write("supervisions.jsonl", ""),
            "supervisions.jsonl has no supervision of 'one'",
        ),
        (PROTOCOL, write("list.lst", ""), "nobody speaks in any reference of database.yml"),
        # Files that are named and not there.
        (PROTOCOL, remove("meetings/two.wav"), 'cannot be read: Could not find file "two"'),
        (PROTOCOL, remove("all.rttm"), "cannot be read"),
        (PROTOCOL, remove("list.lst"), "cannot be read"),
        ("mine.lst", remove("meetings/two.wav"), "there is no recording meetings/two.wav"),
        ("recordings.jsonl", remove("meetings/two.wav"), "meetings/two.wav, of 'two', is not the"),
        ("nowhere.lst", remove(), "cannot read nowhere.lst: No such file"),
        ("nowhere.jsonl", remove(), "nowhere.jsonl cannot be read: No such file"),
        # Two recordings of one name.
        (
            "meetings",
            again("meetings/one.wav", "meetings/more/one.wav"),
            "meetings/more/one.wav and meetings/one.wav have the same name: rename one",
        ),
        ("mine.lst", change("mine.lst", "two", "one"), "have the same name: rename one"),
        (
            "recordings.jsonl",
            change("recordings.jsonl", '"id": "two"', '"id": "one"'),
            "meetings/one.wav and meetings/two.wav have the same name: rename one",
        ),
        (PROTOCOL, change("list.lst", "two", "one"), "have the same name: rename one"),
        # Damage.
        ("recordings.jsonl", change("recordings.jsonl", "}]}", ""), "line 1: this line is damaged"),
        (
            "recordings.jsonl",
            change("supervisions.jsonl", ', "speaker": "ana"', ""),
            "the supervision 'one-1' names no speaker",
        ),
        (
            "recordings.jsonl",
            change("recordings.jsonl", '"file"', '"command"'),
            "'one' must have one source, a file or a URL, and has 1 (command)",
        ),
    ],
)
def test_what_is_wrong_is_one_line(here: Run, word: str, make: Make, said: str) -> None:
    make()
    answer = here(f"evaluate {word} --model theirs --output out")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1, answer.err
    assert said in answer.err
    assert not Path("out").exists()
