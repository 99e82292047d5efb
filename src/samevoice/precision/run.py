"""From a float32 bundle to the smallest mixture that keeps its limits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from samevoice import family
from samevoice.converters import bundle as bundles
from samevoice.converters.recipe import TYPES, Recipe
from samevoice.evaluation.corpus import Corpus
from samevoice.evaluation.run import at_hand
from samevoice.evaluation.scores import Score, judge
from samevoice.models import backend
from samevoice.parity import identity
from samevoice.parity.bounds import LimitsError, Override
from samevoice.parity.identity import ParityError
from samevoice.precision import search
from samevoice.precision.found import FOUND, FoundPart, Heard, Layer, Precision, Rung
from samevoice.precision.search import Choice
from samevoice.precision.trial import Figures, Trial

Progress = Callable[[str, int, int], None]  # what is measured, done, in all


def run(
    bundle: str | Path,
    source: str | Path,
    *,
    corpus: Corpus | None = None,
    overrides: Iterable[Override] = (),
    device: backend.Choice = "auto",
    progress: Progress = lambda what, done, total: None,
) -> Precision:
    """Every layer in every type, then the search; with a corpus the whole pipeline over it."""
    folder, asked = Path(bundle), list(overrides)
    parts = bundles.components(bundles.read_json(folder / bundles.CONFIG))
    if corpus and not parts:
        raise ParityError(f"{folder} is no whole pipeline: a corpus needs one")
    identity.strict_float32()
    names = [x for x in parts or ("",) if not _is_data(folder / x)]
    if not names:
        raise ParityError(f"{folder} holds data, which are never rounded: name a network")
    trials = {name: Trial.of(folder / name, source, device, asked) for name in names}
    _refuse_unknown(asked, trials.values())
    found = tuple(_part(name, trial, progress) for name, trial in trials.items())
    heard = _heard(folder, corpus, trials, found, device, progress) if corpus else None
    others = sum(_size(folder / x) for x in parts if x not in trials)
    hashed = identity.fingerprint(folder)
    return Precision(folder.resolve().name, hashed, str(source), found, others, heard)


def _is_data(folder: Path) -> bool:
    config = bundles.read_json(folder / bundles.CONFIG)
    return family.named(config.get("architecture")).is_data


def _size(folder: Path) -> int:
    index = bundles.read_json(folder / bundles.INDEX)
    with bundles.understood(folder / bundles.INDEX):
        return int(index["metadata"]["total_size"])


def _refuse_unknown(overrides: Iterable[Override], trials: Iterable[Trial]) -> None:
    known = {name for trial in trials for name in trial.limits.for_task}
    for one in overrides:
        if one.tap or one.metric not in known:
            raise LimitsError(
                f"limit {one.metric} is none of the task, which the search keeps: name "
                f"{', '.join(sorted(known))}"
            )


# One network --------------------------------------------------------------------------------------


def _part(name: str, trial: Trial, progress: Progress) -> FoundPart:
    architecture = str(trial.part.config["architecture"])
    title = name or architecture
    total = sum(len(trial.types_of(layer)) for layer in trial.layers)
    progress(title, 0, total)
    ladder = tuple(_rung(trial, one, Recipe(default=one)) for one in TYPES)
    if broken := ladder[0].figures.broken:
        raise LimitsError(f"float32 itself breaks a limit of {title}: {broken[0]}")
    layers: list[Layer] = []
    for layer, values in trial.layers.items():
        layers.append(_layer(trial, layer, values))
        progress(title, sum(len(one.figures) for one in layers), total)
    tried = _searched(trial, ladder[0].figures, layers)
    kept = [one for one in (*ladder, *tried) if one.figures.kept]
    best = min(kept, key=lambda one: one.nbytes)
    found = Rung(FOUND, best.recipe, best.nbytes, best.figures)
    return FoundPart(name, architecture, trial.limits, tuple(layers), ladder, tried, found)


def _rung(trial: Trial, name: str, recipe: Recipe) -> Rung:
    return Rung(name, recipe, trial.nbytes(recipe), trial.measure(recipe))


def _layer(trial: Trial, layer: str, values: int) -> Layer:
    recipes = {one: Recipe(layers={layer: one}) for one in trial.types_of(layer)}
    return Layer(
        layer,
        values,
        {one: trial.nbytes(recipe) for one, recipe in recipes.items()},
        {one: trial.measure(recipe) for one, recipe in recipes.items()},
    )


def _searched(trial: Trial, plain: Figures, layers: Sequence[Layer]) -> tuple[Rung, ...]:
    """The mixtures that were measured on the way, the largest first."""
    moves = search.moves({one.name: _choices(trial, plain, one) for one in layers})
    tried: dict[int, Rung] = {}

    def keeps(count: int) -> bool:
        types = dict.fromkeys(trial.layers, TYPES[0]) | search.after(moves[:count])
        tried[count] = _rung(trial, f"{count} moves", mixture(types))
        return tried[count].figures.kept

    search.furthest(len(moves), keeps)
    return tuple(tried[count] for count in sorted(tried))


def mixture(types: Mapping[str, str]) -> Recipe:
    """The shortest recipe that gives these layers these types."""
    usual = Counter(types.values()).most_common(1)[0][0]
    others = {layer: one for layer, one in types.items() if one != usual}
    return Recipe(default=usual, layers=others)


def _choices(trial: Trial, plain: Figures, layer: Layer) -> list[Choice]:
    whole = Choice(TYPES[0], trial.nbytes(Recipe()), 0.0)
    return [whole] + [
        Choice(one, layer.nbytes[one], max(0.0, found.error**2 - plain.error**2))
        for one, found in layer.figures.items()
        if math.isfinite(found.error)
    ]


# The whole pipeline -------------------------------------------------------------------------------


def _heard(
    folder: Path,
    corpus: Corpus,
    trials: dict[str, Trial],
    parts: Sequence[FoundPart],
    device: backend.Choice,
    progress: Progress,
) -> Heard:
    """Every rung of the ladder over the corpus, and the mixture that was found."""
    from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline

    names = [*(rung.name for rung in parts[0].ladder), FOUND]
    total = len(names) * len(corpus.recordings)
    scores: dict[str, list[Score]] = {}
    for number, name in enumerate(names):
        pipeline = SpeakerDiarizationPipeline(folder, device)
        for part in parts:
            rungs = {rung.name: rung for rung in (*part.ladder, part.found)}
            network = getattr(pipeline, part.name)
            network.load_weights(trials[part.name].weights(rungs[name].recipe), strict=False)
        scores[name] = []
        for at, one in enumerate(corpus.recordings):
            progress(f"DER of {name}", number * len(corpus.recordings) + at, total)
            with at_hand(one.audio) as audio:
                found = pipeline({"audio": audio, "uri": one.uri})
            regions = one.regions(found.duration)
            scores[name].append(judge(one.reference, found.speaker_diarization, regions).strict)
    progress("DER", total, total)
    return Heard(corpus.name, [one.uri for one in corpus.recordings], scores)
