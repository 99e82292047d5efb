"""A diarization in a notebook: a page in a frame where there is sound, a picture where not."""

from __future__ import annotations

import base64
import io
import pickle
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from headless import logged, one, script, show
from made_audio import RATE, Samples, recording, tone
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait

from samevoice.models.diarization.audio import AT_HAND, Audio, Source, open_audio
from samevoice.models.diarization.detection import DetectionPipeline
from samevoice.models.diarization.notebook import MOST
from samevoice.models.diarization.output import Diarization, Turns
from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline

BAD = '</script><script>alert(1)</script>" onload="alert(2)'
SPANS = [(0.5, 2.0, "ana"), (1.0, 1.5, BAD), (2.5, 4.0, "cy")]


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: str(value) for name, value in attrs}))


def diarization(source: Source | None, seconds: float = 4.0, uri: str = "talk") -> Diarization:
    turns = Turns.of(SPANS, uri)
    found = Diarization(uri, turns, turns, np.zeros((3, 2)), seconds)
    found.recording = None if source is None else open_audio(source)
    return found


def parts(found: Diarization) -> tuple[str, dict[str, str]]:
    """The one element that is shown, and its attributes."""
    ((tag, attributes),) = Tags(found._repr_html_()).found
    return tag, attributes


def waveform(samples: Samples, rate: int = RATE) -> Source:
    return {"waveform": samples[None], "sample_rate": rate}


def heard(found: Diarization) -> tuple[Samples, int]:
    """What the player of the page plays."""
    tag, attributes = parts(found)
    assert tag == "iframe"
    ((_, audio),) = [one for one in Tags(attributes["srcdoc"]).found if one[0] == "audio"]
    kind, _, content = audio["src"].partition(",")
    assert kind == "data:audio/flac;base64"
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(content)), dtype="float32")
    return samples, rate


def test_the_page_plays_what_was_heard() -> None:
    samples, rate = heard(diarization(waveform(tone(4.0))))
    assert rate == RATE
    np.testing.assert_allclose(samples, tone(4.0), atol=2**-15)


def test_what_is_louder_than_full_scale_is_not_cut_off() -> None:
    samples, _ = heard(diarization(waveform(3 * tone(4.0))))
    np.testing.assert_allclose(samples, tone(4.0) / np.abs(tone(4.0)).max(), atol=2**-15)


def test_other_rates_and_channels_are_what_the_pipeline_heard(tmp_path: Path) -> None:
    left = tone(4.0, 44_100)
    path = recording(tmp_path / "a.wav", np.stack([left, 0 * left], axis=1), 44_100)
    samples, rate = heard(diarization(path))
    assert (len(samples), rate) == (4 * RATE, RATE)
    assert abs(np.abs(samples[RATE : 2 * RATE]).max() - 0.25) < 0.01


def test_without_a_recording_there_are_lanes(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.wav", tone(4.0))
    lost, other, none = diarization(path), diarization(path, 3.5), diarization(None)
    assert parts(other)[0] == "img"  # it lasts longer than what was heard
    path.unlink()
    assert parts(lost) == parts(none)
    tag, attributes = parts(none)
    assert (tag, attributes["alt"]) == ("img", "Who speaks when in talk")
    kind, _, content = attributes["src"].partition(",")
    assert kind == "data:image/svg+xml;base64"
    picture = base64.b64decode(content).decode()
    assert picture.count("<rect") == 1 + len(SPANS)
    assert 'viewBox="0 80 1000 108"' in picture  # no room for a wave


@pytest.mark.parametrize("sound", [True, False])
def test_names_stay_inside(sound: bool) -> None:
    found = diarization(waveform(tone(4.0)) if sound else None, uri=BAD)
    _, attributes = parts(found)
    assert "onload" not in attributes
    said = attributes["title" if sound else "alt"]
    assert said == f"Who speaks when in {BAD}"
    if sound:
        assert attributes["sandbox"] == "allow-scripts allow-downloads"
        page = attributes["srcdoc"]
        assert [tag for tag, _ in Tags(page).found].count("script") == 2
        assert not re.search(r"<[^>]*alert\(", page)


def test_many_speakers_scroll() -> None:
    def height(count: int) -> int:
        found = diarization(waveform(tone(4.0)))
        found.speaker_diarization = Turns.of((0.1, 0.2, f"S{k}") for k in range(count))
        return int(re.findall(r"height:(\d+)px", parts(found)[1]["style"])[0])

    assert height(1) < height(2) < height(200) == MOST


# What a result has at hand ------------------------------------------------------------------------


def test_a_result_knows_a_short_recording(
    pipeline: SpeakerDiarizationPipeline, talk: np.ndarray, tmp_path: Path
) -> None:
    path = recording(tmp_path / "talk.wav", talk[: 2 * RATE])
    found = pipeline(path)
    assert parts(found)[0] == "iframe"
    assert parts(found.renamed({}).at_least(0.1))[0] == "iframe"
    assert "recording" not in found.as_dict()
    assert "recording" not in repr(found)
    assert pickle.loads(pickle.dumps(found))._repr_html_() == found._repr_html_()
    assert parts(pipeline(waveform(talk[: 2 * RATE])))[0] == "iframe"
    with path.open("rb") as file:
        assert pipeline(file).recording is None


def test_so_does_a_detection(bundle: Path, talk: np.ndarray) -> None:
    found = DetectionPipeline(bundle)(waveform(talk[: 2 * RATE]))
    assert parts(found)[0] == "iframe"


def test_long_recordings_are_let_go_of() -> None:
    source: Audio = open_audio(waveform(tone(1.0)))
    assert source.at_hand(AT_HAND) is source
    assert source.at_hand(AT_HAND + 0.1) is None


def test_nothing_but_the_pipelines_own_packages_is_needed() -> None:
    code = (
        "import sys\n"
        "for name in ('jinja2', 'matplotlib', 'torch', 'IPython'): sys.modules[name] = None\n"
        "import numpy as np\n"
        "from samevoice.models.diarization.audio import open_audio\n"
        "from samevoice.models.diarization.output import Diarization, Turns\n"
        "source = open_audio({'waveform': np.zeros(16000, np.float32), 'sample_rate': 16000})\n"
        "found = Diarization('a', Turns(), Turns(), np.zeros((0, 2)), 1.0, recording=source)\n"
        "assert found._repr_html_().startswith('<iframe')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# In a browser -------------------------------------------------------------------------------------


def test_a_click_in_the_frame_plays(browser: Chrome, tmp_path: Path) -> None:
    page = tmp_path / "notebook.html"
    text = diarization(waveform(tone(4.0)))._repr_html_()
    page.write_text(f"<!doctype html><meta charset=utf-8><h1>x</h1>{text}", encoding="utf-8")
    show(browser, page.as_uri())
    plain = script(browser, "return getComputedStyle(document.querySelector('h1')).fontSize")
    assert plain == "32px"
    frame = one(browser, "iframe")
    # All lanes are seen without scrolling.
    browser.switch_to.frame(frame)
    last = "[...document.querySelectorAll('.track')].at(-1).getBoundingClientRect().bottom"
    assert script(browser, f"return {last} < innerHeight")
    audio = "document.querySelector('audio')"
    wait = WebDriverWait(browser, 20)
    wait.until(lambda it: script(it, f"return {audio}.readyState >= 1"))
    script(browser, "document.querySelectorAll('.turn')[2].click()")
    wait.until(lambda it: script(it, f"return {audio}.currentTime >= 2.5"))
    assert script(browser, "return [...document.querySelectorAll('.who b')].length") == 3
    browser.switch_to.default_content()
    assert logged(browser, "browser") == []
