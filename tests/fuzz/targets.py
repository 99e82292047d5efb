"""What is spoilt, which commands then read it, and which changes they may not overlook."""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fuzz.goods import CODECS, PLAYLISTS, SOUNDS
from fuzz.mutate import mutate

# Whether a command that says "good" of the second bytes, where the first were good, is wrong.
Counts = Callable[[bytes, bytes], bool]


@dataclass(frozen=True)
class Command:
    """Words as they are typed, {file} for the file that is spoilt; or a reader of the library."""

    words: str
    counts: Counts
    changes: tuple[str, ...] = ()  # what it may write to, beside out/
    noted: str = ""  # a note of these words is as good as a refusal

    def of(self, file: str) -> list[str]:
        return [word.format(file=file) for word in self.words.split()]


@dataclass(frozen=True)
class Target:
    name: str
    cases: int  # in a whole run
    kind: str  # of the format, for the mutators
    files: tuple[str, ...]
    commands: tuple[Command, ...]


def nothing(before: bytes, after: bytes) -> bool:
    """Any readable file is a good one: there is nothing that it could be compared with."""
    return False


def any_byte(before: bytes, after: bytes) -> bool:
    return before != after


def content(before: bytes, after: bytes) -> bool:
    """JSON of another meaning, or none; spaces and the order of keys mean nothing."""
    return bool(_json(before) != _json(after))


def _json(data: bytes) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> Any:
        return dict(pairs) if len(dict(pairs)) == len(pairs) else object()

    try:
        return json.loads(data, object_pairs_hook=once)
    except (ValueError, RecursionError):
        return object()  # equal to nothing


def outputs(before: bytes, after: bytes) -> bool:
    """Hashes of a provenance; where there are none any more, nothing is called good."""
    was, now = _json(before), _json(after)
    return not isinstance(now, dict) or was["outputs"] != now.get("outputs", was["outputs"])


def sums(before: bytes, after: bytes) -> bool:
    """The last newline of SHA256SUMS may be missing."""
    return before.rstrip(b"\n") != after.rstrip(b"\n")


# What must follow from other figures of a result, or be what it was; docs/result.md.
DECIDES = ("passed", "first_divergence", "loosened", "dtype", "device")
OF_TAPS = ("passed", "reasons", "noise_ratio", "rms", "mode", "output")


def verdict(before: bytes, after: bytes) -> bool:
    """A result that no longer says what its figures say."""
    was, now = _json(before), _json(after)
    if not isinstance(now, dict) or now.keys() != was.keys():
        return True
    if any(was[key] != now[key] for key in DECIDES) or not isinstance(now["taps"], list):
        return True
    if type(now["schema"]) is not int or not 1 <= now["schema"] <= was["schema"]:
        return True  # an older one is read as what it became
    taps = {_key(tap): tap for tap in was["taps"]}
    if len({_key(tap) for tap in now["taps"]}) != len(now["taps"]):
        return True
    return any(_tap_differs(taps.get(_key(tap)), tap) for tap in now["taps"])


def of_bundle(before: bytes, after: bytes) -> bool:
    now = _json(after)
    return verdict(before, after) or _json(before)["bundle"]["sha256"] != now["bundle"]["sha256"]


def _key(tap: Any) -> str:
    return repr([tap.get(k) for k in ("name", "mode", "input")]) if isinstance(tap, dict) else ""


def _tap_differs(was: Any, now: Any) -> bool:
    """A tap under another name is another tap: nobody can know what it was."""
    if was is None:
        return not isinstance(now, dict)
    if was.keys() != now.keys() or len(now["histogram"]) != len(was["histogram"]):
        return True
    return any(not _same(was[key], now[key]) for key in OF_TAPS)


def _same(was: Any, now: Any) -> bool:
    if isinstance(was, float) and isinstance(now, int | float) and not isinstance(now, bool):
        return math.isclose(was, now, rel_tol=1e-3)
    return bool(was == now) and isinstance(now, bool) == isinstance(was, bool)


def bugs(before: bytes, after: bytes) -> bool:
    """A gallery in which a bug is gone, or was found elsewhere than it sits.

    A name that stands twice counts as its last value, as every reader of JSON takes it.
    """
    was = _json(before)
    try:
        now = json.loads(after)
    except (ValueError, RecursionError):
        return True
    if not isinstance(now, dict) or not isinstance(now.get("findings"), list):
        return True
    rows = [row for row in now["findings"] if isinstance(row, dict)]
    known = {row["bug"] for row in was["findings"]}
    found = {row["bug"] for row in rows if isinstance(row.get("bug"), str)}
    return bool(known - found) or any(row.get("found") != row.get("where") for row in rows)


def fed(before: bytes, after: bytes) -> bool:
    """Golden data of other inputs, or of none that can be read."""
    was, now = _tensors(before), _tensors(after)
    inputs = [name for name in was if name.startswith("fed/")]
    return any(was[name] != now.get(name) for name in inputs)


def _tensors(data: bytes) -> dict[str, tuple[Any, bytes]]:
    """Name -> type, shape and bytes; nothing where the file is none."""
    try:
        (size,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + size])
        header.pop("__metadata__", None)
        body = data[8 + size :]
        return {
            name: ((one["dtype"], one["shape"]), body[slice(*one["data_offsets"])])
            for name, one in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError):
        return {}


def arrays(before: bytes, after: bytes) -> bool:
    """Other numbers, names or shapes than those they are judged against; last bits do not count."""
    was, now = _arrays(before), _arrays(after)
    if now is None or was is None or was.keys() != now.keys():
        return True
    return any(_far(was[name], now[name]) for name in was)


def _far(was: np.ndarray, now: np.ndarray) -> bool:
    if was.shape != now.shape or now.dtype.kind not in "fiub":
        return True
    # What is not finite is infinitely wrong.
    gap = np.abs(now.astype(np.float64) - was)
    return not np.all(gap <= 0.1 * np.abs(was).max())


def _arrays(data: bytes) -> dict[str, np.ndarray] | None:
    """Of npz or safetensors; None where it cannot be read, or says a thing twice."""
    try:
        if not data.startswith(b"PK"):
            return {
                name: np.frombuffer(body, _TYPES[said[0]]).reshape(said[1])
                for name, (said, body) in _tensors(data).items()
            }
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
        if len(set(names)) < len(names):
            return None
        with np.load(io.BytesIO(data)) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except Exception:  # whatever numpy has against it
        return None


_TYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8"}


def checksums(before: bytes, after: bytes) -> bool:
    """A zip whose own sums do not fit; one that was made anew with other bytes is another file."""
    try:
        with zipfile.ZipFile(io.BytesIO(after)) as archive:
            return archive.testzip() is not None
    except Exception:  # no zip: then it must not be read as one
        return True


def cut_short(before: bytes, after: bytes) -> bool:
    """A fifth or more of a recording is gone."""
    return len(after) < 0.8 * len(before) and before.startswith(after)


PARTS = ("segmentation", "embedding", "plda")
HASHED = (
    "model.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "origin/checkpoint.json",
)
DIARIZE = "diarize audio/a.wav --model bundle --output out/a.rttm --device cpu"
HEAR = "diarize {file} --model bundle --output out/a.rttm --device cpu"
BACK = "export bundle --output out/back"
GATE = "gate proof/parity/result.json --bundle proof/bundle"
OFFER = "release proof/bundle --result proof/parity --license-ok --dry-run"
CONVERT = "convert {file} --mlx-path out/b --quiet"
WHOLE = "convert full --mlx-path out/b --quiet"


def of_parts(*names: str) -> tuple[str, ...]:
    return tuple(f"bundle/{part}/{name}" for part in PARTS for name in names)


def released() -> tuple[str, ...]:
    inner = ("result.json", "report.html", "ladder.svg", "gallery.json", "release.json",
             "golden/golden.json", "golden/000.safetensors", "golden/001.safetensors")  # fmt: skip
    return tuple(
        f"proof/release/{name}"
        for name in (*HASHED, "provenance.json", "README.md", *(f"parity/{x}" for x in inner))
    )


def _listen(kinds: Mapping[str, Any], cases: int) -> tuple[Target, ...]:
    return tuple(
        Target(
            f"audio {kind}",
            cases,
            "sound",
            (f"audio/a.{kind}",),
            (Command(HEAR, cut_short, noted="note "),),
        )
        for kind in kinds
    )


TARGETS: tuple[Target, ...] = (
    Target("weights", 2000, "safetensors", of_parts("model.safetensors"),
           (Command("inspect bundle", any_byte), Command(DIARIZE, any_byte),
            Command(BACK, any_byte))),
    # diarize reads neither the index nor what the PLDA says of itself.
    Target("index", 1500, "json", of_parts("model.safetensors.index.json"),
           (Command("inspect bundle", any_byte), Command("inspect bundle --json", any_byte),
            Command(DIARIZE, nothing))),
    Target("config", 2000, "json", ("bundle/config.json", *of_parts("config.json")[:2]),
           (Command("inspect bundle", any_byte), Command(DIARIZE, content),
            Command(BACK, content))),
    Target("config of the plda", 300, "json", ("bundle/plda/config.json",),
           (Command("inspect bundle", any_byte), Command(DIARIZE, nothing))),
    Target("origin", 800, "json", of_parts("origin/checkpoint.json"),
           (Command("inspect bundle", any_byte), Command(BACK, content))),
    Target("provenance", 1500, "json", ("bundle/provenance.json", *of_parts("provenance.json")),
           (Command("inspect bundle", outputs, noted="holds no hashes"),
            Command("inspect bundle --json", outputs, noted="holds no hashes"),
            Command(DIARIZE, nothing), Command(BACK, nothing))),
    Target("result", 3000, "json", ("proof/parity/result.json",),
           (Command("gate {file}", verdict), Command(GATE, of_bundle),
            Command("gate {file} --allow-loosened", nothing), Command(OFFER, of_bundle))),
    Target("report", 150, "json", ("proof/parity/result.json",),
           (Command("report {file} --output out/page", nothing),)),
    Target("gallery", 1000, "json", ("proof/parity/gallery.json",), (Command(OFFER, bugs),)),
    Target("golden index", 500, "json", ("proof/parity/golden/golden.json",),
           (Command("replay proof/bundle --golden proof/parity/golden --device cpu", nothing),)),
    Target("golden", 500, "safetensors", ("proof/parity/golden/000.safetensors",),
           (Command("replay proof/bundle --golden proof/parity/golden --device cpu", fed),)),
    # Whatever is said of the systems and recordings may be so; the figures must fit each other.
    Target("evaluation", 500, "json", ("runs/1/evaluation.json",),
           (Command("gate {file} --limit der_increase=99", nothing),)),
    Target("gate --bundle", 500, "bytes", tuple(f"proof/bundle/{name}" for name in HASHED),
           (Command(GATE, any_byte),)),
    Target("release", 1200, "json", released(),
           (Command("verify proof/release --device cpu", any_byte),
            Command("verify proof/release --device cpu --json", any_byte))),
    Target("sums", 400, "lines", ("proof/release/SHA256SUMS",),
           (Command("verify proof/release --device cpu", sums),)),
    Target("npz", 1500, "zip", ("dumps/got.npz",),
           (Command("judge dumps/ref.npz {file}", arrays),)),
    Target("safetensors", 1000, "safetensors", ("dumps/got.safetensors",),
           (Command("judge dumps/ref.safetensors {file}", arrays),)),
    Target("limits", 500, "toml", ("limits.toml",),
           (Command("judge dumps/ref.npz dumps/got.npz --limits {file}", nothing),)),
    Target("torch zip", 1500, "zip", ("sources/zip.ckpt",),
           (Command("inspect {file}", checksums), Command(CONVERT, checksums))),
    Target("torch pickle", 1500, "pickle", ("sources/zip.ckpt",),
           (Command("inspect {file}", nothing), Command(CONVERT, nothing))),
    Target("torch before 1.6", 1000, "bytes", ("sources/old.ckpt",),
           (Command("inspect {file}", nothing), Command(CONVERT, nothing))),
    Target("source safetensors", 800, "safetensors", ("sources/plain.safetensors",),
           (Command("inspect {file}", nothing), Command(CONVERT, nothing))),
    Target("source index", 800, "json", ("sources/sharded/model.safetensors.index.json",),
           (Command("inspect sources/sharded", nothing),
            Command("convert sources/sharded --mlx-path out/b", nothing))),
    Target("plda", 1200, "zip", ("full/plda/plda.npz", "full/plda/xvec_transform.npz"),
           (Command("inspect full/plda", checksums), Command(WHOLE, checksums))),
    Target("yaml", 1200, "yaml", ("full/config.yaml",),
           (Command("inspect full", nothing), Command(WHOLE, nothing))),
    Target("speakers", 1200, "json", ("voices/speakers.json",),
           (Command("speakers list --db voices", nothing),
            Command("speakers list --db voices --json", nothing),
            Command("speakers remove Ana --db voices", nothing, ("voices",)),
            Command("speakers calibrate --db voices", nothing, ("voices",)),
            Command(f"{DIARIZE} --speakers voices", nothing))),
    Target("voices", 400, "safetensors", ("voices/*.safetensors",),
           (Command("speakers list --db voices", any_byte),
            Command(f"{DIARIZE} --speakers voices", any_byte))),
    Target("rttm", 400, "lines", ("talk.rttm",), (Command("rttm {file}", nothing),)),
    Target("uem", 400, "lines", ("talk.uem",), (Command("uem {file}", nothing),)),
    *_listen(SOUNDS, 250),
    *_listen(CODECS, 80),
    Target("playlist", 150, "lines", tuple(f"audio/{name}" for name in PLAYLISTS),
           (Command(HEAR, nothing),)),
)  # fmt: skip


BY_NAME = {target.name: target for target in TARGETS}


@dataclass(frozen=True)
class Drawn:
    """A case: which file is spoilt, what it becomes, and what reads it then."""

    file: str
    command: Command
    after: bytes


def draw(goods: Path, seed: str, target: Target, number: int) -> Drawn:
    """The same for the same words, in every process."""
    random = Random(f"{seed} {target.name} {number}")
    file, command = random.choice(files(goods, target)), random.choice(target.commands)
    times = random.choice((1, 1, 1, 2, 5))
    return Drawn(file, command, mutate(random, target.kind, (goods / file).read_bytes(), times))


def files(goods: Path, target: Target) -> list[str]:
    found = (path for pattern in target.files for path in sorted(goods.glob(pattern)))
    return [path.relative_to(goods).as_posix() for path in found]


def read_rttm(words: list[str]) -> None:
    """No command reads RTTM within a second, so its reader stands for one."""
    from samevoice.parity.pipeline.recordings import recordings_of

    recordings_of([], ["audio/a.wav"], [Path(words[1])])


def read_uem(words: list[str]) -> None:
    """Nor UEM."""
    from samevoice.evaluation import corpus

    corpus.read_uem(Path(words[1]))
