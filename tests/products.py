"""Kernels with matrix products, their problems, and where to run them: on the machine that executes
PTX, or on a GPU.

A problem says what is multiplied and how; its arguments and the expected result, in float64 or
exact integers, follow from a seed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import ml_dtypes
import numpy as np

import blocklang
import blocklang.language as bl
from tests.ptx_machine import round_tf32
from tests.ptx_warpgroups import Machine

# dtype -> NumPy's, the language's of sum and result, their spelling, tolerance
KINDS: dict[str, tuple[Any, Any, str, float]] = {
    "bf16": (ml_dtypes.bfloat16, bl.float32, "fp32", 1e-5),
    "fp16": (np.float16, bl.float32, "fp32", 1e-5),
    "fp32": (np.float32, bl.float32, "fp32", 1e-5),
    "fp64": (np.float64, bl.float64, "fp64", 1e-13),
    "i8": (np.int8, bl.int32, "i32", 0),
    "u8": (np.uint8, bl.int32, "i32", 0),
    "fp8e4nv": (ml_dtypes.float8_e4m3fn, bl.float32, "fp32", 1e-5),
    "fp8e5": (ml_dtypes.float8_e5m2, bl.float32, "fp32", 1e-5),
    "half sums": (np.float16, bl.float16, "fp16", 1e-2),
}
RESULTS = {"fp32": np.float32, "fp64": np.float64, "i32": np.int32, "fp16": np.float16}


@blocklang.jit
def gemm(
    a, b, c, M, N, K, stride_am, stride_ak, stride_bk, stride_bn, stride_cm, stride_cn,
    BM: bl.constexpr, BN: bl.constexpr, BK: bl.constexpr,
    TOTAL: bl.constexpr, PRECISION: bl.constexpr, IMPRECISE: bl.constexpr,
):  # fmt: skip
    rm = bl.program_id(0) * BM + bl.arange(0, BM)
    rn = bl.program_id(1) * BN + bl.arange(0, BN)
    rk = bl.arange(0, BK)
    pa = a + rm[:, None] * stride_am + rk[None, :] * stride_ak
    pb = b + rk[:, None] * stride_bk + rn[None, :] * stride_bn
    acc = bl.zeros((BM, BN), TOTAL)
    for k in range(0, bl.cdiv(K, BK)):
        x = bl.load(pa, mask=(rm[:, None] < M) & (rk[None, :] < K - k * BK), other=0)
        y = bl.load(pb, mask=(rk[:, None] < K - k * BK) & (rn[None, :] < N), other=0)
        acc = bl.dot(x, y, acc, input_precision=PRECISION, max_num_imprecise_acc=IMPRECISE)
        pa += BK * stride_ak
        pb += BK * stride_bk
    pc = c + rm[:, None] * stride_cm + rn[None, :] * stride_cn
    bl.store(pc, acc, mask=(rm[:, None] < M) & (rn[None, :] < N))


@blocklang.jit
def persistent(
    a, b, c, M, N, K,
    BM: bl.constexpr, BN: bl.constexpr, BK: bl.constexpr, STAGES: bl.constexpr,
):  # fmt: skip
    """Several tiles a program; addresses from the index; `b` transposed, narrow and scaled."""
    across = bl.cdiv(N, BN)
    for tile in range(bl.program_id(0), bl.cdiv(M, BM) * across, bl.num_programs(0)):
        rm = (tile // across) * BM + bl.arange(0, BM)
        rn = (tile % across) * BN + bl.arange(0, BN)
        acc = bl.zeros((BM, BN), bl.float32)
        for k in bl.range(0, K, BK, num_stages=STAGES):
            rk = k + bl.arange(0, BK)
            x = bl.load(
                a + rm[:, None] * K + rk[None, :],
                mask=(rm[:, None] < M) & (rk[None, :] < K),
                other=0.0,
            )
            y = bl.load(
                b + rn[:, None] * K + rk[None, :],
                mask=(rn[:, None] < N) & (rk[None, :] < K),
                other=0,
            )
            acc += bl.dot(x, bl.trans(y.to(bl.bfloat16) * 2))
        bl.store(c + rm[:, None] * N + rn[None, :], acc, mask=(rm[:, None] < M) & (rn[None, :] < N))


@blocklang.jit
def attention(
    q, k, v, o, N, scale,
    BM: bl.constexpr, BN: bl.constexpr, D: bl.constexpr, CAUSAL: bl.constexpr,
):  # fmt: skip
    rm = bl.program_id(0) * BM + bl.arange(0, BM)
    rd = bl.arange(0, D)
    x = bl.load(q + rm[:, None] * D + rd[None, :], mask=rm[:, None] < N, other=0.0)
    acc = bl.zeros((BM, D), bl.float32)
    highest = bl.full((BM,), -1e30, bl.float32)
    total = bl.zeros((BM,), bl.float32)
    end = bl.minimum(N, (bl.program_id(0) + 1) * BM) if CAUSAL else N
    for start in range(0, end, BN):
        rn = start + bl.arange(0, BN)
        y = bl.load(k + rn[None, :] * D + rd[:, None], mask=rn[None, :] < N, other=0.0)
        s = bl.dot(x, y) * scale
        inside = rn[None, :] < N
        if CAUSAL:
            inside = inside & (rn[None, :] <= rm[:, None])
        s = bl.where(inside, s, -1e30)
        now = bl.maximum(highest, bl.max(s, axis=1))
        p = bl.exp2(s - now[:, None])
        shrink = bl.exp2(highest - now)
        total = total * shrink + bl.sum(p, axis=1)
        z = bl.load(v + rn[:, None] * D + rd[None, :], mask=rn[:, None] < N, other=0.0)
        acc = bl.dot(p.to(bl.bfloat16), z, acc * shrink[:, None])
        highest = now
    bl.store(o + rm[:, None] * D + rd[None, :], acc / total[:, None], mask=rm[:, None] < N)


@blocklang.jit
def batched(a, b, c, B: bl.constexpr, M: bl.constexpr, N: bl.constexpr, K: bl.constexpr):
    rb, rm, rn, rk = bl.arange(0, B), bl.arange(0, M), bl.arange(0, N), bl.arange(0, K)
    x = bl.load(a + rb[:, None, None] * (M * K) + rm[None, :, None] * K + rk[None, None, :])
    y = bl.load(b + rb[:, None, None] * (K * N) + rk[None, :, None] * N + rn[None, None, :])
    z = bl.dot(x, y, input_precision="ieee")
    bl.store(c + rb[:, None, None] * (M * N) + rm[None, :, None] * N + rn[None, None, :], z)


@dataclass(frozen=True)
class Run:
    """A compiled kernel with its arguments, by name, and the grid."""

    compiled: Any
    arguments: dict[str, Any]
    grid: tuple[int, ...]

    @property
    def _ordered(self) -> list[Any]:
        return [self.arguments[each["name"]] for each in self.compiled.metadata["arguments"]]

    def on_machine(self) -> None:
        """Execute the PTX; arrays among the arguments change."""
        metadata = self.compiled.metadata
        threads = 32 * metadata["num_warps"]
        ptx = self.compiled.asm["ptx"]
        Machine(ptx, self._ordered, threads, metadata["shared_bytes"]).run(self.grid)

    def on_gpu(self, from_ptx: bool = False) -> None:
        """Launch the machine code, or the PTX as the driver assembles it."""
        from blocklang.runtime import cuda, device_array, module

        metadata = self.compiled.metadata
        image = self.compiled.asm["ptx" if from_ptx else "cubin"]
        function = module.load(
            image, metadata["symbol"], device=0, shared_bytes=metadata["shared_bytes"]
        )
        arrays = {n: device_array(a) for n, a in self.arguments.items() if is_array(a)}
        values = [
            ctypes.c_uint64(arrays[each["name"]].data_ptr())
            if each["name"] in arrays
            else SCALARS[each["type"]](self.arguments[each["name"]])
            for each in metadata["arguments"]
        ]
        pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        threads = metadata.get("threads", 32 * metadata["num_warps"])
        shape = (*(*self.grid, 1, 1)[:3], threads, 1, 1, function.shared_bytes, 0)
        with cuda.pushed(function.context):
            cuda.call("cuLaunchKernel", function.handle, *shape, ctypes.addressof(pointers), 0)
            cuda.synchronize()
        for name, array in arrays.items():
            self.arguments[name][...] = array.to_host().reshape(self.arguments[name].shape)


SCALARS = {"i32": ctypes.c_int32, "i64": ctypes.c_int64, "f32": ctypes.c_float}


def is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def number(value: int) -> Any:
    """The signature of an integer, specialised as a launch would do it."""
    return 1 if value == 1 else "i32:16" if value % 16 == 0 else "i32"


def random_matrix(rng: Any, shape: Sequence[int], kind: str) -> np.ndarray:
    dtype = KINDS[kind][0]
    if dtype in (np.int8, np.uint8):
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def stage_bytes(kind: str, blocks: tuple[int, int, int]) -> int:
    """The shared memory that both factors take in each stage."""
    bm, bn, bk = blocks
    return (bm + bn) * bk * np.dtype(KINDS[kind][0]).itemsize


@dataclass(frozen=True)
class Gemm:
    """One product with `gemm`: sizes, blocks, and how the operands lie in memory."""

    kind: str = "bf16"
    sizes: tuple[int, int, int] = (64, 64, 64)
    blocks: tuple[int, int, int] = (64, 64, 32)
    warps: int = 4
    stages: int = 3
    transposed: tuple[bool, bool] = (False, False)
    precision: str = "tf32"
    imprecise: int | None = None
    seed: int = 0

    @cached_property
    def operands(self) -> tuple[np.ndarray, np.ndarray]:
        """a and b, in memory as `transposed` says."""
        rng = np.random.default_rng(self.seed)
        m, n, k = self.sizes
        a, b = random_matrix(rng, (m, k), self.kind), random_matrix(rng, (k, n), self.kind)
        a = np.asfortranarray(a) if self.transposed[0] else a
        return a, np.asfortranarray(b) if self.transposed[1] else b

    def within(self, shared_bytes: int) -> Gemm:
        """The problem with no more stages than fit into so much shared memory."""
        most = shared_bytes // stage_bytes(self.kind, self.blocks)
        return replace(self, stages=min(self.stages, most))

    def run(self, target: str) -> Run:
        """The problem, compiled for a target."""
        a, b = self.operands
        _, total, spelled, _ = KINDS[self.kind]
        m, n, k = self.sizes
        c = np.full((m, n), 77, RESULTS[spelled])
        strides = {
            f"stride_{name}{axis}": step // array.itemsize
            for name, array, axes in (("a", a, "mk"), ("b", b, "kn"), ("c", c, "mn"))
            for axis, step in zip(axes, array.strides, strict=True)
        }
        numbers = {"M": m, "N": n, "K": k, **strides}
        element = {"half sums": "fp16"}.get(self.kind, self.kind)
        signature = {"a": f"*{element}:16", "b": f"*{element}:16", "c": f"*{spelled}:16"}
        signature |= {
            name: number(value) if name.startswith("stride") or value != 1 else "i32"
            for name, value in numbers.items()
        }
        bm, bn, bk = self.blocks
        compiled = gemm.compile(
            signature,
            {"BM": bm, "BN": bn, "BK": bk, "TOTAL": total, "PRECISION": self.precision,
             "IMPRECISE": self.imprecise},
            target, num_warps=self.warps, num_stages=self.stages,
        )  # fmt: skip
        raw = {"a": np.ascontiguousarray(a.T if self.transposed[0] else a),
               "b": np.ascontiguousarray(b.T if self.transposed[1] else b)}  # fmt: skip
        grid = (-(-m // bm), -(-n // bn))
        return Run(compiled, {**numbers, **raw, "c": c}, grid)

    def check(self, run: Run, has_tensor_cores: bool = True) -> None:
        """The result is right, and no element outside of it has been written."""
        by_warpgroups = "wgmma" in run.compiled.asm["ptx"]
        is_tf32 = self.kind == "fp32" and self.precision == "tf32" and has_tensor_cores
        # Warpgroups leave out the last bits of what lies in shared memory.
        tf32 = ("cut" if by_warpgroups else "rounded") if is_tf32 else ""
        expected, scale = exact(self, tf32)
        found = run.arguments["c"].astype(np.float64)
        worst = float(np.max(np.abs(found - expected) / scale))
        bound = KINDS[self.kind][3]
        if by_warpgroups and self.kind.startswith("fp8"):
            # They keep 13 bits of fraction of a sum, relative to the largest that it can have, and
            # add 32 products at a time.
            summed = min(self.imprecise or self.sizes[2], self.sizes[2])
            bound = 2.0**-12 * -(-summed // 32)
        assert worst <= bound, f"{self}: {worst}"


def cut_tf32(x: np.ndarray) -> np.ndarray:
    """float32 with the 13 bits gone that tf32 has not."""
    return (x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


@lru_cache(maxsize=2)
def exact(problem: Gemm, tf32: str) -> tuple[Any, Any]:
    """The result in float64, and what errors are relative to. Sums of 8-bit integers are exact in
    float64, too, where products take a small part of the time. `tf32` says what becomes of the
    factors' bits that this format has not: "rounded", "cut", or "" (nothing).
    """
    a, b = problem.operands
    if tf32:
        change = round_tf32 if tf32 == "rounded" else cut_tf32
        a, b = change(np.ascontiguousarray(a)), change(np.ascontiguousarray(b))
    a, b = a.astype(np.float64), b.astype(np.float64)
    scale = 1 if KINDS[problem.kind][3] == 0 else np.abs(a) @ np.abs(b) + 1e-30
    return a @ b, scale
