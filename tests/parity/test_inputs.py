"""Inputs are the same every time, known by their hash, and audio that does not fit is refused."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from samevoice.parity import inputs
from samevoice.parity.inputs import Example, InputError, from_audio, read_audio
from samevoice.parity.roles import RoleError, examples
from samevoice.parity.roles.embedding import masks


def write_wav(
    path: Path, values: np.ndarray, *, rate: int = 16000, channels: int = 1, width: int = 2
) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(values.tobytes())
    return path


@dataclass
class Hearing:
    """A network of a kind that needs so many samples for two frames."""

    config: dict[str, Any]
    shortest: int

    def num_frames(self, num_samples: int) -> int:
        return 1 + (num_samples >= self.shortest)


def of(kind: str, shortest: int, chosen: str = "quick") -> list[Example]:
    return examples(Hearing({"model_type": kind}, shortest), chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["segmentation", "embedding"])
@pytest.mark.parametrize("chosen", ["quick", "full"])
def test_a_set_is_the_same_every_time_and_names_nothing_twice(kind: str, chosen: str) -> None:
    first = of(kind, 1680, chosen)
    again = of(kind, 1680, chosen)
    assert [one.sha256 for one in first] == [one.sha256 for one in again]
    assert len({one.name for one in first}) == len(first)
    assert all(one.waveforms.dtype == np.float32 for one in first)
    assert all(np.isfinite(one.waveforms).all() for one in first)


@pytest.mark.parametrize("kind", ["segmentation", "embedding"])
def test_a_set_holds_what_is_asked_of_it(kind: str) -> None:
    found = {one.name: one for one in of(kind, 1261)}
    odd = {"noise", "silence", "dc offset", "clipped", "very quiet", "sweep", "1261 samples"}
    assert odd <= found.keys()
    assert {len(one.waveforms) for one in found.values()} >= {1, 3, 32}
    assert min(one.waveforms.shape[2] for one in found.values()) == 1261
    assert any(one.depth == "full" for one in found.values())
    assert any(one.labels for one in found.values())
    assert not found["silence"].waveforms.any()
    assert np.abs(found["clipped"].waveforms).max() == 1.0
    assert found["dc offset"].waveforms.mean() == pytest.approx(0.25, abs=0.01)
    assert np.abs(found["very quiet"].waveforms).max() < 0.001


def test_noise_is_this_noise() -> None:
    # A number that changes here changes every recorded result.
    assert (inputs.noise(4) * 32768).tolist() == [412, -433, 2099, 344]


def test_the_hash_tells_values_shapes_and_masks_apart() -> None:
    sound = np.zeros((2, 1, 100), np.float32)
    changed = sound.copy()
    changed[1, 0, 99] = 1e-30
    hashes = {
        Example("x", sound).sha256,
        Example("x", changed).sha256,
        Example("x", sound.reshape(1, 1, 200)).sha256,
        Example("x", sound, masks=np.zeros((2, 4), np.float32)).sha256,
    }
    assert len(hashes) == 4
    assert Example("y", sound.copy()).sha256 == Example("x", sound).sha256


def test_masks_are_full_empty_overlapping_and_three_frames() -> None:
    made = masks(2, 59)
    assert made.shape == (2, 5, 59)
    full, empty, first, second, short = made[1]
    assert full.all()
    assert not empty.any()
    assert (first * second).any()
    assert not (first * second).all()
    assert short.sum() == 3


def test_one_item_of_a_batch_keeps_its_mask() -> None:
    example = Example("x", np.arange(6, dtype=np.float32).reshape(3, 1, 2), masks(3, 9))
    one = example.item(1)
    assert one.waveforms.tolist() == [[[2.0, 3.0]]]
    assert one.masks is not None
    assert one.masks.shape == (1, 5, 9)


def test_a_wav_is_the_mean_of_its_channels(tmp_path: Path) -> None:
    values = np.array([[16384, 0], [-32768, -32768]], "<i2")
    path = write_wav(tmp_path / "x.wav", values, channels=2)
    assert read_audio(path).tolist() == [0.25, -1.0]


@pytest.mark.parametrize(("width", "kind", "loud"), [(1, "u1", 192), (4, "<i4", 2**30)])
def test_other_widths_have_the_same_scale(tmp_path: Path, width: int, kind: str, loud: int) -> None:
    path = write_wav(tmp_path / "x.wav", np.array([loud], kind), width=width)
    assert read_audio(path).tolist() == [0.5]


def test_other_formats_and_rates_are_read_as_the_pipeline_reads_them(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.flac", np.full((4000, 2), 0.5), 8000)
    found = read_audio(tmp_path / "x.flac")
    assert found.shape == (8000,)
    assert found.dtype == np.float32
    assert found[4000] == pytest.approx(0.5, abs=1e-3)


def test_what_is_no_recording_is_refused_in_one_line(tmp_path: Path) -> None:
    text = tmp_path / "x.wav"
    text.write_bytes(b"no RIFF")
    (tmp_path / "empty.wav").touch()
    for path, words in (
        (text, "x.wav"),
        (tmp_path / "empty.wav", "is empty"),
        (tmp_path / "absent.wav", "no such file"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            read_audio(path)
        assert "\n" not in str(caught.value)


def test_given_audio_comes_in_pieces_of_ten_seconds(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "talk.wav", np.arange(16000 * 25).astype("<i2"))
    found = from_audio([path, path], 1261)
    assert [one.name for one in found] == [
        "talk.wav 0-20 s",
        "talk.wav from 20 s",
        "talk.wav #3 0-20 s",
        "talk.wav #3 from 20 s",
    ]
    assert [one.waveforms.shape for one in found[:2]] == [(2, 1, 160000), (1, 1, 80000)]
    short = write_wav(tmp_path / "short.wav", np.zeros(1000, "<i2"))
    with pytest.raises(InputError, match="holds 1000 samples, but the network needs 1261"):
        from_audio([short], 1261)


@pytest.mark.parametrize("kind", ["segmentation", "embedding"])
def test_the_brief_set_is_short_and_has_all_that_a_bug_needs(kind: str) -> None:
    brief, quick = of(kind, 1261, "brief"), of(kind, 1261)
    assert sum(x.waveforms.size for x in brief) < sum(x.waveforms.size for x in quick) / 10
    assert {one.masks is None for one in brief} == {one.masks is None for one in quick}
    assert "full" in {one.depth for one in brief}


def test_unknown_sets_and_models_are_refused() -> None:
    with pytest.raises(RoleError, match="no inputs for a plda"):
        of("plda", 1)
    with pytest.raises(RoleError, match="no set of inputs called 'huge'"):
        of("embedding", 1, "huge")


# Arrays -------------------------------------------------------------------------------------------

TALK = {
    "model_type": "network",
    "inputs": [
        {"name": "x", "shape": ["B", "T", 3], "dtype": "float32"},
        {"name": "lengths", "shape": ["B"], "dtype": "int64", "from": 1, "below": "T"},
    ],
    "sizes": {"B": 2, "T": 20},
    "least": {"T": 16},
}


def test_numbers_may_all_be_one_of_the_sizes() -> None:
    lengths = {"name": "lengths", "shape": ["B"], "dtype": "int64", "value": "T"}
    x = {"name": "x", "shape": ["B", "T", 3], "dtype": "float32"}
    full = fed("full", TALK | {"inputs": [x, lengths]})
    found = {name: [*one.fed.values()][1].tolist() for name, one in full.items()}
    assert (found["as given"], found["other sizes"]) == ([20, 20], [30, 30, 30])


def fed(chosen: str, config: dict[str, Any] | None = None) -> dict[str, Example]:
    found = examples(Hearing(config or TALK, 0), chosen)  # type: ignore[arg-type]
    return {one.name: one for one in found}


def test_a_network_is_fed_what_its_config_says() -> None:
    brief, quick, full = (fed(chosen) for chosen in ("brief", "quick", "full"))
    assert list(brief) == ["as given"]
    shapes = {name: [x.shape for x in one.fed.values()] for name, one in full.items()}
    assert shapes == {
        "as given": [(2, 20, 3), (2,)],
        "other sizes": [(3, 30, 3), (3,)],
        "one": [(1, 20, 3), (1,)],
        "quiet": [(2, 20, 3), (2,)],
        "long": [(2, 80, 3), (2,)],
        "loud": [(2, 20, 3), (2,)],
        "smaller": [(2, 16, 3), (2,)],
        "large batch": [(8, 20, 3), (8,)],
    }
    assert list(quick) == list(shapes)[:5]
    x, lengths = quick["as given"].fed.values()
    assert [str(one.dtype) for one in (x, lengths)] == ["float32", "int64"]
    # Numbers that change here change every recorded result.
    assert (x[0, 0] * 4096).tolist() == [515, -541, 2623]
    assert all(1 <= n < 20 for n in lengths)
    assert np.abs(quick["quiet"].fed["argument.0"]).max() < 0.005
    assert len({one.sha256 for one in full.values()}) == len(full)
    assert {name: one.count for name, one in quick.items()} == {
        **{"as given": 2, "other sizes": 3, "one": 1, "quiet": 2, "long": 2}
    }


def test_items_that_no_batch_holds_are_not_taken_apart() -> None:
    first, second = TALK["inputs"]
    turned = {**first, "shape": ["T", "B", 3]}  # type: ignore[dict-item]
    found = fed("quick", {**TALK, "inputs": [turned, second]})
    assert {one.count for one in found.values()} == {1}
    still = fed("full", {"model_type": "network", "inputs": [{"name": "x", "shape": [2, 3]}]})
    assert list(still) == ["as given", "other values", "quiet", "loud"]


def test_arguments_come_back_from_what_was_fed() -> None:
    one = fed("quick")["other sizes"]
    again = Example.of_fed("again", one.fed)
    assert again.sha256 == one.sha256
    assert one.item(2).call(lambda x, n: (x.shape, n.shape), np.asarray) == ((1, 30, 3), (1,))
    said = one.described()
    assert (said.shape, said.notes) == ((3, 30, 3), {"depth": "free", "argument.1": "3"})
    assert (one.size, one.first.shape) == (3 * 30 * 3 + 3, (3, 30, 3))


def test_inputs_that_cannot_be_made_are_refused() -> None:
    bad = {"name": "x", "shape": [2], "dtype": "object"}
    with pytest.raises(RoleError, match="input 'x' is object: one of float32"):
        fed("brief", {**TALK, "inputs": [bad]})
    with pytest.raises(RoleError, match="size 'B', which 'sizes' lacks"):
        fed("brief", {**TALK, "sizes": {"T": 20}})
    with pytest.raises(RoleError, match="Talk has no 'inputs'"):
        fed("brief", {"model_type": "network", "architecture": "Talk"})
