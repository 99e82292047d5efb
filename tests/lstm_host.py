"""The LSTM kernel's text, as MLX hands it to Metal and to CUDA, run by threads of this machine.

What surrounds the text is written down here from MLX's sources (backend/metal/custom_kernel and
backend/cuda/custom_kernel): the signature, the templates, which input has its shape beside it. The
words of either language are played by C++: shared memory is static, a barrier is pthread's, and
groups run one after another.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from samevoice.models import lstm_kernel
from samevoice.models.lstm_kernel import CUDA, METAL, Language

SIZES = (1, 3, 8, 16, 128)
TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}

COMMON = """
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>
#include <pthread.h>
struct bfloat16 {
  uint16_t bits;
  bfloat16() = default;
  explicit bfloat16(float x) {
    uint32_t word;
    std::memcpy(&word, &x, 4);
    bits = uint16_t((word + 0x7fff + ((word >> 16) & 1)) >> 16);
  }
  operator float() const {
    uint32_t word = uint32_t(bits) << 16;
    float x;
    std::memcpy(&x, &word, 4);
    return x;
  }
};
using float32 = float;
using float16 = _Float16;
struct uint3 { unsigned x, y, z; };
// One after another: who wakes late from a barrier that others wait at again would, to the sanitizer,
// have seen what they did in between.
static pthread_barrier_t barriers[4];
static thread_local unsigned waits = 0;
static void meet() { pthread_barrier_wait(&barriers[waits++ % 4]); }
"""

# By language: what is declared before the text.
PLAYED = {
    METAL: """
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
""",
    CUDA: """
static void __syncthreads() { meet(); }
static thread_local uint3 threadIdx, blockIdx, blockDim;
#define __shared__ static
#define __device__
#define __global__
#define __grid_constant__
struct Shape { int32_t of[10]; int32_t operator[](int i) const { return of[i]; } };
""",
}

RUN = """
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

ARGUMENTS = "const {t}* gates, const int* shape, const {t}* wh, {t}* states, int lanes"


@dataclass(frozen=True)
class Text:
    """A language's text, which a test may have changed."""

    language: Language
    body: str = lstm_kernel.BODY

    def program(self, types: Sequence[str] = tuple(TYPES), sizes: Sequence[int] = SIZES) -> str:
        """One exported function for each type and size."""
        made = self._metal if self.language is METAL else self._cuda
        pairs = [(kind, size) for kind in types for size in sizes]
        return COMMON + PLAYED[self.language] + RUN + self.language.header + made(pairs)

    @property
    def _source(self) -> str:
        return self.language.opening + self.body

    def _metal(self, pairs: Sequence[tuple[str, int]]) -> str:
        kernels = [
            f"template <typename T, int H>\n[[kernel]] void kernel_{kind}(\n"
            f"  const device {kind}* gates [[buffer(0)]],\n"
            "  const constant int* gates_shape [[buffer(1)]],\n"
            f"  const device {kind}* wh [[buffer(2)]],\n"
            f"  device {kind}* states [[buffer(3)]],\n"
            "  uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]],\n"
            "  uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],\n"
            "  uint3 threads_per_threadgroup [[threads_per_threadgroup]]) {\n"
            f"{self._source}\n}}\n"
            for kind in dict.fromkeys(kind for kind, _ in pairs)
        ]
        calls = [
            self._exported(
                kind,
                size,
                f"kernel_{kind}<{kind}, {size}>(gates, shape, wh, states, "
                "uint3{unsigned(lane), 0, 0}, uint3{unsigned(group), 0, 0}, "
                "uint3{unsigned(lanes), 1, 1});",
            )
            for kind, size in pairs
        ]
        return "".join([*kernels, *calls])

    def _cuda(self, pairs: Sequence[tuple[str, int]]) -> str:
        return "".join(
            f"__global__ void kernel_{kind}_{size}(\n    const {kind}* gates,\n"
            "    const __grid_constant__ Shape gates_shape,\n"
            f"    const {kind}* wh,\n    {kind}* states) {{\n"
            f"  using T = {kind};\n  constexpr int H = {size};\n\n{self._source}\n}}\n"
            + self._exported(
                kind,
                size,
                "threadIdx.x = lane; blockIdx.x = group; blockDim.x = lanes; "
                "Shape known; std::memcpy(known.of, shape, 16); "
                f"kernel_{kind}_{size}(gates, known, wh, states);",
            )
            for kind, size in pairs
        )

    @staticmethod
    def _exported(kind: str, size: int, call: str) -> str:
        arguments = ARGUMENTS.format(t=kind)
        return (
            f'extern "C" void lstm_{kind}_{size}({arguments}) {{\n'
            f"  run(lanes, shape[1] * shape[2], [=](int lane, int group) {{ {call} }});\n}}\n"
        )


def compile(program: str, target: Path, *flags: str) -> Path:
    source = target.with_suffix(".cpp")
    source.write_text(program)
    command = ["g++", "-std=c++17", "-O1", "-w", *flags, str(source), "-o", str(target), "-pthread"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


class Host:
    """The compiled text."""

    def __init__(self, text: Text, folder: Path) -> None:
        program = text.program()
        target = folder / f"{text.language.maker}.so"
        self.library = ctypes.CDLL(str(compile(program, target, "-shared", "-fPIC")))

    def __call__(self, gates: np.ndarray, wh: np.ndarray, lanes: int) -> np.ndarray:
        """(T, W, B, 4H), (W, H, 4H) -> (T, W, B, H)."""
        kind, size = str(gates.dtype), wh.shape[1]
        states = np.full((*gates.shape[:3], size), np.nan, dtype=gates.dtype)
        shape = (ctypes.c_int * 4)(*gates.shape)
        of = [x.ctypes.data_as(ctypes.c_void_p) for x in (gates, wh, states)]
        getattr(self.library, f"lstm_{kind}_{size}")(of[0], shape, of[1], of[2], lanes)
        return states


RACE = """
int main() {
  const int shape[4] = {5, 2, 2, 4 * 8};
  std::vector<float> gates(5 * 2 * 2 * 32, 0.5f), wh(2 * 8 * 32, 0.1f), states(5 * 2 * 2 * 8);
  lstm_float32_8(gates.data(), shape, wh.data(), states.data(), 6);
  return states[0] > 0 ? 0 : 1;
}
"""


def races(text: Text, target: Path) -> bool:
    """Whether the thread sanitizer sees two threads at one place with nothing between them."""
    program = text.program(["float32"], [8]) + RACE
    compile(program, target, "-fsanitize=thread", "-g")
    done = subprocess.run([str(target)], capture_output=True, text=True, timeout=120)
    assert "WARNING: ThreadSanitizer" in done.stderr or done.returncode == 0, done.stderr
    return "data race" in done.stderr


# What MLX puts before a CUDA kernel, as far as the text needs it.
NVCC = """
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cooperative_groups.h>
#include <cuda/std/array>
namespace mlx::core::cu { using Shape = cuda::std::array<int32_t, 10>; }
"""


def for_nvcc(kind: str, size: int) -> str:
    """The whole of what MLX gives NVRTC."""
    return (
        f"{NVCC}{CUDA.header}namespace mlx::core::cu {{\n\n__global__ void kernel(\n"
        f"    const {kind}* gates,\n    const __grid_constant__ Shape gates_shape,\n"
        f"    const {kind}* wh,\n    {kind}* states) {{\n"
        f"  constexpr int H = {size};\n  using T = {kind};\n\n{CUDA.source}\n}}\n\n}}\n"
    )
