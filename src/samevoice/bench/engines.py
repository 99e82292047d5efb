"""ONNX Runtime and OpenVINO: the original networks, exported here, as contenders."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.bench.rows import Left
from samevoice.bench.workers import BenchError, Contender, once_each

if TYPE_CHECKING:
    import numpy as np

ENGINES: Mapping[str, str] = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino"}
NEEDED = (*ENGINES.values(), "onnx")
EXTRA = "pip install 'samevoice[engines]'"


def exported(
    parts: Mapping[str, str], source: str, scratch: Path, models: dict[str, Path]
) -> Iterator[Left]:
    """The networks' files into ``models``, made once, each in a process of its own; or why not."""
    if not all(map(find_spec, NEEDED)):
        yield Left("networks beside ONNX Runtime and OpenVINO", f"not installed: {EXTRA}")
        return
    for network, part in parts.items():
        path = scratch / f"{network}.onnx"
        options = {"source": source, "part": part, "network": network, "path": str(path)}
        try:
            once_each([Contender("torch.onnx", "export", options)], 1)
        except BenchError as error:
            yield Left(f"{network} beside ONNX Runtime and OpenVINO", str(error))
        else:
            models[network] = path


def contenders(model: Path, network: str, batch: int) -> Iterator[Contender]:
    for who, engine in ENGINES.items():
        options = {"engine": engine, "model": str(model), "network": network, "batch": batch}
        yield Contender(who, "engine_network", options)


def export(module: Any, inputs: Mapping[str, np.ndarray], path: str) -> None:
    """A torch module for batches of any size.

    By the older exporter: the newer one knows no LSTM.
    """
    import torch

    given = tuple(torch.from_numpy(one) for one in inputs.values())
    axes = {name: {0: "batch"} for name in inputs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, given, path, dynamo=False, input_names=list(inputs), dynamic_axes=axes
        )


def running(engine: str, model: str) -> Callable[[list[np.ndarray]], np.ndarray]:
    """A file in an engine, on all cores, in float32 throughout."""
    if engine == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]
        return lambda given: session.run(None, dict(zip(names, given, strict=True)))[0]
    import openvino

    # Where a processor has bfloat16 it would take that.
    wanted = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(model, "CPU", wanted)
    return lambda given: compiled(given)[0]
