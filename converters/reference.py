"""The offline reference checkpoints: pyannote's own classes in the real architectures, seeded.

They stand in for the trained weights wherever those cannot be downloaded: in CI, in tests, in a
first try. They hear nothing: they exist so that two frameworks can be compared on the same
numbers. No value is left at a default, because a port that forgets to load a tensor, or leaves out
a scale of 1, would then pass: norms get random scales and shifts, sinc filters leave the mel scale,
and BatchNorm statistics are calibrated on the recording that pyannote.audio ships.
"""

from __future__ import annotations

import os
import sys
import types
import warnings
import wave
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samevoice import family as families
from samevoice.converters.bundle import alone, written_aside
from samevoice.converters.reading.checkpoint import REFERENCE_NOTE
from samevoice.converters.transforms import Array
from samevoice.errors import MissingExtraError, SourceError, nearest
from samevoice.files import cache_folder, sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEED = 20260101
KINDS = ("segmentation", "embedding", "full")
# Raise it when a change here changes the bytes: older copies in the cache are then left alone.
RECIPE = 3

_CONFIG_YAML = f"""\
# {REFERENCE_NOTE}
dependencies:
  pyannote.audio: 4.0.0
pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params:
    clustering: VBxClustering
    segmentation: $model/segmentation
    segmentation_batch_size: 32
    embedding: $model/embedding
    embedding_batch_size: 32
    embedding_exclude_overlap: true
    plda: $model/plda
params:
  clustering:
    threshold: 0.6
    Fa: 0.07
    Fb: 0.8
  segmentation:
    min_duration_off: 0.0
"""


def build(kind: str) -> Path:
    """The folder of a reference checkpoint: made on the first call, then taken from the cache.

    ``kind`` is one of ``KINDS``, or an architecture that has one, with "/small" behind it for a
    small shape. Where another process makes it, this one waits.
    """
    make, name = _BUILDERS.get(kind) or _of_family(kind), kind
    if kind not in _BUILDERS:
        name = f"{kind.replace('/', '-')}-{_written_by(kind)}"
    try:
        made_with = f"torch-{version('torch')}-pyannote-{version('pyannote.audio')}"
    except PackageNotFoundError as error:
        raise MissingExtraError(
            "pyannote.audio, which the reference checkpoints are built with,", "parity"
        ) from error
    folder = cache_folder() / "reference" / f"{RECIPE}-{made_with}" / name
    if not folder.exists():
        with alone(folder.with_name(f"{name}.made"), wait=True):
            if not folder.exists():
                with written_aside(folder, overwrite=False) as aside:
                    make(aside)
    return folder


def kinds() -> tuple[str, ...]:
    """All that there are."""
    named = (one for one in families.find().families if one.reference)
    return (*KINDS, *(name for one in named for name in one.architectures))


def _of_family(kind: str) -> Callable[[Path], None]:
    name, slash, shape = kind.partition("/")
    if name in KINDS or name not in kinds() or (slash and shape != "small"):
        known = ", ".join(f"reference:{one}" for one in KINDS)
        said = nearest(name, kinds(), "samevoice models --references lists those architectures")
        raise SourceError(
            f"there is no 'reference:{kind}': choose one of {known}, "
            f"reference:ARCHITECTURE or reference:ARCHITECTURE/small; {said}"
            + "".join(f"; {one}" for one in families.find().broken)
        )
    write = families.named(name).write_reference
    return partial(write, architecture=name, small=bool(slash))


def _written_by(kind: str) -> str:
    """What tells the file that writes a family's reference: once it is edited, another is made."""
    spec = find_spec(families.named(kind.partition("/")[0]).reference.partition(":")[0])
    return sha256(Path(spec.origin), SourceError)[:8] if spec and spec.origin else ""


def segmentation(folder: Path) -> None:
    """segmentation-3.0's PyanNet: four LSTM layers, three speakers, at most two at a time."""
    with seeded_torch() as pyannote:
        from pyannote.audio.core.task import Problem, Resolution, Specifications
        from pyannote.audio.models.segmentation import PyanNet

        del pyannote
        model = PyanNet(
            sincnet={"stride": 10},
            lstm={"hidden_size": 128, "num_layers": 4, "bidirectional": True, "dropout": 0.5},
        )
        model.specifications = Specifications(
            problem=Problem.MONO_LABEL_CLASSIFICATION,
            resolution=Resolution.FRAME,
            duration=10.0,
            classes=["speaker#1", "speaker#2", "speaker#3"],
            powerset_max_classes=2,
            permutation_invariant=True,
        )
        model.build()
        _leave_defaults(model)
        _spread_decisions(model.eval())
        save_pyannote(model, folder)


def embedding(folder: Path) -> None:
    """WeSpeaker's ResNet34, its BatchNorm statistics those of the packaged recording."""
    with seeded_torch() as torch:
        from pyannote.audio.core.task import Problem, Resolution, Specifications
        from pyannote.audio.models.embedding import WeSpeakerResNet34

        model = WeSpeakerResNet34()
        model.specifications = Specifications(
            problem=Problem.REPRESENTATION,
            resolution=Resolution.CHUNK,
            duration=5.0,
            min_duration=2.5,
        )
        _leave_defaults(model)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # a plain mean over all that was seen
        model.train()
        with torch.no_grad():
            model(torch.from_numpy(sample())[None, None])
        model.eval()
        save_pyannote(model, folder)


_NORMS = ("norm1d.", ".bn1.", ".bn2.", ".shortcut.1.")


def _leave_defaults(model: Any) -> None:
    """Random values wherever a fresh module has constants or a formula."""
    import torch

    with torch.no_grad():
        for name, value in model.named_parameters():
            if any(norm in name for norm in _NORMS):
                weight = name.endswith(".weight")
                fresh = torch.rand_like(value) + 0.5 if weight else torch.randn_like(value) * 0.1
                value.copy_(fresh)
            elif name.endswith(("low_hz_", "band_hz_")):
                value.mul_(torch.rand_like(value) * 0.4 + 0.8)
                # pyannote takes their absolute value; trained ones may be negative.
                value[::7].neg_()


def _spread_decisions(model: Any) -> None:
    """Every class wins somewhere in the sample: if one always did, no wrong decision would show."""
    import torch

    with torch.no_grad():
        model.classifier.weight.mul_(20.0)
        scores = model(torch.from_numpy(sample())[None, None])[0]
        model.classifier.bias.sub_(scores.mean(dim=0))


def plda(folder: Path) -> None:
    """A PLDA of the real sizes, in the real types: well conditioned, without a voice behind it."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(SEED)
    basis, _ = np.linalg.qr(random.standard_normal((256, 128)))
    note = np.array(REFERENCE_NOTE)
    np.savez(
        folder / "xvec_transform.npz",
        mean1=random.standard_normal(256) * 0.1,
        mean2=(random.standard_normal(128) * 0.1).astype(np.float32),
        lda=np.asfortranarray(basis.astype(np.float32)),
        note=note,
    )
    np.savez(
        folder / "plda.npz",
        mu=random.standard_normal(128) * 0.1,
        tr=np.asfortranarray(np.eye(128) + random.standard_normal((128, 128)) * 0.02),
        psi=np.sort(random.gamma(2.0, 1.0, 128))[::-1].copy(),
        note=note,
    )


def full(folder: Path) -> None:
    """The whole pipeline in the folder layout of community-1."""
    for part, make in (("segmentation", segmentation), ("embedding", embedding), ("plda", plda)):
        (folder / part).mkdir()
        make(folder / part)
    (folder / "config.yaml").write_text(_CONFIG_YAML, encoding="utf-8")


_BUILDERS = {"segmentation": segmentation, "embedding": embedding, "full": full}


def sample() -> Array:
    """(480000,): the recording inside pyannote.audio, 30 s at 16 kHz, float32 in [-1, 1)."""
    spec = find_spec("pyannote.audio")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0]) / "sample" / "sample.wav"
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        frames = file.readframes(file.getnframes())
    return np.frombuffer(frames, "<i2").astype(np.float32) / 32768.0


def import_pyannote() -> Any:
    """pyannote.audio, without its telemetry, and without the native half of torchaudio.

    A CPU build of torch lacks the CUDA libraries that torchaudio's extension links against. The
    parts that pyannote uses are plain Python, so a stand-in for the extension is enough.
    """
    os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "0")
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _extension_stand_in()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchcodec: audio is handed over in memory
        import pyannote.audio
    return pyannote.audio


def _extension_stand_in() -> types.ModuleType:
    module = types.ModuleType("torchaudio._extension")
    vars(module).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        fail_if_no_align=lambda function: function,
        _check_cuda_version=lambda: None,
    )
    return module


@contextmanager
def seeded_torch(seed: int = SEED) -> Iterator[Any]:
    """torch on one thread from a fixed seed: the same sums in the same order every time."""
    import_pyannote()
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield torch
    finally:
        torch.set_num_threads(threads)


def save_pyannote(model: Any, folder: Path) -> None:
    """As pyannote saves: its own hook writes architecture and specifications."""
    import lightning
    import torch

    content: dict[str, Any] = {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "samevoice": {"note": REFERENCE_NOTE},
    }
    model.on_save_checkpoint(content)
    torch.save(content, folder / "pytorch_model.bin")
