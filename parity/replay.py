"""A bundle against golden data: what torch once said of its source. It needs numpy and MLX only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from samevoice.converters import bundle as bundles
from samevoice.parity.bounds import Override
from samevoice.parity.engine import RECORDED, compare_traces
from samevoice.parity.golden import Golden, GoldenError, read, traces
from samevoice.parity.identity import device_of, dtype_of, source_of
from samevoice.parity.inputs import FORCED, FREE, OUTPUT
from samevoice.parity.judge import Verdict
from samevoice.parity.limits import limits_for

if TYPE_CHECKING:
    from samevoice.models.backend import Choice


def replay(
    bundle: str | Path,
    golden: str | Path,
    *,
    device: Choice = "auto",
    overrides: Iterable[Override] = (),
) -> Verdict:
    """A bundle against what torch once said of its source; neither torch nor pyannote is needed."""
    folder, said = Path(bundle), read(golden)
    _check_belongs(folder, said)
    config = bundles.read_json(folder / bundles.CONFIG)
    if bundles.components(config):
        from samevoice.parity.pipeline.golden import replay_pipeline

        return replay_pipeline(folder, said, device=device, overrides=overrides)
    from samevoice.parity.candidate import Candidate

    candidate = Candidate.load(folder, device)
    limits = limits_for(said.model_type, dtype_of(config), device_of(candidate))
    order = _order_of(said)
    return compare_traces(traces(said), candidate, limits.overridden(overrides), order=order)


def _check_belongs(folder: Path, said: Golden) -> None:
    config = bundles.read_json(folder / bundles.CONFIG)
    if config.get("model_type") != said.model_type:
        raise GoldenError(
            f"{folder} is a {config.get('model_type')}, the golden data a {said.model_type}'s"
        )
    if source_of(folder) != said.source_sha256:
        raise GoldenError(
            f"{folder} was made from another source than the golden data in {said.folder}: "
            "save golden data of that source"
        )


def _order_of(golden: Golden) -> list[str]:
    """Every tap that these examples must have, in the reference's order."""
    depths = {row["depth"]: row["order"] for row in golden.examples}
    if FORCED in depths:
        return [*depths[FORCED], RECORDED]
    if FREE in depths:
        return [*(tap for tap in depths[FREE] if not tap.endswith(".input")), RECORDED]
    return [OUTPUT]
