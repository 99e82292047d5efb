"""A copy of a pipeline's bundle with other numbers, in its config and in its config.yaml."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samevoice.converters import bundle, pipeline, restore
from samevoice.errors import BundleError, ConversionError
from samevoice.files import read_text


def refuse(folder: Path, target: Path, *, overwrite: bool) -> None:
    """Before the work: whether ``target`` can become a copy of the bundle at ``folder``."""
    bundle.refuse_existing(target, overwrite=overwrite)
    if folder.resolve().is_relative_to(target.resolve()):
        raise ConversionError(f"{target} holds the bundle itself: choose another --mlx-path")
    restore.is_exact(folder)  # which refuses files that were changed
    _refuse_two_minds(folder)


def _refuse_two_minds(folder: Path) -> None:
    """What runs here and what ``export`` gives back must be the same pipeline."""
    yaml = folder / bundle.ORIGIN / pipeline.CONFIG_YAML
    with bundle.understood(yaml):
        said = pipeline.parameters(read_text(yaml, BundleError), str(yaml))
    if said != bundle.read_json(folder / bundle.CONFIG).get("pipeline"):
        raise BundleError(f"config.json of {folder} and {yaml} differ: convert the source again")


def retuned(
    folder: Path,
    target: Path,
    numbers: Mapping[str, Any],
    said: Mapping[str, Any],
    note: str,
    *,
    overwrite: bool = False,
) -> None:
    """Write the copy; ``said`` and ``note`` tell where the numbers come from.

    ``export`` gives the numbers back to pyannote, as they stand in the copy's config.yaml.
    """
    refuse(folder, target, overwrite=overwrite)
    with bundle.written_aside(target, overwrite=overwrite) as aside:
        shutil.copytree(folder, aside, dirs_exist_ok=True)
        config = bundle.read_json(aside / bundle.CONFIG)
        config["pipeline"] |= numbers
        bundle.write_json(aside / bundle.CONFIG, config)
        yaml = aside / bundle.ORIGIN / pipeline.CONFIG_YAML
        text = read_text(yaml, BundleError)
        yaml.write_text(pipeline.renumbered(text, numbers), encoding="utf-8")
        _refuse_two_minds(aside)
        with (aside / bundle.CARD).open("a", encoding="utf-8") as card:
            card.write(f"\n- {note}\n")
        provenance = bundle.read_json(aside / bundle.PROVENANCE)
        provenance |= {"tuned": said, "notes": [*provenance["notes"], note]}
        provenance["outputs"] = bundle.file_hashes(aside)
        bundle.write_json(aside / bundle.PROVENANCE, provenance)
