"""What a release is made up of: a bundle's parts, each with the result that is of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from samevoice import family
from samevoice.converters import bundle as bundles
from samevoice.converters.bundle import CONFIG, ORIGIN, PARITY, read_json
from samevoice.errors import SamevoiceError
from samevoice.parity import golden
from samevoice.parity import result as results
from samevoice.parity.result import Result

RESULT = "result.json"
PIPELINE = "pipeline"  # what the comparison of a whole pipeline is called among its parts'
# A part's folder would stand where a bundle or a release has other things.
TAKEN = (PARITY, ORIGIN, PIPELINE, golden.FOLDER)


class PartsError(SamevoiceError):
    """A config that says what no bundle's does."""


@dataclass(frozen=True)
class Part:
    """One comparison that a release must show: of a network, of data, or of a whole pipeline."""

    name: str  # "" where the bundle is one model
    folder: Path
    result_path: Path | None = None
    result: Result | None = None
    unread: str = ""  # why the result cannot be used
    others: tuple[tuple[Path, Result], ...] = ()  # further results of these very bytes

    @property
    def label(self) -> str:
        return self.name or self.kind

    @property
    def judged(self) -> Result:
        """Its result, which has been seen to be there."""
        assert self.result is not None
        return self.result

    @cached_property
    def config(self) -> dict[str, Any]:
        return read_json(self.folder / CONFIG)

    @property
    def architecture(self) -> str:
        return str(self.config.get("architecture"))

    @property
    def is_pipeline(self) -> bool:
        return bool(bundles.components(self.config))

    @property
    def is_data(self) -> bool:
        """Arrays that are only copied: compared by their values, with no outputs to replay."""
        return not self.is_pipeline and family.named(self.architecture).is_data

    @property
    def is_network(self) -> bool:
        return not self.is_pipeline and not self.is_data

    @cached_property
    def kind(self) -> str:
        """The model type, which its config cannot choose: results are judged by its rules."""
        from samevoice.converters.convert import WHOLE

        kind = WHOLE if self.is_pipeline else family.named(self.architecture).role
        if (said := self.config.get("model_type")) != kind:
            raise PartsError(
                f"{self.folder / CONFIG} says model_type {said!r:.80}, but {self.architecture} "
                f"is {kind!r}"
            )
        return kind

    @property
    def source(self) -> str:
        """Its name among the sources of the whole bundle's provenance."""
        return self.kind if self.is_pipeline else self.label

    @cached_property
    def fingerprint(self) -> str:
        from samevoice.parity.identity import fingerprint

        return fingerprint(self.folder)

    @property
    def golden(self) -> Path | None:
        """What torch said, saved beside the result."""
        if self.is_data or self.result_path is None:
            return None
        return self.result_path.parent / golden.FOLDER

    @property
    def dtype(self) -> str:
        from samevoice.parity.identity import dtype_of, dtype_of_pipeline

        if self.is_data:
            return "float32"  # by whose limits copies are judged
        return dtype_of_pipeline(self.folder) if self.is_pipeline else dtype_of(self.config)


def part_names(folder: Path) -> tuple[str, ...]:
    """The parts of a pipeline, as its config has them; none where the bundle is one model."""
    names = bundles.components(read_json(folder / CONFIG))
    for name in names:
        if not re.fullmatch(r"[\w-]+", name) or name in TAKEN or names.count(name) > 1:
            raise PartsError(f"{folder / CONFIG} names {name!r:.80}, which can be no part")
    return names


def wanted(bundle: Path) -> Iterator[Part]:
    """The comparisons that a bundle needs, without their results; that of the whole comes last."""
    names = part_names(bundle)
    for name in names:
        yield Part(name, bundle / name)
    yield Part(PIPELINE if names else "", bundle)


def parts_of(bundle: Path, paths: Sequence[Path]) -> Iterator[Part]:
    """Every comparison that this bundle needs, with the result that is of it, if any is."""
    read = [(path, *_read(path)) for path in paths]
    for part in wanted(bundle):
        yield _with_result(part, read)


def _with_result(part: Part, read: Sequence[tuple[Path, Result | None, str]]) -> Part:
    """The result of these very bytes; else one that is of this kind, to say what is wrong."""
    same = [(path, x) for path, x, _ in read if x is not None and x.model_type == part.kind]
    exact = [(path, x) for path, x in same if x.bundle.sha256 == part.fingerprint]
    for path, result in exact or same:
        others = tuple((p, x) for p, x in exact if p != path)
        return replace(part, result_path=path, result=result, others=others)
    for path, _, unread in read:
        if unread and (not part.name or path.parent.name == part.name):
            return replace(part, result_path=path, unread=unread)
    return part


def _read(path: Path) -> tuple[Result | None, str]:
    try:
        return results.read(path), ""
    except SamevoiceError as error:
        return None, str(error)


# Its files ----------------------------------------------------------------------------------------

BUNDLE_FILES = (
    r"config\.json",
    r"README\.md",
    r"provenance\.json",
    r"model\.safetensors",
    r"model-\d{5}-of-\d{5}\.safetensors",
    r"model\.safetensors\.index\.json",
    r"origin/(checkpoint\.json|kept\.safetensors|config\.yaml)",
)
PROOF_FILES = (r"result\.json", r"report\.html", r"ladder\.svg")
GOLDEN_FILES = (r"golden\.json", r"\d{3,}\.safetensors")


def strangers(folder: Path) -> list[str]:
    """Files that neither a bundle nor a release has."""
    names = part_names(folder)
    parts = "|".join(names) or "(?!)"
    known = re.compile(
        rf"(({parts})/)?({'|'.join(BUNDLE_FILES)})|{'|'.join(bundles.UNSUMMED)}"
        rf"|{PARITY}/((gallery|release|evaluation(-fast)?)\.json|(({parts}|{PIPELINE})/)?"
        rf"({'|'.join(PROOF_FILES)}|{golden.FOLDER}/({'|'.join(GOLDEN_FILES)})))"
    )
    return [name for name in bundles.files_in(folder) if not known.fullmatch(name)]


def settings_fault(folder: Path) -> str:
    """Why a pipeline's parameters are not those of the config.yaml that it came from, or ""."""
    from samevoice.converters import pipeline

    path = folder / ORIGIN / pipeline.CONFIG_YAML
    try:
        said = pipeline.parameters(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        return f"{path} cannot be read: {error}"
    found = read_json(folder / CONFIG).get("pipeline")
    if found != said:
        return f"{CONFIG} says other parameters than {ORIGIN}/{pipeline.CONFIG_YAML}"
    return ""
