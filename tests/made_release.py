"""A small segmentation that was converted and compared, and what a release needs beside it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import made_up

from samevoice.converters import bundle as bundles
from samevoice.parity import gallery, gallery_file
from samevoice.parity import result as results
from samevoice.parity.bounds import parse_override
from samevoice.parity.gallery import Finding
from samevoice.parity.identity import versions
from samevoice.parity.limits import loosened
from samevoice.parity.result import Result
from samevoice.release import terms


@dataclass(frozen=True)
class Ready:
    """All that leads to a release, in folders of its own."""

    folder: Path

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    @property
    def parity(self) -> Path:
        return self.folder / "parity"

    @property
    def release(self) -> Path:
        return self.folder / "release"

    @property
    def gallery(self) -> Path:
        return self.parity / "gallery.json"

    def offer(self, **more: Any) -> terms.Offer:
        return terms.offer(self.bundle, [self.parity], **{"licence_ok": True, **more})

    def copy(self, folder: Path) -> Ready:
        shutil.copytree(self.folder, folder)
        return Ready(folder)


# Of what a gallery is made up: the small network that is released here.
CONFIGS: dict[str, dict[str, Any]] = {
    "segmentation": {
        "architecture": "PyanNet",
        "sincnet": {"stride": 10},
        "lstm": {"hidden_size": 8, "num_layers": 1, "bidirectional": True},
        "linear": {"hidden_size": 8, "num_layers": 2},
        "num_classes": 7,
        "activation": "log_softmax",
    },
    "embedding": {"architecture": "WeSpeakerResNet34"},
}


def all_found(family: str, config: Mapping[str, Any], architecture: str = "") -> list[Finding]:
    """Every bug that such a network can have, found where it is."""
    name = architecture or str(config["architecture"])
    rows = [(x, x.layer.path or "sincnet.conv.1") for x in gallery.known(config)]
    return [Finding(x.name, x.bug.effect, family, name, at, at, 1e4) for x, at in rows]


def write_gallery(path: Path, *families: str, **more: Any) -> None:
    """A gallery in which every known bug was found; ``architecture``: of another one."""
    configs = CONFIGS | more.get("configs", {})
    found = [
        one
        for family in families
        for one in all_found(family, configs[family], more.get("architecture", ""))
    ]
    made = {"samevoice": more.get("version", versions()["samevoice"])}
    path.write_text(gallery_file.written({"made up": found}, made))


def rejudged(result: Result, *texts: str) -> Result:
    """The same figures under other limits."""
    limits = result.limits.overridden(parse_override(text) for text in texts)
    taps = tuple(
        replace(tap, passed=not (why := tap.violations(limits)), reasons=why) for tap in result.taps
    )
    verdict = replace(result.verdict, taps=taps, limits=limits)
    return replace(
        result,
        taps=taps,
        limits=limits,
        passed=verdict.passed,
        first_divergence=verdict.first_divergence,
        loosened=loosened(limits, verdict.outputs),
    )


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """A JSON file, changed in place, or by what the change gives back."""
    found = json.loads(path.read_text())
    made = change(found)
    path.write_text(json.dumps(found if made is None else made))


def edit_result(ready: Ready, change: Callable[[Result], Result]) -> None:
    path = ready.parity / "result.json"
    results.write(path, change(results.read(path)))


def sum_again(folder: Path) -> None:
    """What a careful forger does: every hash as the files are now."""
    made_up.record(folder)
    names = (name for name in bundles.files_in(folder) if name not in bundles.UNSUMMED)
    lines = (f"{hashlib.sha256((folder / x).read_bytes()).hexdigest()}  {x}\n" for x in names)
    (folder / "SHA256SUMS").write_text("".join(lines))
