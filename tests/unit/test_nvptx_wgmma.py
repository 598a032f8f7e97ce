"""Products by warpgroups: descriptors against a model of what the hardware reads, and every form
of the instruction through the assembler, which must find nothing to serialise.
"""

from __future__ import annotations

import itertools
import re

import pytest

import blocklang
import blocklang.language as bl
from blocklang import compile as pipeline
from blocklang.codegen import llvm
from blocklang.codegen.nvptx import assembler
from blocklang.codegen.nvptx.kernel import emit_kernel
from blocklang.codegen.nvptx.wgmma import Instruction, find_instruction, find_tile
from blocklang.codegen.targets import gpu_target
from blocklang.ir.layout import (
    LinearLayout,
    shared_linear,
    shared_tile,
    wgmma_accumulator,
    wgmma_operand_a,
)
from blocklang.ir.parser import parse
from blocklang.ir.verify import verify

TARGET = gpu_target("sm_90a")
BITS = {"f16": 16, "bf16": 16, "f32": 32, "f8e4m3": 8, "f8e5m2": 8, "i8": 8, "u8": 8}

# ---------------------------------------------------------------- descriptors


def address_read(descriptor: int, outer: int, k: int, is_transposed: bool, bits: int) -> int:
    """The byte that the hardware reads for element (outer, k) of an instruction's operand."""
    start, leading, stride = (
        (descriptor >> shift & 0x3FFF) << 4 for shift in (0, 16, 32)
    )  # fmt: skip
    swizzle = {1: 128, 2: 64, 3: 32}[descriptor >> 62]
    if is_transposed:
        panel, within = divmod(outer * bits // 8, swizzle)
        byte = start + panel * leading + k // 8 * stride + k % 8 * swizzle + within
    else:
        byte = start + outer // 8 * stride + outer % 8 * swizzle + k * bits // 8
    return byte ^ (byte >> 7 & swizzle // 16 - 1) << 4


@pytest.mark.parametrize("swizzle", [128, 64, 32])
@pytest.mark.parametrize(
    ("bits", "is_transposed"), [(16, False), (16, True), (8, False), (32, False)]
)
def test_descriptors(bits: int, is_transposed: bool, swizzle: int) -> None:
    width = 8 * swizzle // bits
    depth, step = (64 if is_transposed else 2 * width), 256 // bits
    shape, order = (128, depth), ((0, 1) if is_transposed else (1, 0))
    layout = shared_tile(shape, order, bits, swizzle)
    places = {layout.apply(offset=i): i * bits // 8 for i in range(layout.in_size("offset"))}
    tile = find_tile(shape, layout, bits)
    assert (tile.fastest, tile.swizzle) == (order[0], swizzle)
    for first, start in itertools.product((0, 64), range(0, depth, step)):
        descriptor = tile.header(1) + (tile.byte((first, start)) >> 4)
        for outer, k in itertools.product(range(64), range(step)):
            read = address_read(descriptor, outer, k, is_transposed, bits)
            # The lowest bits of a piece are not swizzled.
            assert read == places[first + outer, start + k]


def test_other_layouts_are_no_tiles() -> None:
    with pytest.raises(ValueError, match="no warpgroup can read"):
        find_tile((64, 64), shared_linear((64, 64), (1, 0)), 16)


@pytest.mark.parametrize(
    ("shape", "warps", "columns"),
    [
        ((128, 256), (8, 1), 256),
        ((128, 256), (4, 1), 256),
        ((64, 256), (4, 2), 128),
        ((64, 16), (4, 1), 16),
    ],
)
def test_instruction_of_a_layout(
    shape: tuple[int, int], warps: tuple[int, int], columns: int
) -> None:
    layout = wgmma_accumulator(shape, warps, columns)
    assert find_instruction(layout) == Instruction(warps, columns, is_swapped=False)
    swapped = find_instruction(layout.permute((1, 0)))
    assert swapped == Instruction(warps, columns, is_swapped=True)


def test_other_layouts_are_no_accumulators() -> None:
    with pytest.raises(ValueError, match="no accumulator"):
        find_instruction(wgmma_operand_a((64, 64), (4, 1), 8))


# ---------------------------------------------------------------- forms


def kernel(
    shape: tuple[int, int, int],
    kinds: tuple[str, str, str],
    tiles: tuple[LinearLayout | None, LinearLayout],
    num_warps: int,
) -> str:
    """A kernel with a product of (M, N, K) on zero and one that is added to it under a predicate;
    `a` comes from registers where it has no tile. Of fewer than 64 rows the factors are swapped.
    """
    m, n, k = shape
    a, b, acc = kinds
    rows, columns = (m, n) if m >= 64 else (n, m)
    spread = (num_warps, 1) if rows >= 16 * num_warps else (4, num_warps // 4)
    result = wgmma_accumulator((rows, columns), spread, min(256, max(columns // spread[1], 8)))
    result = result if m >= 64 else result.permute((1, 0))
    block = f"block<{m}x{n}x{acc}, #acc>"
    first, size = tiles[0], BITS[a] // 8
    in_registers = wgmma_operand_a((m, k), spread, BITS[a])
    left = f"shared<{m}x{k}x{a}, #a>"
    fragment = f"block<{m}x{k}x{a}, #fragment>"
    behind = m * k * size + n * k * BITS[b] // 8
    load = f"%a = shared_load %left {{vector = 1}} : {fragment}"
    return f"""module {{stage = "shared"}}
#acc = {result}
#fragment = {in_registers}
#a = {first or shared_linear((m, k), (1, 0))}
#b = {tiles[1]}
#out = {shared_linear((m, n), (1, 0))}
kernel @form(%i: i32) {{num_warps = {num_warps}, num_stages = 1, shared_bytes = {behind}}} {{
  %zero = constant {{value = 0}} : i32
  %nothing = constant {{value = {"0" if acc == "i32" else "0.0"}}} : {block}
  %more = compare %i, %zero {{predicate = "gt"}} : i1
  %left = shared_alloc {{offset = 0}} : {left}
  %b = shared_alloc {{offset = {m * k * size}}} : shared<{k}x{n}x{b}, #b>
  {load if first is None else f"%a = shared_view %left : {left}"}
  %one = wgmma %a, %b, %nothing : pending<{block}>
  %two = wgmma %a, %b, %one, accumulate = %more : pending<{block}>
  %end, %used = wgmma_wait values = [%two, %nothing] : {block}, {block}
  %out = shared_alloc {{offset = 0}} : shared<{m}x{n}x{acc}, #out>
  barrier
  shared_store %out, value = %end {{vector = 1}}
  return
}}
"""


def assemble(text: str) -> tuple[str, assembler.Assembled]:
    """PTX and machine code, about which the assembler has nothing to say."""
    module = parse(text)
    verify(module)
    ptx, _ = llvm.ptx(emit_kernel(module, TARGET, line_info=False), TARGET)
    tool = pipeline.ptxas()
    assert tool is not None
    made = assembler.assemble(ptx, TARGET.name, ptxas=tool)
    assert made.warnings == ()
    (resources,) = made.kernels.values()
    assert resources.spill_stores == resources.spill_loads == 0
    return ptx, made


FORMS = [
    ("f16", "f16", "f16"), ("f16", "f16", "f32"), ("bf16", "bf16", "f32"), ("f32", "f32", "f32"),
    ("f8e4m3", "f8e4m3", "f32"), ("f8e5m2", "f8e4m3", "f32"), ("f8e4m3", "f8e5m2", "f16"),
    ("i8", "i8", "i32"), ("u8", "u8", "i32"),
]  # fmt: skip
NAMES = {"f32": "tf32", "f8e4m3": "e4m3", "f8e5m2": "e5m2", "i8": "s8"}

needs_ptxas = pytest.mark.skipif(pipeline.ptxas() is None, reason="there is no ptxas")


@needs_ptxas
@pytest.mark.parametrize("from_registers", [False, True], ids=("shared", "registers"))
@pytest.mark.parametrize("kinds", FORMS, ids="-".join)
def test_types(kinds: tuple[str, str, str], from_registers: bool) -> None:
    a, b, acc = kinds
    depth = 512 // BITS[a]
    tile = shared_tile((64, depth), (1, 0), BITS[a], 64)
    right = shared_tile((depth, 32), (0, 1), BITS[b], 64)
    ptx, _ = assemble(kernel((64, 32, depth), kinds, (None if from_registers else tile, right), 4))
    result = {"i32": "s32"}.get(acc, acc)
    form = f"m64n32k{256 // BITS[a]}.{result}.{NAMES.get(a, a)}.{NAMES.get(b, b)} "
    # Two products of two steps each.
    assert len(re.findall(re.escape(f"wgmma.mma_async.sync.aligned.{form}"), ptx)) == 4


@needs_ptxas
@pytest.mark.parametrize("rows", [16, 32])
@pytest.mark.parametrize("kinds", FORMS, ids="-".join)
def test_types_of_swapped_factors(kinds: tuple[str, str, str], rows: int) -> None:
    a, b, acc = kinds
    depth = 512 // BITS[a]
    left = shared_tile((rows, depth), (1, 0), BITS[a], 64)
    right = shared_tile((depth, 128), (0, 1), BITS[b], 64)
    ptx, _ = assemble(kernel((rows, 128, depth), kinds, (left, right), 4))
    result = {"i32": "s32"}.get(acc, acc)
    form = f"m64n{rows}k{256 // BITS[a]}.{result}.{NAMES.get(b, b)}.{NAMES.get(a, a)} "
    # Two products of two steps and two halves each.
    assert len(re.findall(re.escape(f"wgmma.mma_async.sync.aligned.{form}"), ptx)) == 8


@needs_ptxas
@pytest.mark.parametrize("rows", [16, 32])
@pytest.mark.parametrize("majors", list(itertools.product((0, 1), (0, 1))))
def test_majors_of_swapped_factors(majors: tuple[int, int], rows: int) -> None:
    left = shared_tile((rows, 64), (majors[0], 1 - majors[0]), 16, 128 if majors[0] else 2 * rows)
    right = shared_tile((64, 128), (majors[1], 1 - majors[1]), 16, 128)
    ptx, _ = assemble(kernel((rows, 128, 64), ("bf16", "bf16", "f32"), (left, right), 8))
    flags = f"{int(majors[1] == 1)}, {int(majors[0] == 0)};"
    assert len(re.findall(rf"wgmma\.mma_async.*, 1, 1, {flags}", ptx)) == 2 * 4


@needs_ptxas
@pytest.mark.parametrize("swizzle", [128, 64, 32])
@pytest.mark.parametrize("majors", list(itertools.product((0, 1), (0, 1))))
def test_majors(majors: tuple[int, int], swizzle: int) -> None:
    a = shared_tile((128, 64), (majors[0], 1 - majors[0]), 16, swizzle)
    b = shared_tile((64, 64), (majors[1], 1 - majors[1]), 16, swizzle)
    ptx, _ = assemble(kernel((128, 64, 64), ("bf16", "bf16", "f32"), (a, b), 4))
    flags = f"{int(majors[0] == 0)}, {int(majors[1] == 1)};"
    assert len(re.findall(rf"wgmma\.mma_async.*, 1, 1, {flags}", ptx)) == 2 * 2 * 4


@needs_ptxas
@pytest.mark.parametrize(
    ("shape", "num_warps"),
    [((64, 8, 64), 4), ((64, 256, 64), 4), ((128, 256, 64), 8), ((256, 64, 64), 8),
     ((64, 128, 64), 8), ((8, 64, 64), 4), ((16, 256, 64), 16), ((16, 64, 64), 16),
     ((32, 64, 64), 8)],
)  # fmt: skip
def test_sizes(shape: tuple[int, int, int], num_warps: int) -> None:
    m, n, k = shape
    tiles = shared_tile((m, k), (1, 0), 16, 128), shared_tile((k, n), (0, 1), 16, 128)
    assemble(kernel(shape, ("f16", "f16", "f32"), tiles, num_warps))


# ---------------------------------------------------------------- stores of loaded factors


@blocklang.jit
def from_pointers(a, b, c, n, N: bl.constexpr):
    """A product of what threads load, both factors row by row."""
    i, j, k = bl.arange(0, 64), bl.arange(0, N), bl.arange(0, 64)
    x = bl.load(a + i[:, None] * 64 + k[None, :])
    y = bl.load(b + k[:, None] * n + j[None, :])
    bl.store(c + i[:, None] * n + j[None, :], bl.dot(x, y))


@pytest.mark.parametrize("columns", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("warps", [4, 8])
def test_loaded_factors_are_stored_in_vectors(columns: int, warps: int) -> None:
    """In the order in which they lie in memory, 16 bytes at a time."""
    signature = {"a": "*fp16:16", "b": "*fp16:16", "c": "*fp32:16", "n": "i32:16"}
    found = from_pointers.compile(signature, {"N": columns}, target="sm_90a", num_warps=warps)
    ptx = found.asm["ptx"]
    assert "wgmma.mma_async" in ptx
    assert found.metadata["warnings"] == []
    assert "st.shared.v4" in ptx
    assert not re.search(r"st\.shared\.[bu]16", ptx)
