"""Where a port's files go: a package of its own, or the three rooms of a clone of samevoice."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import samevoice
from samevoice.family import OWN, FamilyError

PROJECT, README = "pyproject.toml", "README.md"  # of a package


@dataclass(frozen=True)
class Place:
    """The family, the network and the original by the names that import them, and all folders."""

    name: str
    folder: Path
    family: str
    network: str
    original: str
    results: Path  # what has the bundle and the comparison
    is_package: bool = True

    def file(self, module: str) -> Path:
        """Of a module that is imported by this name."""
        words = module.split(".")
        return self.folder.joinpath(*words[0 if self.is_package else 1 :]).with_suffix(".py")

    def was_written_from(self, spec: str) -> bool:
        """Whether the network stands here already, from the same class."""
        network = self.file(self.network)
        return network.is_file() and f"from {spec}(" in network.read_text(encoding="utf-8")

    @property
    def constants(self) -> Path:
        return self.file(self.network).with_suffix(".npz")

    @property
    def test(self) -> Path:
        room = "tests" if self.is_package else "tests/parity"
        return self.folder / room / f"test_{self.name}.py"

    @property
    def bundle(self) -> Path:
        return self.results / "bundle"

    @property
    def result(self) -> Path:
        return self.results / "parity"


def package(folder: Path, architecture: str) -> Place:
    """A package that is found by its entry point."""
    name = f"{_words(architecture)}_mlx"
    family, network, original = (f"{name}.{one}" for one in ("family", "network", "original"))
    return Place(name, folder, family, network, original, results=folder)


def refuse_other_clones(folder: Path) -> None:
    """A file in a clone is a family of the samevoice that runs from there, and of no other."""
    own = Path(samevoice.__file__).resolve().parents[2]
    if folder.resolve() != own or not (own / "converters" / "families").is_dir():
        raise FamilyError(
            f"--into {folder}: samevoice can write only into the clone that it runs from, and it "
            f"runs from {own}; `make setup` in a clone gives it a .venv/bin/samevoice of its own"
        )


def rooms(folder: Path, architecture: str) -> Place:
    """One file in each room of a clone, beside those that samevoice has itself."""
    name = _words(architecture)
    family, network, original = (
        f"{OWN}.{room}.{name}"
        for room in ("converters.families", "models.networks", "parity.originals")
    )
    results = folder / "out" / "port" / name
    return Place(name, folder, family, network, original, results, is_package=False)


def _words(architecture: str) -> str:
    """ "ECAPA_TDNN" -> "ecapa_tdnn", "MyNet" -> "my_net"."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", architecture)
    return re.sub(r"\W+", "_", words).lower().strip("_")
