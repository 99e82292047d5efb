"""What both frameworks are fed: named, the same on every machine, recorded by hash.

Everything synthetic is rounded to 16 bits, as a recording is, so that the last bit of a sine does
not depend on whose library computed it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from samevoice.errors import MissingExtraError, SamevoiceError
from samevoice.parity.metrics import Array

# How closely an example is looked at: its output; every tap, free-running; those, and every layer
# fed with the reference's own input.
Depth: TypeAlias = Literal["output", "free", "full"]
OUTPUT_ONLY, FREE, FORCED = get_args(Depth)
OUTPUT = "output"
# By position or by name.
Arguments: TypeAlias = Mapping[str, Array] | Sequence[Array]

RATE = 16000
CHUNK = 10 * RATE  # what pyannote cuts recordings into
# pyannote's frames in ten seconds: masks come in this grid, whatever the network's own is.
MASK_FRAMES = 589
SAMPLE = 30 * RATE  # how long the recording inside pyannote.audio is
SPEECH = 16 * RATE  # where somebody speaks in the sample; its first seconds hold only a hum


class InputError(SamevoiceError):
    """Audio that cannot be read, or that neither network takes."""


@dataclass(frozen=True)
class Input:
    """What both sides were fed, as a result says it; taps refer to it by name."""

    name: str
    sha256: str
    shape: tuple[int, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Example:
    """Waveforms (B, 1, N) and, for an embedding, masks (B, F) or (B, S, F).

    ``labels`` say who is heard, one for each embedding that comes out; examples without are left
    out of the task's figures. Modules that take something else have it in ``arguments``, a port
    with other layouts in ``port_arguments``; ``items`` of them can be run one by one.
    """

    name: str
    waveforms: Array = field(default_factory=lambda: np.zeros((0, 1, 0), np.float32))
    masks: Array | None = None
    depth: Depth = "output"
    labels: tuple[str, ...] = ()
    arguments: Arguments | None = None
    port_arguments: Arguments | None = None
    items: int = 1

    @classmethod
    def of_fed(cls, name: str, fed: Mapping[str, Array]) -> Example:
        """The way back from ``fed``."""
        if _argument(0) not in fed:
            return cls(name, fed["waveforms"], fed.get("masks"))
        return cls(name, arguments=tuple(fed[_argument(n)] for n in range(len(fed))))

    @property
    def fed(self) -> dict[str, Array]:
        """Waveforms, and masks where there are some; or all arguments."""
        if self.arguments is not None:
            given = self.arguments
            return dict(given) if isinstance(given, Mapping) else dict(_numbered(given))
        masks = {} if self.masks is None else {"masks": self.masks}
        return {"waveforms": self.waveforms, **masks}

    @property
    def first(self) -> Array:
        """What the first layer takes: sounds (B, N), or the first argument."""
        return self.waveforms[:, 0] if self.arguments is None else next(iter(self.fed.values()))

    @property
    def size(self) -> int:
        """How many values are fed."""
        return sum(x.size for x in self.fed.values())

    @cached_property
    def sha256(self) -> str:
        """Over types, shapes and bytes of all that is fed."""
        digest = hashlib.sha256()
        for plain in map(np.ascontiguousarray, self.fed.values()):
            digest.update(f"{plain.dtype.str}{plain.shape}".encode())
            digest.update(plain.tobytes())
        return digest.hexdigest()

    def call(self, module: Any, convert: Callable[[Array], Any], *, port: bool = False) -> Any:
        """What the module gives for this, each array converted."""
        given = self.port_arguments if port and self.port_arguments is not None else self.arguments
        if given is None:
            given = tuple(self.fed.values())
        if isinstance(given, Mapping):
            return module(**{name: convert(x) for name, x in given.items()})
        return module(*(convert(x) for x in given))

    @property
    def count(self) -> int:
        """How many items of a batch can be run one by one."""
        return self.items if self.arguments is not None else len(self.waveforms)

    def item(self, index: int) -> Example:
        """One of the batch, alone."""
        fed = {name: x[index : index + 1] for name, x in self.fed.items()}
        return replace(Example.of_fed(self.name, fed), depth=self.depth)

    def described(self) -> Input:
        """As it stands in result.json."""
        (_, first), *others = self.fed.items()
        notes = {name: "x".join(map(str, x.shape)) for name, x in others}
        return Input(self.name, self.sha256, first.shape, {"depth": self.depth, **notes})


def _argument(number: int) -> str:
    return f"argument.{number}"


def _numbered(given: Iterable[Array]) -> Iterator[tuple[str, Array]]:
    return ((_argument(number), x) for number, x in enumerate(given))


@dataclass
class Recording:
    """What was seen of one run: each layer's output and input by name, in the order of the run."""

    outputs: dict[str, Array] = field(default_factory=dict)
    inputs: dict[str, Array] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    error: str = ""
    inside: set[str] = field(default_factory=set)  # of a layer that is compared as a whole

    def note_input(self, name: str, array: Array) -> None:
        self.inputs[name] = array
        self.order.append(into(name))

    def note_output(self, name: str, array: Array) -> None:
        self.outputs[name] = array
        self.order.append(name)

    def forget(self, name: str) -> None:
        """Take back the note of an input, if there is one."""
        if self.inputs.pop(name, None) is not None:
            self.order.remove(into(name))

    @property
    def to_feed(self) -> dict[str, Array]:
        """The inputs that layers are fed with, so that each is compared alone."""
        return {name: x for name, x in self.inputs.items() if name not in self.inside}

    @property
    def final_outputs(self) -> list[str]:
        """The outputs of the whole network: output, output.1, output.key."""
        return [name for name in self.outputs if is_output(name)]

    @property
    def taps(self) -> dict[str, Array]:
        """Inputs and outputs, the inputs by the names that they have as taps."""
        return {into(name): array for name, array in self.inputs.items()} | self.outputs


def is_output(tap: str) -> bool:
    """Whether a tap is what the whole network gives, or one of several such things."""
    return tap.partition(".")[0] == OUTPUT


def into(name: str) -> str:
    """The tap of what a layer takes: all that lies between it and the layers before it."""
    return f"{name}.input"


# Sounds -------------------------------------------------------------------------------------------


def sample() -> Array:
    """(480000,): the recording inside pyannote.audio, 30 s of two people."""
    if find_spec("pyannote") is None:
        raise MissingExtraError("pyannote.audio, whose sample both sides are fed with,", "parity")
    from samevoice.converters import reference

    return reference.sample()


def noise(samples: int, seed: int = 0) -> Array:
    """(N,): white noise at -20 dB."""
    return _rounded(0.1 * np.random.default_rng(seed).standard_normal(samples))


def normal(shape: Sequence[int], seed: int = 0) -> Array:
    """Normal numbers of deviation 1, in steps of 2^-12."""
    return 8 * _rounded(np.random.default_rng(seed).standard_normal(shape) / 8)


def sweep(samples: int) -> Array:
    """(N,): a sine that rises evenly from 20 Hz to 7.9 kHz."""
    time = np.arange(samples) / RATE
    rise = (7900.0 - 20.0) / max(samples / RATE, 1e-9)
    return _rounded(0.5 * np.sin(2 * np.pi * (20.0 + rise * time / 2) * time))


def _rounded(signal: Array) -> Array:
    return (np.clip(np.rint(signal * 32768.0), -32768, 32767) / 32768.0).astype(np.float32)


def oddities(speech: Array, samples: int, depth: Depth) -> Iterator[Example]:
    """What recordings seldom hold and networks must survive."""
    speech = speech[SPEECH : SPEECH + samples]
    sounds = {
        "noise": noise(samples),
        "silence": np.zeros(samples, np.float32),
        "dc offset": speech * np.float32(0.5) + np.float32(0.25),
        "clipped": np.clip(speech * np.float32(30.0), -1.0, 1.0),
        "very quiet": speech * np.float32(2.0**-10),  # -60 dB
        "sweep": sweep(samples),
    }
    for name, sound in sounds.items():
        yield Example(name, batch([sound]), depth=depth)


def stand_in() -> Array:
    """(480000,): as long as the recording inside pyannote.audio, and silent."""
    return np.zeros(SAMPLE, np.float32)


def lengths(speech: Array, shortest: int, whole: bool) -> Iterator[Example]:
    """From the shortest that gives a number, in steps that cross the edges of frames."""
    speech = speech[SPEECH:]
    extra = (0, 1, 159, 161, 269, 271) if not whole else (0, 1, *range(79, 2700, 80))
    for more in extra:
        length = shortest + more
        yield Example(f"{length} samples", batch([speech[:length]]))


def shortest_for(num_frames: Callable[[int], int]) -> int:
    """The least number of samples that gives two frames.

    One frame has neither an instance's variance nor an unbiased deviation: pyannote refuses it, or
    answers NaN.
    """
    low, high = 1, CHUNK
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if num_frames(middle) >= 2 else (middle + 1, high)
    return low


def batch(sounds: Iterable[Array]) -> Array:
    """Sounds of (N,) -> (B, 1, N) in float32."""
    return np.stack([np.asarray(sound, dtype=np.float32) for sound in sounds])[:, None]


def pieces(sound: Array, count: int, samples: int) -> list[Array]:
    """``count`` pieces that lie evenly over the sound."""
    starts = np.linspace(0, len(sound) - samples, count).astype(int)
    return [sound[start : start + samples] for start in starts]


# Audio that is given ------------------------------------------------------------------------------


def from_audio(
    paths: Sequence[str | Path], shortest: int, labels: tuple[str, ...] = ()
) -> list[Example]:
    """Recordings in pieces of ten seconds, at most eight in a batch; the rest piece alone.

    ``labels`` are those of every piece.
    """
    found: list[Example] = []
    for path in paths:
        sound, name = read_audio(path), Path(path).name
        if len(sound) < shortest:
            raise InputError(
                f"{path} holds {len(sound)} samples, but the network needs {shortest}: "
                "choose a longer recording"
            )
        taken = sum(one.name.startswith(name) for one in found)
        name = f"{name} #{taken + 1}" if taken else name
        found += _pieces_of(sound, name, shortest, labels)
    return found


def _pieces_of(
    sound: Array, name: str, shortest: int, labels: tuple[str, ...]
) -> Iterator[Example]:
    whole = [sound[at : at + CHUNK] for at in range(0, len(sound) - CHUNK + 1, CHUNK)]
    for at in range(0, len(whole), 8):
        part = whole[at : at + 8]
        yield Example(f"{name} {10 * at}-{10 * (at + len(part))} s", batch(part), labels=labels)
    rest = sound[len(whole) * CHUNK :]
    if len(rest) >= shortest:
        yield Example(f"{name} from {10 * len(whole)} s", batch([rest]), labels=labels)


def read_audio(path: str | Path) -> Array:
    """(N,): any recording as the pipeline hears it, the mean of its channels at 16 kHz."""
    from samevoice.models.diarization.audio import open_audio
    from samevoice.models.diarization.decoding import AudioError

    try:
        blocks = list(open_audio(path, RATE).blocks())
    except AudioError as error:
        raise InputError(str(error)) from None
    return np.concatenate(blocks)
