"""Linear layouts: known examples, the tensor-core tables in closed form, text, errors."""

import doctest
import re
from pathlib import Path

import pytest

from blocklang.ir.layout import (
    LinearLayout,
    bank_conflicts,
    blocked,
    conversion,
    dot_operand,
    max_vector,
    mma_accumulator,
    optimal_shared,
    padded_shape,
    replicated,
    shared_access,
    shared_linear,
    shared_swizzled,
    sliced,
    wgmma_accumulator,
    wgmma_operand_a,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "internals" / "layouts.md"


# --- Text, equality, construction ---


@pytest.mark.parametrize(
    "text",
    [
        "layout<[1024], register=[1, 2, 512], lane=[4, 8, 16, 32, 64], warp=[128, 256]>",
        "layout<[2, 4], register=[[0,1], [1,0]], lane=[[0,2], [0,0]]>",
        "layout<[2, 2, 2], offset=[[0,0,1], [0,1,1], [1,0,0]]>",
        "layout<[], lane=[[], []]>",
        "layout<[1]>",
    ],
)
def test_text_reads_back(text: str) -> None:
    assert str(LinearLayout.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["layout", "layout<>", "layout<[4] lane=[1]>", "layout<[4], lane=[1], lane=[2]>",
     "layout<[4], lane=[[1]>", "layout<[4], lane=[4]>", "layout<[3], lane=[1]>"],
)  # fmt: skip
def test_malformed_text_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|twice|malformed|outside"):
        LinearLayout.parse(text)


def test_equality_ignores_how_a_layout_was_written() -> None:
    layout = LinearLayout.of([4], register=[1], lane=[2])
    same = LinearLayout.of([4], lane=[[2]], warp=[], register=[[1]])
    assert layout == same
    assert hash(layout) == hash(same)
    assert {layout: 1}[same] == 1
    assert layout != LinearLayout.of([4], register=[2], lane=[1])
    assert layout != "layout"


def test_absent_dims_have_one_index() -> None:
    layout = LinearLayout.of([4], register=[1, 2])
    assert layout.in_dims == ("register",)
    assert (layout.in_bits("warp"), layout.in_size("warp")) == (0, 1)
    assert layout.apply(register=3, warp=0) == (3,)
    with pytest.raises(ValueError, match="warp index 1"):
        layout.apply(warp=1)


def test_padded_shape() -> None:
    assert padded_shape((1, 3, 96, 1000, 1024)) == (1, 4, 128, 1024, 1024)


# --- Blocked layouts ---


def test_blocked_fits_exactly() -> None:
    layout = blocked([16, 64], [1, 4], [2, 16], [8, 1], [1, 0])
    assert str(layout) == (
        "layout<[16, 64], register=[[0,1], [0,2]], lane=[[0,4], [0,8], [0,16], [0,32], [1,0]], "
        "warp=[[2,0], [4,0], [8,0]]>"
    )
    assert layout.is_bijective


def test_blocked_smaller_than_the_tensor_adds_registers_fastest_axis_first() -> None:
    layout = blocked([16, 16], [1, 1], [8, 4], [1, 1], [0, 1])
    assert layout.bases_of("register") == ((8, 0), (0, 4), (0, 8))


def test_blocked_larger_than_the_tensor_replicates() -> None:
    layout = blocked([32], [4], [32], [2], [0])
    assert layout.bases_of("lane") == ((4,), (8,), (16,), (0,), (0,))
    assert layout.free_masks() == {"register": 0, "lane": 0b11000, "warp": 1}
    assert layout.owns(lane=7, warp=0)
    assert not layout.owns(lane=8, warp=0)


def test_replicated_and_sliced() -> None:
    layout = replicated([2, 4], num_warps=2)
    assert layout.apply(register=5, lane=31, warp=1) == (1, 1)
    parent = blocked([16, 16], [1, 2], [4, 8], [4, 1], [1, 0])
    assert sliced(parent, 1) == LinearLayout.of(
        [16], register=[0], lane=[0, 0, 0, 1, 2], warp=[4, 8]
    )


def test_broadcast_reuses_replicas_before_adding_registers() -> None:
    parent = blocked([16, 16], [1, 2], [4, 8], [4, 1], [1, 0])
    column = parent.slice(1).expand_dims(1)
    assert column.broadcast(1, 16) == parent
    wide = column.broadcast(1, 64)
    assert wide.bases_of("register") == ((0, 1), (0, 16), (0, 32))


# --- Widths ---


@pytest.mark.parametrize(
    ("layout", "width"),
    [
        (LinearLayout.of([64], register=[1, 2], lane=[4, 8, 16, 32]), 4),
        (LinearLayout.of([64], register=[1, 4], lane=[2, 8, 16, 32]), 2),
        (LinearLayout.of([64], register=[2, 1], lane=[4, 8, 16, 32]), 1),
        (LinearLayout.of([64], register=[1, 2], lane=[6, 8, 16, 32]), 2),
        (LinearLayout.of([64], register=[1, 2, 0], lane=[4, 9, 16, 32]), 1),
        (LinearLayout.of([4, 4], register=[[0, 1], [1, 0]], lane=[[0, 2], [2, 0]]), 2),
    ],
)
def test_vector_width(layout: LinearLayout, width: int) -> None:
    assert layout.vector_width() == width


# --- Tensor cores: the closed formulas of the instruction set manual ---


def every(layout: LinearLayout) -> list[tuple[int, int, int, tuple[int, ...]]]:
    return [
        (i, lane, warp, layout.apply(register=i, lane=lane, warp=warp))
        for i in range(layout.in_size("register"))
        for lane in range(32)
        for warp in range(layout.in_size("warp"))
    ]


def test_mma_accumulator() -> None:
    for i, lane, _, at in every(mma_accumulator((16, 8), (1, 1))):
        assert at == (lane // 4 + 8 * (i >> 1), 2 * (lane % 4) + (i & 1))


def test_mma_operand_a() -> None:
    for i, lane, _, at in every(dot_operand("a", (16, 16), (1, 1), 16)):
        g, t = divmod(lane, 4)
        assert at == (g + 8 * ((i >> 1) & 1), 2 * t + (i & 1) + 8 * (i >> 2))
    for i, lane, _, at in every(dot_operand("a", (16, 8), (1, 1), 32)):
        g, t = divmod(lane, 4)
        assert at == (g + 8 * (i & 1), t + 4 * (i >> 1))
    for i, lane, _, at in every(dot_operand("a", (16, 32), (1, 1), 8)):
        g, t = divmod(lane, 4)
        assert at == (g + 8 * ((i >> 2) & 1), 4 * t + (i & 3) + 16 * (i >> 3))


def test_mma_operand_b() -> None:
    for i, lane, _, at in every(dot_operand("b", (16, 8), (1, 1), 16)):
        g, t = divmod(lane, 4)
        assert at == (2 * t + (i & 1) + 8 * (i >> 1), g)
    for i, lane, _, at in every(dot_operand("b", (8, 8), (1, 1), 32)):
        g, t = divmod(lane, 4)
        assert at == (t + 4 * i, g)
    for i, lane, _, at in every(dot_operand("b", (32, 8), (1, 1), 8)):
        g, t = divmod(lane, 4)
        assert at == (4 * t + (i & 3) + 16 * (i >> 2), g)


def test_wgmma_accumulator_and_operand() -> None:
    for i, lane, warp, at in every(wgmma_accumulator((64, 64), (4, 1), 64)):
        g, t = divmod(lane, 4)
        assert at == (16 * warp + g + 8 * ((i >> 1) & 1), 8 * (i >> 2) + 2 * t + (i & 1))
    two_groups = wgmma_accumulator((128, 128), (8, 1), 128)
    assert two_groups.apply(warp=5) == (80, 0)
    assert wgmma_operand_a((64, 64), (4, 1), 16) == wgmma_accumulator((64, 64), (4, 1), 64)


def test_operands_meet_the_accumulator_of_their_warps() -> None:
    warps = (2, 4)
    accumulator = mma_accumulator((64, 64), warps)
    a, b = dot_operand("a", (64, 32), warps, 16), dot_operand("b", (32, 64), warps, 16)
    assert accumulator.is_bijective
    for warp in range(8):
        row, column = accumulator.apply(warp=warp)
        assert (a.apply(warp=warp)[0], b.apply(warp=warp)[1]) == (row, column)
    assert a.free_masks()["warp"] == 0b011
    assert b.free_masks()["warp"] == 0b100


# --- Conversions ---


def test_conversion_kinds() -> None:
    row = blocked([32, 32], [1, 8], [8, 4], [4, 1], [1, 0])
    assert conversion(row, row).kind == "identity"
    assert conversion(row, blocked([32, 32], [8, 1], [4, 8], [1, 4], [0, 1])).kind == "shared"

    swapped = LinearLayout.of([8], register=[2, 1], lane=[4])
    plain = LinearLayout.of([8], register=[1, 2], lane=[4])
    assert conversion(plain, swapped).registers == (0, 2, 1, 3)
    wider = LinearLayout.of([8], register=[1, 2, 0], lane=[4])
    assert conversion(plain, wider).registers == (0, 1, 2, 3, 0, 1, 2, 3)

    first = LinearLayout.of([4], lane=[1], block=[2])
    assert conversion(first, LinearLayout.of([4], lane=[2], block=[1])).kind == "cluster"


def test_accumulator_becomes_an_operand_without_moving() -> None:
    accumulator = wgmma_accumulator((64, 128), (4, 1), 128)
    assert conversion(accumulator, wgmma_operand_a((64, 128), (4, 1), 16)).kind == "identity"
    accumulator = mma_accumulator((32, 64), (2, 1))
    found = conversion(accumulator, dot_operand("a", (32, 64), (2, 1), 16))
    assert found.kind == "identity"


def test_transposing_a_lane_bit_with_a_register_bit_moves_half_the_registers() -> None:
    source = LinearLayout.of([64], register=[1, 2], lane=[4, 8, 16, 32])
    target = LinearLayout.of([64], register=[4, 2], lane=[1, 8, 16, 32])
    plan = conversion(source, target).plan
    assert plan is not None
    assert plan.is_xor
    assert plan.shuffle_count == 2
    assert (len(plan.before), len(plan.after)) == (1, 1)


def test_a_broadcast_within_the_warp_is_one_shuffle() -> None:
    source = LinearLayout.of([4], lane=[1, 2])
    found = conversion(source, LinearLayout.of([4], lane=[2, 0], register=[1]))
    assert found.kind == "warp"
    assert found.plan is not None
    assert found.plan.shuffle_count == 2
    assert not found.plan.before


# --- Shared memory ---


def test_swizzle_matches_its_formula() -> None:
    layout = shared_swizzled((16, 64), (1, 0), vec=8, per_phase=1, max_phase=8)
    inverse = layout.invert()
    for row in range(16):
        for column in range(64):
            offset = row * 64 + ((column // 8) ^ (row % 8)) * 8 + column % 8
            assert inverse.apply(dim0=row, dim1=column) == (offset,)


def test_transposition_through_shared_memory_has_no_conflicts() -> None:
    row = blocked([32, 32], [1, 1], [1, 32], [4, 1], [1, 0])
    column = blocked([32, 32], [1, 1], [32, 1], [1, 4], [0, 1])
    plain = shared_linear([32, 32], [1, 0])
    assert bank_conflicts(row, plain, 32, 1) == 1
    assert bank_conflicts(column, plain, 32, 1) == 32
    best = optimal_shared(row, column, 32)
    assert bank_conflicts(row, best.layout, 32, best.store_vector_bits // 32) == 1
    assert bank_conflicts(column, best.layout, 32, best.load_vector_bits // 32) == 1


@pytest.mark.parametrize("element_bits", [8, 16, 32])
def test_a_transposition_has_wide_vectors_on_one_side(element_bits: int) -> None:
    row = blocked([128, 128], [1, 128 // element_bits], [4, 8], [4, 1], [1, 0])
    column = blocked([128, 128], [128 // element_bits, 1], [8, 4], [1, 4], [0, 1])
    best = optimal_shared(row, column, element_bits)
    bits = (best.store_vector_bits, best.load_vector_bits)
    assert max(bits) >= 64
    for side, width in zip((row, column), bits, strict=True):
        assert bank_conflicts(side, best.layout, element_bits, width // element_bits) == 1


def test_bytes_of_one_word_do_not_conflict() -> None:
    """Without registers to fill a word, the word's elements belong to several lanes."""
    bits = [1 << bit for bit in range(9)]
    source = LinearLayout.of([512], lane=bits[:5], warp=bits[5:])
    target = LinearLayout.of([512], lane=bits[4:], warp=bits[:4])
    best = optimal_shared(source, target, 8)
    assert bank_conflicts(source, best.layout, 8, 1) == 1
    assert bank_conflicts(target, best.layout, 8, 1) == 1


def test_agreeing_layouts_use_whole_vectors() -> None:
    layout = blocked([64, 64], [1, 8], [4, 8], [4, 1], [1, 0])
    best = optimal_shared(layout, layout, 16)
    assert (best.store_vector_bits, best.load_vector_bits) == (128, 128)
    access = shared_access(layout, best.layout, 8)
    assert len(access.vectors) == layout.in_size("register") // 8
    assert sorted(sum(access.vectors, ())) == list(range(layout.in_size("register")))


def test_vectors_that_would_depend_on_the_lane_are_refused() -> None:
    registers = LinearLayout.of([8], register=[1], lane=[3, 4])
    buffer = shared_linear([8], [0])
    assert max_vector(registers, buffer) == 1
    with pytest.raises(ValueError, match="no vectors of 2"):
        shared_access(registers, buffer, 2)


# --- Errors ---


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: LinearLayout.of([3], lane=[1]), "power of two, got 3"),
        (lambda: LinearLayout.of([4], lane=[4]), "outside the shape"),
        (lambda: LinearLayout.of([4], lane=[[1, 1]]), "outside the shape"),
        (lambda: LinearLayout.of([4], lane=[1]).pseudo_inverse(), "reaches only 2\\^1 of 2\\^2"),
        (lambda: LinearLayout.of([2], lane=[1, 1]).invert(), "not bijective"),
        (lambda: LinearLayout.of([4]).reshape([8]), "sizes differ"),
        (lambda: LinearLayout.of([4]).permute([1]), "no permutation"),
        (lambda: LinearLayout.of([4]).slice(1), "axis 1 is outside"),
        (lambda: LinearLayout.of([4]).broadcast(0, 8), "only an axis of size 1"),
        (lambda: LinearLayout.of([4]).compose(LinearLayout.of([2], dim0=[1])), "cannot compose"),
        (lambda: LinearLayout.of([4]).product(LinearLayout.of([4, 4])), "ranks"),
        (lambda: blocked([4, 4], [1], [32], [1], [0]), "differ in rank"),
        (lambda: conversion(LinearLayout.of([4]), LinearLayout.of([4])), "every element"),
        (lambda: wgmma_accumulator((64, 64), (2, 1), 64), "multiple of 4 warps"),
        (lambda: dot_operand("a", (16, 16), (1, 1), 4), "4 bits"),
    ],
)
def test_mistakes_are_named(action, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        action()


# --- Pictures ---


def test_show_draws_only_the_logical_shape_and_lists_replicas() -> None:
    layout = LinearLayout.of([4], register=[1, 0], lane=[2, 0])
    assert layout.show([3]) == "T0:0|T0:2|T2:0|T2:2  T0:1|T0:3|T2:1|T2:3  T1:0|T1:2|T3:0|T3:2"
    assert LinearLayout.of([1], lane=[0, 0, 0]).show() == "T0:0|T1:0|T2:0|T3:0|+4"
    assert LinearLayout.of([2, 1, 2], offset=[[0, 0, 1], [1, 0, 0]]).show() == (
        "[0, :, :]\n@0  @1\n\n[1, :, :]\n@2  @3"
    )


def test_the_pictures_in_the_document_are_current() -> None:
    blocks = re.findall(r"^```pycon\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) > 5
    names: dict[str, object] = {}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for number, block in enumerate(blocks):
        test = doctest.DocTestParser().get_doctest(block, names, f"block {number}", None, None)
        output: list[str] = []
        runner.run(test, out=output.append, clear_globs=False)
        names.update(test.globs)
        assert not output, "".join(output)
