"""The speaker database: names on voices, and a folder that no crash and no crowd can break."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from samevoice.models.diarization import speakers, voices
from samevoice.models.diarization.output import Diarization, Segment, Turns
from samevoice.models.diarization.speaker_files import INDEX
from samevoice.models.diarization.speakers import DEFAULT_THRESHOLD, Database
from samevoice.models.diarization.voices import (
    SpeakersError,
    assign,
    calibration,
    cosine_distances,
    equal_error,
)

Array = np.ndarray[Any, np.dtype[Any]]

PRINT = "a" * 64
OTHER = "b" * 64
# Four directions, 90 degrees apart: a cosine distance of 1.
EAST, NORTH, UP, FAR = np.eye(4)


def enrolled(path: Path, **voices: Array) -> Database:
    database = Database.open(path, PRINT, create=True)
    for name, voice in voices.items():
        rows = np.atleast_2d(voice)
        sources = [f"{name}-{number}.wav" for number in range(len(rows))]
        database.enroll(name, rows, sources, [2.5] * len(rows))
    return database


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != ".lock"}


# --- what is kept -------------------------------------------------------------------------------


def test_a_voice_comes_back_as_it_was_enrolled(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((2, 256)).astype(np.float32)
    enrolled(tmp_path / "db", Ana=rows)
    database = Database.open(tmp_path / "db", PRINT)
    (ana,) = database.speakers
    np.testing.assert_array_equal(ana.embeddings, rows)
    assert [(r.source, r.seconds) for r in ana.recordings] == [
        ("Ana-0.wav", 2.5),
        ("Ana-1.wav", 2.5),
    ]
    assert (ana.name, ana.seconds, database.names) == ("Ana", 5.0, ("Ana",))


def test_enrolling_again_extends(tmp_path: Path) -> None:
    database = enrolled(tmp_path, Ana=EAST)
    database.enroll("Ana", NORTH[None], ["b.wav"], [1])
    database.enroll("ana", UP[None], ["c.wav"], [1])
    assert [(s.name, len(s.embeddings)) for s in database.speakers] == [("Ana", 2), ("ana", 1)]


def test_the_same_recording_again_adds_nothing(tmp_path: Path) -> None:
    database = enrolled(tmp_path, Ana=np.stack([EAST, EAST]))
    before = contents(tmp_path)
    database.enroll("Ana", EAST[None], ["copy.wav"], [2.5])
    assert len(database["Ana"].recordings) == 1
    assert contents(tmp_path) == before


def test_a_recording_is_of_one_speaker(tmp_path: Path) -> None:
    database = enrolled(tmp_path, Ana=EAST)
    with pytest.raises(SpeakersError, match=r"^a\.wav is enrolled as 'Ana' already: remove"):
        database.enroll("Bob", EAST[None], ["a.wav"], [2.5])
    assert Database.open(tmp_path).names == ("Ana",)


def test_removing_takes_the_voice_from_the_disk(tmp_path: Path) -> None:
    database = enrolled(tmp_path, Ana=EAST * 0.1234, Bob=NORTH)
    voice = (EAST * 0.1234).astype(np.float32).tobytes()
    assert any(voice in data for data in contents(tmp_path).values())
    database.remove("Ana")
    assert not any(voice in data or b"Ana" in data for data in contents(tmp_path).values())
    assert Database.open(tmp_path).names == ("Bob",)
    database.remove("Bob")
    assert list(contents(tmp_path)) == [INDEX]
    assert Database.open(tmp_path).names == ()


def test_the_same_voices_make_the_same_bytes(tmp_path: Path) -> None:
    enrolled(tmp_path / "one", Ana=EAST, Bob=NORTH, Zoë=UP)
    enrolled(tmp_path / "two", Zoë=UP, Bob=NORTH, Eve=FAR, Ana=EAST).remove("Eve")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    enrolled(tmp_path / "deep" / "db", Ana=EAST)
    folder = tmp_path / "deep" / "db"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_the_files_are_what_they_are_called(tmp_path: Path) -> None:
    enrolled(tmp_path, Ana=EAST, Bob=np.stack([NORTH, UP]))
    index = json.loads((tmp_path / INDEX).read_text())
    arrays = load_file(tmp_path / index["voices"]["file"])
    assert {name: array.shape for name, array in arrays.items()} == {
        "00001": (1, 4),
        "00002": (2, 4),
    }
    assert [(s["id"], s["name"]) for s in index["speakers"]] == [("00001", "Ana"), ("00002", "Bob")]


def test_where_a_database_is_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ana")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv(speakers.PLACE, raising=False)
    assert speakers.default_place() == Path("/home/ana/.local/share/samevoice/speakers")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert speakers.default_place() == Path("/data/samevoice/speakers")
    monkeypatch.setenv(speakers.PLACE, "~/voices")
    assert speakers.default_place() == Path("/home/ana/voices")


# --- names and embeddings -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["Ana", "Zoë", "山田 太郎", "O'Brien/x\\y", "..", "🦊", "نور", "क्‍ष", "SPEAKER_00", "-x"]
)
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    enrolled(tmp_path).enroll(f"  {name}\t", EAST[None], ["a.wav"], [1])
    assert Database.open(tmp_path).names == (name,)
    assert Database.open(tmp_path, PRINT).identify(EAST[None])[0].name == name


def test_composed_and_decomposed_names_are_one(tmp_path: Path) -> None:
    database = enrolled(tmp_path, Zoë=EAST)
    database.enroll("Zoe\u0308", NORTH[None], ["b.wav"], [1])
    assert [len(s.embeddings) for s in database.speakers] == [2]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "must not be empty"),
        (" \t", "must not be empty"),
        ("a\nb", r"control character U\+000A"),
        ("a\x1b[31m", r"control character U\+001B"),
        ("a\u202eb", r"control character U\+202E"),
        ("a\udcff", r"control character U\+DCFF"),
        ("a\u2028b", r"control character U\+2028"),
        ("x" * 201, "may have 200 letters, not 201"),
        ("unknown", "what voices are called that nobody enrolled"),
        ("unknown_12", "what voices are called that nobody enrolled"),
    ],
)
def test_names_that_will_not_do(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(SpeakersError, match=said):
        enrolled(tmp_path / "db").enroll(name, EAST[None], ["a.wav"], [1])
    assert not (tmp_path / "db").exists()


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e39])
def test_a_voice_that_is_none_is_refused(tmp_path: Path, value: float) -> None:
    with (
        np.errstate(over="ignore"),
        pytest.raises(SpeakersError, match="'Ana' holds an embedding that is zero or not finite"),
    ):
        enrolled(tmp_path / "db", Ana=np.full(4, value))
    assert not (tmp_path / "db").exists()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    database = enrolled(tmp_path, Ana=EAST)
    with pytest.raises(SpeakersError, match="holds voices of 4 values, not 3"):
        database.enroll("Bob", np.ones((1, 3)), ["b.wav"], [1])
    with pytest.raises(SpeakersError, match=r"voices of shape \(1, 3\) do not fit"):
        database.identify(np.ones((1, 3)))
    with pytest.raises(SpeakersError, match=r"'Bob' is not in .*; enrolled: Ana$"):
        database.remove("Bob")
    with pytest.raises(ValueError, match="1 embeddings came with 2 sources"):
        database.enroll("Bob", NORTH[None], ["b.wav", "c.wav"], [1, 1])


def test_a_file_name_that_is_no_text_is_kept_readable(tmp_path: Path) -> None:
    database = enrolled(tmp_path)
    database.enroll("Ana", EAST[None], ["b\udcff.wav"], [1])
    assert Database.open(tmp_path)["Ana"].recordings[0].source == r"b\udcff.wav"


# --- who is who ---------------------------------------------------------------------------------


def test_distances_by_hand() -> None:
    x = np.array([[3.0, 4.0], [0.0, 0.0], [-2.0, 0.0]])
    y = np.array([[1.0, 0.0], [0.0, 1e-30]])
    np.testing.assert_allclose(
        cosine_distances(x, y), [[0.4, 0.2], [1.0, 1.0], [2.0, 1.0]], atol=1e-15
    )
    assert cosine_distances(x, np.zeros((0, 2))).shape == (3, 0)


def test_a_known_voice_is_named_with_the_next_best(tmp_path: Path) -> None:
    database = enrolled(tmp_path, Ana=EAST, Bob=NORTH)
    (match,) = database.identify(np.array([[4.0, 3.0, 0.0, 0.0]]))
    assert (match.name, match.nearest, match.runner_up) == ("Ana", "Ana", "Bob")
    assert (match.distance, match.runner_up_distance) == pytest.approx((0.2, 0.4))


def test_a_voice_at_the_threshold_is_unknown(tmp_path: Path) -> None:
    database = enrolled(tmp_path, Ana=EAST)
    assert database.threshold == DEFAULT_THRESHOLD == 0.5
    cosines = np.array([0.51, 0.49])
    rows = np.stack([cosines, np.sqrt(1 - cosines**2), [0, 0], [0, 0]], axis=1)
    known, stranger = (database.identify(row[None])[0] for row in rows)
    assert known.name == "Ana"
    assert (stranger.name, stranger.nearest) == (None, "Ana")
    assert stranger.distance == pytest.approx(0.51)


def test_every_recording_counts_the_same_however_long_its_vector(tmp_path: Path) -> None:
    # The mean of the raw vectors would point east.
    database = enrolled(tmp_path, Ana=np.stack([100 * EAST, NORTH]))
    (match,) = database.identify((EAST + NORTH)[None])
    assert match.distance == pytest.approx(0, abs=1e-12)


def test_nobody_known_and_nobody_there(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "none", PRINT, create=True)
    (match,) = database.identify(np.ones((1, 256)))
    assert (match.name, match.distance, match.nearest, match.runner_up) == (
        None,
        np.inf,
        None,
        None,
    )
    assert database.identify(np.zeros((0, 256))) == []
    assert enrolled(tmp_path / "db", Ana=EAST).identify(np.zeros((0, 256))) == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_voice_of_which_nothing_is_known_is_nobody(tmp_path: Path, value: float) -> None:
    database = enrolled(tmp_path, Ana=EAST)
    matches = database.identify(np.stack([np.full(4, value), EAST]))
    assert [match.name for match in matches] == [None, "Ana"]


def test_a_name_goes_to_one_voice_the_best(tmp_path: Path) -> None:
    database = enrolled(tmp_path, Ana=EAST)
    matches = database.identify(np.stack([EAST + 0.5 * NORTH, EAST, EAST + 0.1 * NORTH]))
    assert [match.name for match in matches] == [None, "Ana", None]
    assert matches[0].nearest == "Ana"


def test_a_good_match_is_not_given_up_to_name_one_more() -> None:
    # The first voice is Ana's; as Bob, with the second as Ana, both would have a name.
    assert assign(np.array([[0.1, 0.45], [0.3, 0.9]]), 0.5) == [0, None]
    assert assign(np.array([[0.1, 0.2], [0.15, 0.9]]), 0.5) == [1, 0]
    assert assign(np.zeros((2, 0)), 0.5) == [None, None]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4), st.integers(0, 3), st.integers(0, 10**6))
def test_no_other_assignment_is_better(voices: int, known: int, seed: int) -> None:
    from itertools import product

    distances = np.random.default_rng(seed).random((voices, known))
    chosen = assign(distances, 0.5)

    def cost(choice: tuple[int | None, ...]) -> float:
        return sum(0.5 if k is None else distances[s, k] for s, k in enumerate(choice))

    taken = [k for k in chosen if k is not None]
    assert len(set(taken)) == len(taken)
    assert all(distances[s, k] < 0.5 for s, k in enumerate(chosen) if k is not None)
    others = product([None, *range(known)], repeat=voices)
    valid = (c for c in others if len(set(c) - {None}) == voices - c.count(None))
    assert cost(tuple(chosen)) == pytest.approx(min(cost(choice) for choice in valid))


def diarization(*voices: Array) -> Diarization:
    labels = [f"SPEAKER_{number:02d}" for number in range(len(voices))]
    turns = Turns(tuple((Segment(i, i + 1.0), label) for i, label in enumerate(labels)), "clip")
    return Diarization("clip", turns, turns, np.array(voices), float(len(voices)))


def test_a_result_with_names(tmp_path: Path) -> None:
    database = enrolled(tmp_path, **{"Ana María": EAST, "Bob": NORTH})
    named = database.named(diarization(UP, NORTH, FAR, EAST, np.zeros(4)))
    speakers = [who for _, who in named.speaker_diarization]
    assert speakers == ["unknown", "Bob", "unknown_2", "Ana María", "unknown_3"]
    assert [who for _, who in named.exclusive_speaker_diarization] == speakers
    voices = dict(zip(named.labels, named.speaker_embeddings, strict=True))
    np.testing.assert_array_equal(voices["Bob"], NORTH)
    assert " Ana_María <NA>" in named.to_rttm()


def test_a_result_in_which_nobody_speaks(tmp_path: Path) -> None:
    nobody = replace(diarization(), speaker_embeddings=np.zeros((0, 4)))
    assert enrolled(tmp_path, Ana=EAST).named(nobody).labels == []


# --- calibration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("same", "different", "threshold", "rate"),
    [
        ([0.1, 0.3], [0.7, 0.9], 0.5, 0.0),  # apart: the middle of the gap
        ([0.1, 0.2, 0.6], [0.5, 0.8, 0.9], 0.55, 1 / 3),  # 0.6 missed, 0.5 taken for the same
        ([0.1, 0.2, 0.3, 0.8], [0.7, 0.9], 0.5, 1 / 8),  # not equal: 1/4 and 0, not 1/4 and 1/2
        ([0.4], [0.4], 0.4, 0.5),
    ],
)
def test_thresholds_by_hand(
    same: list[float], different: list[float], threshold: float, rate: float
) -> None:
    got = equal_error(np.array(same), np.array(different))
    assert got == pytest.approx((threshold, rate))


def at(*angles: float) -> Array:
    """Unit vectors in a plane, by degrees."""
    return np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], axis=1)


def test_calibration_by_hand() -> None:
    # Ana at 0 and 20 degrees, Bob at 90 and 110, Eve, once, at 250. Own pairs are 20 degrees
    # apart; the nearest stranger is Ana's 20 to Bob's 100, 80 degrees.
    found = calibration({"Ana": at(0, 20), "Bob": at(90, 110), "Eve": at(250)}, "recordings")
    own, stranger = 1 - np.cos(np.radians([20, 80]))
    assert found.threshold == pytest.approx((own + stranger) / 2, abs=1e-6)
    assert (found.error_rate, found.same, found.different) == (0, 4, 10)
    assert (found.speakers, found.recordings, found.origin) == (3, 5, "recordings")


def test_calibration_leaves_the_recording_itself_out() -> None:
    # With it, each would be 30 degrees from its own centroid, not 60.
    same, _ = voices.distances_of({"Ana": at(0, 60), "Bob": at(180, 240)})
    np.testing.assert_allclose(same, 0.5, atol=1e-7)


def test_a_recording_given_twice_counts_once() -> None:
    with pytest.raises(SpeakersError, match=r"^1 of 2 speakers have two or more recordings"):
        calibration({"Ana": at(0, 0), "Bob": at(90, 110)}, "recordings")


@pytest.mark.parametrize("voices", [{}, {"Ana": at(0, 20)}, {"Ana": at(0, 20), "Bob": at(90)}])
def test_too_few_recordings_are_refused(voices: dict[str, Array]) -> None:
    with pytest.raises(SpeakersError, match=r"calibration\s+needs two such speakers"):
        calibration(voices, "recordings")


def test_recordings_under_wrong_names_are_refused() -> None:
    with pytest.raises(SpeakersError, match="is each under the right name"):
        calibration({"Ana": at(0, 90), "Bob": at(1, 91)}, "recordings")


def test_a_calibrated_threshold_is_kept_and_used(tmp_path: Path) -> None:
    database = enrolled(tmp_path, Ana=at(0, 20), Bob=at(90, 110))
    assert database.calibration is None
    found = database.calibrate()
    assert found.origin == "enrolled"
    again = Database.open(tmp_path, PRINT)
    assert again.calibration is not None
    assert again.calibration == found
    assert again.threshold == found.threshold == pytest.approx(0.443, abs=1e-3)
    # Ana is at 10 degrees: 55 degrees off is known, 57 is not, and 60 would be by default.
    assert [again.identify(at(10 - off))[0].name for off in (55, 57)] == ["Ana", None]
    other = again.calibrate({"Ana": at(0, 30), "Bob": at(90, 120)})
    assert Database.open(tmp_path).calibration == other != found


def test_a_refused_calibration_changes_nothing(tmp_path: Path) -> None:
    database = enrolled(tmp_path, Ana=at(0, 20))
    before = contents(tmp_path)
    with pytest.raises(SpeakersError, match="needs two such speakers"):
        database.calibrate()
    assert contents(tmp_path) == before


# --- damaged, foreign, newer --------------------------------------------------------------------


def test_another_models_database_is_refused_by_name(tmp_path: Path) -> None:
    database = enrolled(tmp_path, Ana=EAST)
    with pytest.raises(SpeakersError, match=f"model {'a' * 12}, and this is {'b' * 12}: voices of"):
        Database.open(tmp_path, OTHER)
    assert Database.open(tmp_path).fingerprint == PRINT
    # And if it became another model's behind the back of an open one.
    database.remove("Ana")
    index = tmp_path / INDEX
    index.write_text(index.read_text().replace(PRINT, OTHER))
    with pytest.raises(SpeakersError, match="cannot be compared"):
        database.enroll("Ana", EAST[None], ["a.wav"], [1])


def test_no_database_says_how_to_make_one(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(SpeakersError, match="holds no speaker database: samevoice speakers en"):
            Database.open(path)


def spoil_index(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        index = json.loads((folder / INDEX).read_text())
        edit(index)
        (folder / INDEX).write_text(json.dumps(index))

    return spoil


def voices_file(folder: Path) -> Path:
    return next(folder.glob("voices-*.safetensors"))


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (lambda f: os.truncate(voices_file(f), 90), "is not as it was written, or was cut"),
    "one bit": (
        lambda f: voices_file(f).write_bytes(voices_file(f).read_bytes()[:-1] + b"\x01"),
        "is not as it was written",
    ),
    "no voices": (lambda f: voices_file(f).unlink(), "voices that speakers.json names are not"),
    "no index": (lambda f: (f / INDEX).unlink(), "holds 'voices-.*' and no speakers.json"),
    "cut index": (lambda f: os.truncate(f / INDEX, 50), "speakers.json is damaged"),
    "empty index": (lambda f: os.truncate(f / INDEX, 0), "speakers.json is damaged"),
    "no text": (lambda f: (f / INDEX).write_bytes(b"\xff\xfe"), "speakers.json is damaged"),
    "deep": (lambda f: (f / INDEX).write_text("[" * 100_000), "speakers.json is damaged"),
    "foreign": (lambda f: (f / INDEX).write_text('{"kind": "x"}'), "is no speaker database"),
    "a list": (lambda f: (f / INDEX).write_text("[]"), "it is no JSON object"),
    "newer": (spoil_index(lambda i: i.update(schema=2)), r"newer samevoice \(schema 2, this one"),
    "no name": (spoil_index(lambda i: i["speakers"][0].pop("name")), "is damaged .KeyError"),
    "bad name": (spoil_index(lambda i: i["speakers"][0].update(name="a\n b")), "is damaged"),
    "number": (spoil_index(lambda i: i["speakers"][0].update(name=7)), "is damaged"),
    "twice": (spoil_index(lambda i: i["speakers"].append(i["speakers"][0])), "stands there twice"),
    "too many": (spoil_index(lambda i: i["speakers"][0]["recordings"].clear()), "0 recordings"),
    "seconds": (
        spoil_index(lambda i: i["speakers"][0]["recordings"][0].update(seconds=float("nan"))),
        "NaN is no number",
    ),
    "many seconds": (
        spoil_index(lambda i: i["speakers"][0]["recordings"][0].update(seconds=10**400)),
        "is damaged .OverflowError",
    ),
    "half a letter": (spoil_index(lambda i: i.update(fingerprint="\ud800")), "half of a character"),
    "no text in a source": (
        spoil_index(lambda i: i["speakers"][0]["recordings"][0].update(source="\udcff")),
        "half of a character",
    ),
    "threshold": (spoil_index(lambda i: i.update(calibration={"threshold": 3})), "is damaged"),
    "outside": (spoil_index(lambda i: i["voices"].update(file="../x")), "voices cannot be in"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_damaged_database_is_one_sentence(tmp_path: Path, how: str) -> None:
    database = enrolled(tmp_path, Ana=EAST)
    spoil, said = SPOILT[how]
    spoil(tmp_path)
    left = contents(tmp_path)
    for use in (
        lambda: Database.open(tmp_path, PRINT),
        lambda: database.enroll("Bob", NORTH[None], ["b.wav"], [1]),
    ):
        with pytest.raises(SpeakersError, match=said) as told:
            use()
        assert "\n" not in str(told.value)
    assert contents(tmp_path) == left


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_edit_makes_it_a_fault_of_ours(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("edited")
    enrolled(folder, Ana=EAST, Bob=NORTH)
    text = bytearray((folder / INDEX).read_bytes())
    place = data.draw(st.integers(0, len(text) - 1))
    text[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    (folder / INDEX).write_bytes(text)
    try:
        database = Database.open(folder)
    except SpeakersError:
        return
    assert len(database.names) == len(database.speakers)


@pytest.mark.parametrize("name", [INDEX, "voices-*.safetensors"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_a_pipe_or_a_device_in_it_is_refused(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    enrolled(tmp_path, Ana=EAST)
    (path,) = tmp_path.glob(name)
    path.unlink()
    make(path)
    with pytest.raises(SpeakersError, match=f"{path.name} is not an ordinary file"):
        Database.open(tmp_path, PRINT)


def test_a_database_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "db")
    with pytest.raises(SpeakersError, match="is no folder"):
        Database.open(tmp_path / "db", PRINT, create=True)


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SpeakersError, match=r"holds 'mine.txt' and no speakers.json"):
        enrolled(tmp_path, Ana=EAST)
    with pytest.raises(SpeakersError, match="is no folder, so no speaker database"):
        Database.open(tmp_path / "mine.txt", PRINT, create=True)
    assert list(contents(tmp_path)) == ["mine.txt"]


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = enrolled(tmp_path, Ana=EAST)
    before = contents(tmp_path)
    real = os.fsync
    for good in (0, 1, 2):  # what fails: the voices, their folder, the index
        left = [None] * good

        def full(handle: int, left: list[None] = left) -> None:
            if not left:
                raise OSError(28, "No space left on device")
            left.pop()
            real(handle)

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(SpeakersError, match="cannot be written: No space left on device; no"):
            database.enroll("Bob", NORTH[None], ["b.wav"], [1])
        assert contents(tmp_path) == before
        assert database.names == ("Ana",)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SpeakersError, match="cannot be written: Permission denied"):
        enrolled(tmp_path / "db", Ana=EAST)


# --- two at once, and a kill in between ---------------------------------------------------------

CROWD = """
import sys
import numpy as np
from samevoice.models.diarization.speakers import Database
path, who = sys.argv[1:]
database = Database.open(path, "a" * 64, create=True)
print("ready", flush=True)
sys.stdin.read(1)
for number in range(20):
    row = np.random.default_rng([ord(who), number]).standard_normal((1, 256))
    database.enroll(f"{who}{number}", row, [f"{who}{number}.wav"], [1.0])
    Database.open(path)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", script, *map(str, arguments)]
    environment = os.environ | {"SAMEVOICE_BLAS": "none"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(line, env=environment, text=True, **pipes)  # type: ignore[call-overload, no-any-return]


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    both = [start(CROWD, tmp_path / "db", who) for who in "xy"]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:  # both may go before either is waited for
        assert process.stdin is not None
        process.stdin.write("g")
        process.stdin.flush()
    ended = [process.communicate() for process in both]
    assert [(p.returncode, err) for p, (_, err) in zip(both, ended, strict=True)] == [(0, "")] * 2
    database = Database.open(tmp_path / "db", PRINT)
    assert set(database.names) == {f"{who}{number}" for who in "xy" for number in range(20)}
    for speaker in database.speakers:
        seed = [ord(speaker.name[0]), int(speaker.name[1:])]
        row = np.random.default_rng(seed).standard_normal((1, 256)).astype(np.float32)
        np.testing.assert_array_equal(speaker.embeddings, row)
    assert len(contents(tmp_path / "db")) == 2


def test_files_are_replaced_and_never_rewritten(tmp_path: Path) -> None:
    # A half-written file could be seen, or stay; the old one, by another name, shows none was.
    database = enrolled(tmp_path / "db", Ana=EAST)
    for name, data in contents(tmp_path / "db").items():
        os.link(tmp_path / "db" / name, tmp_path / name)
        assert (tmp_path / name).read_bytes() == data
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    database.enroll("Bob", NORTH[None], ["b.wav"], [1])
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


# Stops for good just before its n-th rename or deletion: each moment at which a kill may come.
HANG = """
import os, signal, sys
from pathlib import Path
import numpy as np
from samevoice.models.diarization.speakers import Database
path, at = sys.argv[1], int(sys.argv[2])
count = 0
def before(real):
    def step(*args, **kwargs):
        global count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return step
Path.replace, Path.unlink = before(Path.replace), before(Path.unlink)
database = Database.open(path, "a" * 64, create=True)
database.enroll("Bob", np.eye(4)[1:2], ["b.wav"], [1.0])
"""


@pytest.mark.parametrize("fresh", [True, False])
def test_a_kill_leaves_the_state_before_or_after(tmp_path: Path, fresh: bool) -> None:
    for at in range(1, 9):
        folder = tmp_path / f"db{at}"
        if not fresh:
            enrolled(folder, Ana=EAST)
        ended = start(HANG, folder, at)
        _, said = ended.communicate()
        database = Database.open(folder, PRINT, create=True)
        before = () if fresh else ("Ana",)
        assert database.names in (before, (*before, "Bob"))
        database.enroll("Eve", UP[None], ["c.wav"], [1])
        assert database.names == tuple(sorted({*database.names, "Eve"}))
        assert len(contents(folder)) == 2, "what the killed one left is gone"
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, said
    assert ended.returncode == 0
    assert at > 2, "some steps were interrupted"


def test_importing_it_brings_in_no_framework() -> None:
    script = (
        "import sys, samevoice.models.diarization.speakers\n"
        "heavy = {'torch', 'mlx.core', 'pyannote', 'scipy'} & sys.modules.keys()\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
