"""samevoice gate over a corpus: limits on an evaluation of turns that are known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from made_corpus import LINE
from test_family import command
from typed import Run

COUNT = 6
# Of two seconds of speech in each recording, so many are missed.
MISSED = {"A": (0.0,) * COUNT, "B": (0.2, 0.1, 0.0, 0.1, 0.2, 0.0)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the corpus, and the evaluation of both."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as moved:
        moved.chdir(place)
        folder = written()
        done = command(
            None, "evaluate", folder, "--model", "A", "--against", "B", "--output", "pair"
        )
        assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def corpus(typed: Run, made: Path) -> Path:
    """Recordings, references, and the turns of A and B; the folder is the test's own."""
    del typed
    shutil.copytree(made, ".", dirs_exist_ok=True)
    return Path("corpus")


@pytest.fixture
def pair(corpus: Path) -> Path:
    del corpus
    return Path("pair/evaluation.json")


def written() -> Path:
    folder = Path("corpus")
    folder.mkdir()
    for number in range(COUNT):
        uri = f"r{number}"
        soundfile.write(folder / f"{uri}.wav", np.zeros(32_000), 16_000)
        (folder / f"{uri}.rttm").write_text(LINE.format(uri=uri, start=0, length=2, who="ana"))
        for name, missed in MISSED.items():
            Path(name).mkdir(exist_ok=True)
            text = LINE.format(uri=uri, start=0, length=2 - missed[number], who="x")
            Path(name, f"{uri}.rttm").write_text(text)
    return folder


def interval(path: Path) -> tuple[float, float, float]:
    change = json.loads(path.read_text())["pair"]["change"]["der"]["micro"]
    return (100 * change["value"], 100 * change["low"], 100 * change["high"])


def test_a_limit_holds_at_the_upper_end(pair: Path, typed: Run) -> None:
    value, low, high = interval(pair)
    assert value == pytest.approx(100 * 0.6 / 12)
    kept = typed(f"gate {pair} --limit der_increase={high + 0.01} --limit der=99")
    assert (kept.code, kept.err) == (0, "")
    assert kept.out.startswith(f"passed  {pair}")
    said = f"der_increase is 5.00 points (95% interval {low:.2f} to {high:.2f}), at most"
    assert said in kept.out
    broken = typed(f"gate {pair} --limit der=99 --limit der_increase={value - 0.01}")
    assert broken.code == 1
    assert said in broken.err
    assert "not enough" not in broken.err


def test_too_few_recordings_are_an_answer(pair: Path, typed: Run) -> None:
    value, _, high = interval(pair)
    limit = value + (high - value) / 2  # half the interval's half: four times as many
    answer = typed(f"gate {pair} --limit der_increase={limit}")
    assert answer.code == 1
    assert f"{COUNT} recordings are not enough to say, about {4 * COUNT} would be" in answer.err


def test_one_recording_says_nothing(corpus: Path, typed: Run) -> None:
    for path in corpus.iterdir():
        if path.stem != "r0":
            path.unlink()
    assert typed(f"evaluate {corpus} --model B --output one").code == 0
    assert "about 2 would be" in typed("gate one/evaluation.json --limit der=20").err
    assert "der is 10.00 points, at most 5" in typed("gate one/evaluation.json --limit der=5").err


def test_where_nobody_speaks_in_what_is_scored(corpus: Path, typed: Run) -> None:
    (corpus / "all.uem").write_text("".join(f"r{n} 1 1.99 2\n" for n in range(COUNT)))
    for path in corpus.glob("*.rttm"):
        path.write_text(LINE.format(uri=path.stem, start=0, length=1, who="ana"))
    answer = typed(f"evaluate {corpus} --model A --output quiet")
    assert (answer.code, answer.err.count("error")) == (0, 0)
    assert json.loads(Path("quiet/evaluation.json").read_text())["systems"][0]["der"]["total"] == 0
    assert typed("gate quiet/evaluation.json --limit der=100").code == 0


def edited(path: Path, change: Any) -> None:
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def better(said: Any) -> None:
    said["systems"][1]["der"]["micro"]["value"] = 0.0


def hidden(said: Any) -> None:
    said["recordings"][0]["B"]["der"]["missed"] = 0.0


def no_recordings(said: Any) -> None:
    said["recordings"] = []


def no_systems(said: Any) -> None:
    del said["systems"][0]["label"]


@pytest.mark.parametrize("change", [better, hidden, no_recordings, no_systems])
def test_what_was_changed_by_hand_is_refused(change: Any, pair: Path, typed: Run) -> None:
    edited(pair, change)
    answer = typed(f"gate {pair} --limit der_increase=99")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"samevoice: {pair} is no evaluation: it lacks or misstates")
    assert answer.err.count("\n") == 1


def test_an_evaluation_with_failed_recordings_does_not_pass(pair: Path, typed: Run) -> None:
    edited(pair, lambda said: said["failed"].append({"uri": "r9", "why": "it was cut"}))
    answer = typed(f"gate {pair} --limit der_increase=99")
    assert answer.code == 1
    assert "1 recording failed: r9" in answer.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pair/evaluation.json", "pass --limit der_increase=0.2"),
        ("pair/evaluation.json --limit loud=1", "--limit 'loud=1' is not NAME=POINTS"),
        ("pair/evaluation.json --limit der", "--limit 'der' is not NAME=POINTS"),
        ("pair/evaluation.json --limit der=nan", "--limit 'der=nan' is not NAME=POINTS"),
        ("pair/evaluation.json --limit der=1 --bundle x", "--bundle does not go with"),
        ("none.json --limit der=1", "--limit goes with an evaluation.json"),
        ("single/evaluation.json --limit der_increase=1", "needs an evaluation of two systems"),
        ("blind/evaluation.json --limit der=1", "der needs references"),
    ],
)
def test_bad_usage_is_one_line(words: str, said: str, corpus: Path, pair: Path, typed: Run) -> None:
    if "single" in words:
        typed(f"evaluate {corpus} --model A --output single")
    if "blind" in words:
        for path in corpus.glob("*.rttm"):
            path.unlink()
        typed(f"evaluate {corpus} --model A --against B --output blind")
    answer = typed(f"gate {words}")
    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1
