"""A diarization in a notebook: the page to listen to, or a picture where there is nothing to hear.

The page is in a frame and the picture is an image, so that no style goes in or out.
"""

from __future__ import annotations

import io
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from samevoice.errors import SamevoiceError
from samevoice.models.diarization import drawing, page

if TYPE_CHECKING:
    from samevoice.models.diarization.output import Diarization

# Pixels: the page down to its lanes, a lane, and where the frame scrolls instead.
HEAD, LANE, MOST = 470, 66, 900


def html(found: Diarization) -> str:
    samples = _samples(found)
    return _picture(found) if samples is None else _frame(found, *samples)


def _samples(found: Diarization) -> tuple[NDArray[np.float32], int] | None:
    """(N,) and its rate; None where the recording is not at hand, or another than was heard."""
    source = found.recording
    if source is None:
        return None
    try:
        samples = np.concatenate(list(source.blocks()))
    except (SamevoiceError, OSError):
        return None
    rate = source.sample_rate
    return (samples, rate) if len(samples) == round(found.duration * rate) else None


def _frame(found: Diarization, samples: NDArray[np.float32], rate: int) -> str:
    """The page may run its own script and save files; it sees nothing of the notebook."""
    turns, duration = found.speaker_diarization, found.duration
    loudness = drawing.envelope([samples], duration, rate, page.COLUMNS)
    shown = page.page(turns, loudness, duration, found.uri, _flac(samples, rate))
    height = min(HEAD + LANE * len(turns.labels()), MOST)
    return (
        f'<iframe title="{drawing.title(turns)}" sandbox="allow-scripts allow-downloads" '
        f'style="width:100%;height:{height}px;border:0" srcdoc="{escape(shown)}"></iframe>'
    )


def _flac(samples: NDArray[np.float32], rate: int) -> str:
    """What the pipeline heard, as an address: every browser plays it, and from any sample."""
    import soundfile

    file = io.BytesIO()
    loudest = float(np.abs(samples).max(initial=1.0))
    soundfile.write(file, samples / loudest, rate, format="FLAC")
    return page.address("audio/flac", file.getvalue())


def _picture(found: Diarization) -> str:
    turns, silence = found.speaker_diarization, np.zeros(0, np.float32)
    picture = drawing.draw(turns, silence, found.duration)
    address = page.address("image/svg+xml", picture.encode())
    return f'<img alt="{drawing.title(turns)}" style="width:100%" src="{address}">'
