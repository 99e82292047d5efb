"""Results that were made up, but judged as real ones are: what reports are tested on.

Each is consistent by construction: arrays -> ``judge_taps`` -> ``Result.of``. ``write_all`` puts
one of every kind into a folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from samevoice.parity.bounds import parse_override
from samevoice.parity.inputs import Input
from samevoice.parity.judge import Mode, Tap, Verdict, judge_taps
from samevoice.parity.limits import Family, limits_for
from samevoice.parity.result import Artefact, Result, write
from samevoice.parity.task import compare_decisions, compare_embeddings

Array = npt.NDArray[Any]
Spoil = Callable[[Array], Array | None]

SHA = "0123456789abcdef" * 4
VERSIONS = {"samevoice": "0.1.0", "mlx": "0.32.4", "torch": "2.13.0+cpu", "MLX_ENABLE_TF32": "0"}
ORDER: Mapping[str, tuple[str, ...]] = {
    "segmentation": (
        "sincnet.wav_norm",
        "sincnet.conv.0",
        "sincnet.norm.0.input",
        "sincnet.norm.0",
        "lstm.0.forward.input",
        "lstm.0.forward",
        "lstm.0.backward",
        "linear.0.input",
        "linear.0",
        "classifier",
        "output",
    ),
    "embedding": (
        "fbank",
        "resnet.conv1.input",
        "resnet.conv1",
        "resnet.bn1",
        "resnet.layer1.0.conv1",
        "resnet.layer1.0.bn1",
        "resnet.pool",
        "resnet.seg_1",
        "output",
    ),
}

# What someone might call a tensor, a file or a checkpoint, to see whether a report lets it out.
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "]]><evil/>",
    "--><b>bold</b><!--",
    "&lt;already&amp;escaped",
    "`code` | cell ![x](http://evil.example/x.png) [y](javascript:alert(1)) *a* _b_ # c",
    "line\nbreak\r\nand\ttab",
    "::error::forged%0A::warning::more",
    "right\u202eto\u2066left",
    "control\x00\x01\x08\x1b[31m\x7f\ufffe",
    "not utf-8 \udc80\udcff",
    "{{ 7*7 }} {% raw %} ${7*7}",
    "</title></style></textarea><svg/onload=alert(1)>",
    "a" * 300,
)


# Builders -----------------------------------------------------------------------------------------


def judged(
    taps: Iterable[Tap],
    *,
    family: Family = "embedding",
    dtype: str = "float32",
    device: str = "cpu",
    limits: Iterable[str] = (),
    task: Mapping[str, Mapping[str, Any]] | None = None,
    **changes: Any,
) -> Result:
    """Any taps -> a result; ``changes`` replace what ``Result.of`` is told."""
    chosen = limits_for(family, dtype, device).overridden(parse_override(x) for x in limits)
    all_taps = list(taps)
    outputs = ["output"] if family != "generic" else []
    verdict = judge_taps(all_taps, chosen, outputs=outputs).with_task(task_of(family, task))
    names = dict.fromkeys(tap.input for tap in all_taps if tap.input)
    told: dict[str, Any] = {
        "model_type": family,
        "source": Artefact(SHA, {"name": f"reference:{family}", "kind": "reference"}),
        "bundle": Artefact(SHA[::-1], {"name": family}),
        "versions": VERSIONS,
        "inputs": [Input(name, SHA, (1, 1, 16000), {"depth": "full"}) for name in names],
        "command": ("samevoice", "parity", f"out/{family}", "--source", f"reference:{family}"),
        "details": {"device": "CPU", "seconds": {"load": 1.5, "compare": 2.5}},
    }
    return Result.of(verdict, **(told | changes))


def task_of(
    family: str, task: Mapping[str, Mapping[str, Any]] | None = None, shift: float = 0.0
) -> dict[str, dict[str, Any]]:
    """The task's sections of a right port, or of one whose outputs are shifted."""
    if task is not None:
        return {section: dict(figures) for section, figures in task.items()}
    rng = np.random.default_rng(7)
    if family == "segmentation":
        scores = rng.normal(size=(60, 7)) * 4
        return compare_decisions(
            scores, scores + shift * rng.normal(size=scores.shape), truth=scores
        ).sections()
    if family == "embedding":
        voices = rng.normal(size=(6, 16))
        got = voices + shift * rng.normal(size=voices.shape)
        return compare_embeddings(voices, got, truth=voices, labels=list("aabbcc")).sections()
    return {}


def tap(
    name: str,
    spoil: Spoil | None = None,
    *,
    input: str = "sample",
    mode: Mode = "free",
    shape: tuple[int, ...] = (2, 64, 8),
    seed: int = 0,
) -> Tap:
    """Truth, the reference a rounding off, and the candidate another, or spoilt."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=shape)
    sides = [(truth + 1e-7 * rng.normal(size=shape)).astype(np.float32) for _ in range(2)]
    candidate = sides[1] if spoil is None else spoil(sides[1])
    return Tap(name, truth, sides[0], candidate, (), mode, input)


def taps_of(
    family: str, wrong: str = "", spoil: Spoil | None = None, inputs: Iterable[str] = ("sample",)
) -> list[Tap]:
    """All taps of a small network; free-running, whatever is wrong is wrong from there on."""
    found = []
    for name_of_input in inputs:
        reached = False
        for k, name in enumerate(ORDER[family]):
            reached = reached or name == wrong
            free, forced = (spoil if reached else None), (spoil if name == wrong else None)
            if not name.endswith(".input"):
                found.append(tap(name, free, input=name_of_input, seed=k))
            found.append(tap(name, forced, input=name_of_input, mode="forced", seed=100 + k))
    return found


@contextmanager
def drawn_once() -> Iterator[None]:
    """Tests of many pages draw equal plots once: a plot follows from the result alone."""
    from samevoice.reports.canvas import Drawing

    kept: dict[tuple[str, str], Any] = {}
    draw_it = Drawing.tried

    def drawn(self: Any, given: Any, *others: Any) -> Any:
        if not isinstance(given, Result):
            return draw_it(self, given, *others)
        # These two look at the taps only.
        bare = self.key in ("ladder", "histogram")
        seen = replace(given, details={}, task={}) if bare else given
        known = self.key, hashlib.sha256(repr(seen).encode()).hexdigest()
        if known not in kept:
            kept[known] = draw_it(self, given)
        return kept[known]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Drawing, "tried", drawn)
        yield


# One of every kind --------------------------------------------------------------------------------


def green(family: Family = "embedding", **changes: Any) -> Result:
    return judged(taps_of(family, inputs=("sample", "silence")), family=family, **changes)


def red(
    family: Family = "embedding",
    wrong: str = "resnet.pool",
    spoil: Spoil = lambda x: x[..., ::-1],
    **changes: Any,
) -> Result:
    """One tap wrong, and with it all that follow."""
    changes = {"task": task_of(family, shift=1.0)} | changes
    taps = taps_of(family, wrong, spoil, inputs=("sample", "silence"))
    return judged(taps, family=family, **changes)


def red_task(family: Family = "segmentation") -> Result:
    """Every tap within its limit, and yet other decisions."""
    return judged(taps_of(family), family=family, task=task_of(family, shift=1.0))


def many(count: int = 5000, *, wrong: bool = True) -> Result:
    """Thousands of taps, as a large network has; every hundredth fails."""
    small = judged([tap("good", shape=(2, 8)), tap("bad", lambda x: 2 * x), tap("output")])
    good, bad, output = small.taps
    taps = [
        replace(
            bad if wrong and k % 100 == 50 else good,
            name=f"blocks.{k // 20}.{k % 20}.attention.projection",
        )
        for k in range(count - 1)
    ]
    verdict = Verdict((*taps, output), small.limits, small.task)
    return Result.of(
        verdict,
        model_type=small.model_type,
        source=small.source,
        bundle=small.bundle,
        versions=small.versions,
        inputs=small.inputs,
        command=small.command,
        details=small.details,
    )


def not_a_number() -> Result:
    def spoil(x: Array) -> Array:
        y = x.copy()
        y.flat[3] = np.nan
        return y

    return red(spoil=spoil)


def infinite() -> Result:
    return red(spoil=lambda x: np.where(x > 1, np.float32(np.inf), x))


def zero_sized() -> Result:
    """Taps without an element hold no error, and have no worst place."""
    empty = [
        tap("empty", shape=(0, 8)),
        tap("no.rows", shape=(2, 0, 3)),
        tap("scalar", shape=(), seed=2),
    ]
    return judged([*empty, tap("output")])


def missing() -> Result:
    return red(spoil=lambda x: None)


def shaped() -> Result:
    """The candidate's axes lie otherwise."""
    return red(spoil=lambda x: x.swapaxes(1, 2))


def loosened(family: Family = "embedding") -> Result:
    limits = ["noise_ratio=1e9", "resnet.pool:max_abs=5", "cosine_min=0.5"]
    return red(family, spoil=lambda x: x * np.float32(1.001), limits=limits, task=task_of(family))


def coarse(dtype: str = "float16") -> Result:
    """A bundle in few bits, judged by the limits of its type."""
    rounded: Spoil = lambda x: x.astype(np.float16).astype(np.float32)  # noqa: E731
    return judged(taps_of("embedding", "fbank", rounded), dtype=dtype)


def copied() -> Result:
    """No network: arrays that are copied, as of a PLDA."""
    taps = [tap(name, input="") for name in ("plda.mu", "plda.tr", "xvec.lda")]
    equal = [Tap(one.name, one.reference, one.reference, one.reference) for one in taps]
    return judged(equal, family="generic", model_type="plda", limits=["max_abs=0"], task={})


def hostile() -> Result:
    """Every text that comes from outside tries to be something else."""
    rng = np.random.default_rng(3)
    bad: Spoil = lambda x: x + rng.normal(size=x.shape).astype(np.float32)  # noqa: E731
    taps = [
        tap(name, bad if k % 2 else None, input=HOSTILE[-1 - k], seed=k)
        for k, name in enumerate(HOSTILE)
    ]
    taps += [tap("output", bad if k else None, input=name) for k, name in enumerate(HOSTILE)]
    noted = {f"{text} note": text for text in HOSTILE}
    return judged(
        taps,
        limits=[f"{HOSTILE[0].replace('=', '')}:noise_ratio=1e12"],
        source=Artefact(
            SHA, {"name": HOSTILE[0], "kind": HOSTILE[1], "revision": HOSTILE[3]} | noted
        ),
        bundle=Artefact(SHA, {"name": HOSTILE[1]} | noted),
        versions={f"{text} version": text for text in HOSTILE},
        inputs=[Input(text, SHA, (1,), noted) for text in HOSTILE],
        command=["samevoice", "parity", *HOSTILE],
        details={
            "device": HOSTILE[0],
            "torch_threads": 2,
            "errors": {text: text for text in HOSTILE},
            "task_rows": [[text, 0, 1] for text in HOSTILE],
            "reproduction": HOSTILE[1],
        },
    )


@cache
def every_kind() -> Mapping[str, Result]:
    """Name -> result; the large one stands apart, as it takes a second."""
    return {
        "green": green(),
        "green segmentation": green("segmentation"),
        "red": red(),
        "red segmentation": red("segmentation", "lstm.0.forward"),
        "red task": red_task(),
        "nan": not_a_number(),
        "infinite": infinite(),
        "zero-sized": zero_sized(),
        "missing": missing(),
        "shaped": shaped(),
        "loosened": loosened(),
        "coarse": coarse(),
        "copied": copied(),
        "hostile": hostile(),
    }


def write_all(folder: Path) -> dict[str, Path]:
    """Name -> the path of its result.json."""
    paths = {}
    for name, result in every_kind().items():
        paths[name] = folder / name.replace(" ", "-") / "result.json"
        write(paths[name], result)
    return paths
