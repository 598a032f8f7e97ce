"""Programs over the blocks of threads of a cluster: what is split and copied once for all, what
stays whole, what is written once, and how many blocks of threads are launched.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

import blocklang
import blocklang.language as bl
from blocklang.compiled import CompiledKernel
from blocklang.kernel import JitFunction
from examples import flash_attention as attention
from tests import overlap_kernels as kernels
from tests.unit.recording_driver import FakeTensor, Kernel, make, recording_driver

PRODUCT = kernels.PRODUCT
COPY = "cp.async.bulk.tensor.2d.shared::cluster.global.tile"


@blocklang.jit
def whole_rows(a, b, c, m, n, k, M: bl.constexpr, N: bl.constexpr, K: bl.constexpr):
    """The largest element of each column of a product."""
    left = bl.make_tensor_descriptor(a, [m, k], [k, 1], [M, K])
    right = bl.make_tensor_descriptor(b, [k, n], [n, 1], [K, N])
    acc = bl.zeros((M, N), bl.float32)
    for i in range(0, k, K):
        acc = bl.dot(left.load([0, i]), right.load([i, 0]), acc)
    bl.store(c + bl.arange(0, N), bl.max(acc, 0).to(bl.float16))


@blocklang.jit
def no_product(a, b, c, m, n, k, M: bl.constexpr, N: bl.constexpr, K: bl.constexpr):
    at = bl.program_id(0) * M + bl.arange(0, M)
    bl.store(c + at, bl.load(a + at) + bl.load(b + at))


@blocklang.jit
def symmetric(a, b, c, m, n, k, M: bl.constexpr, N: bl.constexpr, K: bl.constexpr):
    """A product and its transpose: split along rows, it would be split along columns too."""
    left = bl.make_tensor_descriptor(a, [m, k], [k, 1], [M, K])
    right = bl.make_tensor_descriptor(b, [k, n], [n, 1], [K, N])
    out = bl.make_tensor_descriptor(c, [m, n], [n, 1], [M, N])
    acc = bl.dot(left.load([0, 0]), right.load([0, 0]))
    out.store([0, 0], (acc + acc.T).to(bl.float16))


@blocklang.jit
def needs_old_value(a, b, c, m, n, k, M: bl.constexpr, N: bl.constexpr, K: bl.constexpr):
    """Which rows a program takes, it learns from a counter."""
    left = bl.make_tensor_descriptor(a, [m, k], [k, 1], [M, K])
    right = bl.make_tensor_descriptor(b, [k, n], [n, 1], [K, N])
    out = bl.make_tensor_descriptor(c, [m, n], [n, 1], [M, N])
    row = bl.atomic_add(a.to(bl.pointer_type(bl.int32)), 1) * M
    out.store([row, 0], bl.dot(left.load([row, 0]), right.load([0, 0])).to(bl.float16))


@blocklang.jit
def counts(a, b, c, m, n, k, M: bl.constexpr, N: bl.constexpr, K: bl.constexpr):
    """A product, a number beside it and one more finished program."""
    left = bl.make_tensor_descriptor(a, [m, k], [k, 1], [M, K])
    right = bl.make_tensor_descriptor(b, [k, n], [n, 1], [K, N])
    out = bl.make_tensor_descriptor(c, [m, n], [n, 1], [M, N])
    acc = bl.zeros((M, N), bl.float32)
    for i in range(0, k, K):
        acc = bl.dot(left.load([0, i]), right.load([i, 0]), acc)
    out.store([0, 0], acc)
    bl.store(c, 1.0)
    bl.atomic_add(a.to(bl.pointer_type(bl.int32)), 1)


def compiled(
    kernel: JitFunction,
    sizes: dict[str, int],
    num_ctas: int,
    num_stages: int = 2,
    signature: dict[str, str] | None = None,
) -> CompiledKernel:
    """The kernel for 8 warps, held to: no message of the assembler, nothing spilled."""
    found = kernel.compile(
        signature or kernels.SIGNATURES.get(kernel, PRODUCT), sizes, target="sm_90a",
        num_warps=8, num_ctas=num_ctas, num_stages=num_stages,
    )  # fmt: skip
    assert found.metadata["warnings"] == []
    resources = found.resources
    assert (resources.spill_stores, resources.spill_loads, resources.stack_bytes) == (0, 0, 0)
    return found


def shared_copies(ptx: str) -> tuple[int, int]:
    """How many copies go to all blocks of threads, and how many to one."""
    copies = [line for line in ptx.splitlines() if COPY in line or ".2d.shared" in line]
    everywhere = sum("multicast::cluster" in line for line in copies)
    return everywhere, len(copies) - everywhere


@pytest.mark.parametrize(
    ("kernel", "sizes", "num_ctas", "loads"),
    [
        (kernels.gemm, {"M": 256, "N": 256, "K": 64}, 2, 1),
        (kernels.gemm, {"M": 256, "N": 128, "K": 64}, 2, 1),
        (kernels.gemm, {"M": 512, "N": 128, "K": 64}, 4, 1),
        (kernels.persistent, {"M": 256, "N": 128, "K": 64}, 2, 1),
        # Keys and values; the queries are each block of threads' own.
        (kernels.attention, {"M": 256, "N": 64, "D": 128}, 2, 2),
    ],
)
def test_common_factors_are_copied_once(
    kernel: JitFunction, sizes: dict[str, int], num_ctas: int, loads: int
) -> None:
    found = compiled(kernel, sizes, num_ctas)
    ptx = found.asm["ptx"]
    assert found.num_ctas == num_ctas
    assert f".reqnctapercluster {num_ctas}, 1, 1" in ptx
    # All that read a slot say so to all that write to it.
    assert "mapa" in ptx
    everywhere, own = shared_copies(ptx)
    assert everywhere >= loads
    assert own >= 1
    ir = found.asm["shared"]
    assert len(re.findall(r"tma_load .*everywhere = true", ir)) == loads
    rows = sizes["M"] // num_ctas
    assert f"block<{rows}x" in ir
    assert f"block<{sizes['M']}x" not in ir


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [64, 128])
def test_attention_of_the_examples(size: int, causal: bool) -> None:
    signature = dict.fromkeys("qkvo", "*bf16:16")
    signature |= {"lse": "*fp32:16", "scale": "fp32"}
    signature |= dict.fromkeys(("heads", "group", "rows", "keys"), "i32")
    sizes = {"D": size, "CAUSAL": causal, "EVEN": False, "BM": 256, "BN": 64}
    found = compiled(attention.attention, sizes, 2, signature=signature)
    assert found.num_ctas == 2
    loads = re.findall(r"tma_load .*", found.asm["shared"])
    # Keys and values for both blocks of threads, queries for each.
    assert sum("everywhere = true" in load for load in loads) == 2
    assert len(loads) == 3
    # Copies for all keep more numbers at hand than others.
    assert "producer_registers = 40" in found.asm["shared"]


SQUARE = {"M": 256, "N": 256, "K": 64}


@pytest.mark.parametrize(
    ("kernel", "sizes"),
    [
        (whole_rows, {"M": 256, "N": 64, "K": 64}),
        (no_product, SQUARE),
        (symmetric, {"M": 128, "N": 128, "K": 64}),
        (needs_old_value, {"M": 128, "N": 64, "K": 64}),
        # Fewer rows than two warpgroups' products have.
        (kernels.gemm, {"M": 64, "N": 128, "K": 64}),
    ],
)
def test_what_cannot_be_split_stays_whole(kernel: JitFunction, sizes: dict[str, int]) -> None:
    found = compiled(kernel, sizes, 2)
    assert found.num_ctas == 1
    assert "cluster_rank" not in found.asm["shared"]
    assert "nctapercluster" not in found.asm["ptx"]
    alone = compiled(kernel, sizes, 1)
    assert instructions(found.asm["ptx"]) == instructions(alone.asm["ptx"])


def instructions(ptx: str) -> list[str]:
    """The lines of PTX that do something."""
    return [line for line in ptx.splitlines() if line.strip() and not line.startswith("//")]


def test_older_gpus_have_no_clusters() -> None:
    found = kernels.gemm.compile(
        PRODUCT, {"M": 128, "N": 64, "K": 32}, target="sm_80", num_warps=8, num_ctas=2
    )
    assert found.num_ctas == 1


def test_what_is_not_split_is_written_once() -> None:
    found = compiled(counts, {"M": 256, "N": 128, "K": 64}, 2)
    assert found.num_ctas == 2
    ir = found.asm["shared"]
    for op in ("store %c", "atomic_rmw"):
        (at,) = (i for i, line in enumerate(ir.splitlines()) if re.search(rf"\b{op}", line))
        before = next(line for line in reversed(ir.splitlines()[:at]) if re.search(r"\bif %", line))
        (condition,) = re.findall(r"\bif (%\w+)", before)
        made = re.search(rf"{condition} = compare (%\w+), .*predicate = \"eq\"", ir)
        assert made, condition
        assert f"{made[1]} = cluster_rank" in ir


def test_blocks_of_threads_are_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four for each program; a grid counts programs, also behind the first launches."""

    def slow_path(specialisation: Any) -> Kernel:
        return Kernel(specialisation, [(0, "ptr")], num_ctas=4)

    with recording_driver(monkeypatch) as driver:
        driver.wanted.value = 1
        launcher, _ = make("x", slow_path=slow_path)
        for x in range(1, 6):
            launcher[(x, 3, 2)](FakeTensor())
            assert list(driver.shape)[:6] == [4 * x, 3, 2, 128, 1, 1]
