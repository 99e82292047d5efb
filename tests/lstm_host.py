"""The LSTM kernel's text, as MLX hands it to Metal and to CUDA, run by threads of this machine.

For Metal MLX writes the whole program even where there is no Metal, when a function is exported.
For CUDA it does not; what it puts around the text is written down here from its sources
(backend/cuda/custom_kernel.cpp). The words of either language are played by C++: shared memory is
static, a barrier is pthread's, and groups run one after another.
"""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np

from samevoice.models.fast.lstm_kernel import CUDA, METAL, Language

SIZES = (1, 3, 8, 16, 128)
TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
PAIRS = tuple((kind, size) for kind in TYPES for size in SIZES)

Pairs = Sequence[tuple[str, int]]

COMMON = """
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>
#include <pthread.h>
struct bfloat16_t {
  uint16_t bits;
  bfloat16_t() = default;
  explicit bfloat16_t(float x) {
    uint32_t word;
    std::memcpy(&word, &x, 4);
    bits = x != x ? 0x7fc0 : uint16_t((word + 0x7fff + ((word >> 16) & 1)) >> 16);
  }
  operator float() const {
    uint32_t word = uint32_t(bits) << 16;
    float x;
    std::memcpy(&x, &word, 4);
    return x;
  }
};
using float32_t = float;
using float16_t = _Float16;
struct uint3 { unsigned x, y, z; };
// In turn: who wakes late from a barrier at which others wait again already would, to the
// sanitizer, have seen what they did in between.
static pthread_barrier_t barriers[4];
static thread_local unsigned waits = 0;
static void meet() { pthread_barrier_wait(&barriers[waits++ % 4]); }
template <typename Work>
static void run(int lanes, int groups, Work work) {
  for (int group = 0; group < groups; ++group) {
    for (auto& one : barriers) pthread_barrier_init(&one, nullptr, lanes);
    std::vector<std::thread> threads;
    for (int lane = 0; lane < lanes; ++lane) threads.emplace_back(work, lane, group);
    for (auto& thread : threads) thread.join();
    for (auto& one : barriers) pthread_barrier_destroy(&one);
  }
}
"""

METAL_PLAYED = """
namespace metal {
enum class mem_flags { mem_threadgroup };
namespace precise {
float exp(float x) { return std::exp(x); }
float tanh(float x) { return std::tanh(x); }
}
}
static void threadgroup_barrier(metal::mem_flags) { meet(); }
#define threadgroup static
#define device
#define constant
"""

CUDA_PLAYED = """
static void __syncthreads() { meet(); }
static thread_local uint3 threadIdx, blockIdx, blockDim;
#define __shared__ static
#define __device__
#define __global__
#define __grid_constant__
struct Shape { int32_t of[10]; int32_t operator[](int i) const { return of[i]; } };
"""


def program(language: Language, pairs: Pairs = PAIRS) -> str:
    """C++ with a function lstm_TYPE_SIZE for each pair."""
    if language.maker == METAL.maker:
        return COMMON + METAL_PLAYED + "".join(map(_metal, metal_texts(language, pairs), pairs))
    texts = (_cuda(language, *pair) for pair in pairs)
    return COMMON + CUDA_PLAYED + language.header + "".join(texts)


EXPORTING = """
import functools, json, sys, tempfile
from dataclasses import replace
from samevoice.models.fast import lstm_kernel
import mlx.core as mx
asked = json.load(sys.stdin)
language = replace(lstm_kernel.METAL, body=asked["body"])
told = functools.partial(lstm_kernel.compiled(language), verbose=True)
lstm_kernel.compiled = lambda _: told
for kind, units in asked["pairs"]:
    shapes = (2, 1, 1, 4 * units), (1, units, 4 * units)
    inputs = [mx.zeros(shape, dtype=getattr(mx, kind)) for shape in shapes]
    with tempfile.NamedTemporaryFile() as file:
        mx.export_function(file.name, lambda *x: lstm_kernel.run(language, *x), *inputs)
"""


def metal_texts(language: Language, pairs: Pairs) -> list[str]:
    """What MLX itself makes of the kernel."""
    asked = json.dumps({"body": language.body, "pairs": pairs})
    done = subprocess.run(
        [sys.executable, "-c", EXPORTING], input=asked, capture_output=True, text=True, check=True
    )
    found = re.findall(r"^```\n(.*?)^```$", done.stdout, re.DOTALL | re.MULTILINE)
    assert len(found) == len(pairs), done.stdout
    return found


def _metal(text: str, pair: tuple[str, int]) -> str:
    kind, size = pair
    found = re.search(r"\[\[kernel\]\] void (\w+)\(", text)
    assert found is not None
    space = f"text_{kind}_{size}"
    call = (
        f"{space}::{found[1]}<{kind}_t, {size}>(gates, shape, wh, states, "
        "{unsigned(lane), 0, 0}, {unsigned(group), 0, 0}, {unsigned(lanes), 1, 1});"
    )
    # Where MLX instantiates the template it says so in a way that only Metal understands.
    text = text[: text.index("\ntemplate [[host_name(")]
    return f"namespace {space} {{\n{text}\n}}\n" + _exported(kind, size, call)


def _cuda(language: Language, kind: str, size: int) -> str:
    name = f"kernel_{kind}_{size}"
    call = (
        "threadIdx.x = lane; blockIdx.x = group; blockDim.x = lanes; "
        f"Shape known; std::memcpy(known.of, shape, 16); {name}(gates, known, wh, states);"
    )
    return cuda_text(language, name, f"{kind}_t", size) + _exported(kind, size, call)


def cuda_text(language: Language, name: str, type_name: str, size: int) -> str:
    return (
        f"__global__ void {name}(\n"
        f"    const {type_name}* gates,\n"
        "    const __grid_constant__ Shape gates_shape,\n"
        f"    const {type_name}* wh,\n"
        f"    {type_name}* states) {{\n"
        f"  using T = {type_name};\n  constexpr int H = {size};\n\n{language.source}\n}}\n"
    )


def _exported(kind: str, size: int, call: str) -> str:
    t = f"{kind}_t"
    return (
        f'extern "C" void lstm_{kind}_{size}(\n'
        f"    const {t}* gates, const int* shape, const {t}* wh, {t}* states, int lanes) {{\n"
        f"  run(lanes, shape[1] * shape[2], [=](int lane, int group) {{ {call} }});\n}}\n"
    )


def compiled(text: str, target: Path, *flags: str) -> Path:
    source = target.with_suffix(".cpp")
    source.write_text(text)
    command = ["g++", "-std=c++17", "-O1", "-w", *flags, str(source), "-o", str(target), "-pthread"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


class Host:
    """A language's kernel, compiled for this machine."""

    def __init__(self, language: Language, folder: Path) -> None:
        target = folder / f"{language.maker}.so"
        self.library = ctypes.CDLL(str(compiled(program(language), target, "-shared", "-fPIC")))

    def __call__(self, gates: np.ndarray, wh: np.ndarray, lanes: int = 5) -> np.ndarray:
        """(T, W, B, 4H), (W, H, 4H) -> (T, W, B, H), by so many threads."""
        size = wh.shape[1]
        states = np.zeros((*gates.shape[:3], size), dtype=gates.dtype)
        shape = (ctypes.c_int * 4)(*gates.shape)
        held = [np.ascontiguousarray(x) for x in (gates, wh)]
        of = [x.ctypes.data_as(ctypes.c_void_p) for x in (*held, states)]
        getattr(self.library, f"lstm_{gates.dtype}_{size}")(of[0], shape, of[1], of[2], lanes)
        return states


RACE = """
int main() {
  const int shape[4] = {5, 2, 2, 4 * 8};
  std::vector<float> gates(5 * 2 * 2 * 32, 0.5f), wh(2 * 8 * 32, 0.1f), states(5 * 2 * 2 * 8);
  lstm_float32_8(gates.data(), shape, wh.data(), states.data(), 6);
}
"""


def races(language: Language, target: Path) -> bool:
    """Whether two threads meet at one place with nothing between them."""
    compiled(program(language, [("float32", 8)]) + RACE, target, "-fsanitize=thread")
    done = subprocess.run([str(target)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 or "data race" in done.stderr, done.stderr
    return done.returncode != 0


def without_barrier(language: Language, number: int) -> Language:
    parts = language.body.split("TOGETHER();")
    parts[number : number + 2] = [parts[number] + parts[number + 1]]
    return replace(language, body="TOGETHER();".join(parts))


# What MLX puts before a CUDA kernel, as far as this one needs it.
NVRTC = """
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cooperative_groups.h>
#include <cuda/std/array>
namespace mlx::core::cu { using Shape = cuda::std::array<int32_t, 10>; }
"""


def for_cuda(type_name: str, size: int) -> str:
    """What MLX gives to NVIDIA's compiler."""
    text = cuda_text(CUDA, "kernel", type_name, size)
    return f"{NVRTC}{CUDA.header}namespace mlx::core::cu {{\n\n{text}\n}}\n"
