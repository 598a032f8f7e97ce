"""Which part of a block each warpgroup holds, against enumeration of all threads and registers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings

from blocklang.ir.layout import (
    LinearLayout,
    blocked,
    mma_accumulator,
    replicated,
    warpgroup_steps,
    wgmma_accumulator,
)
from tests.property.test_layout import layouts

_WARPS = 4
Coordinates = tuple[int, ...]


def held(layout: LinearLayout) -> list[set[Coordinates]]:
    """The coordinates of the elements that each warpgroup holds."""
    sizes = [layout.in_size(dim) for dim in ("register", "lane", "warp")]
    found: list[set[Coordinates]] = [set() for _ in range(max(sizes[2] // _WARPS, 1))]
    for register, lane, warp in itertools.product(*map(range, sizes)):
        found[warp // _WARPS].add(layout.apply(register=register, lane=lane, warp=warp))
    return found


def tells(layout: LinearLayout, parts: list[set[Coordinates]], bit: int) -> list[tuple[int, int]]:
    """The axes and steps whose bit of a coordinate is that bit of the holder's number."""
    return [
        (axis, step)
        for axis, size in enumerate(layout.shape)
        for step in (1 << i for i in range(size.bit_length() - 1))
        if all(
            bool(coordinates[axis] & step) == bool(group >> bit & 1)
            for group, part in enumerate(parts)
            for coordinates in part
        )
    ]


def check(layout: LinearLayout) -> tuple[tuple[int, int], ...] | None:
    """The steps, held against what each warpgroup holds."""
    steps, parts = warpgroup_steps(layout), held(layout)
    bits = range(len(parts).bit_length() - 1)
    found = [tells(layout, parts, bit) for bit in bits]
    if steps is not None:
        assert len(steps) == len(bits)
        assert all(step in each for step, each in zip(steps, found, strict=True))
        everything = itertools.product(*map(range, layout.shape))
        for coordinates in everything:
            group = sum(
                1 << bit for bit, (axis, step) in enumerate(steps) if coordinates[axis] & step
            )
            holders = [number for number, part in enumerate(parts) if coordinates in part]
            # Random layouts need not hold every element.
            assert holders in ([group], [])
        return steps
    # What is refused is mixed or shared; or moves other bits too, which no box could have.
    steps_of_groups = layout.bases_of("warp")[2:]
    is_plain = all(
        sum(bool(step) for step in basis) == 1 and max(basis).bit_count() == 1
        for basis in steps_of_groups
    )
    assert not (is_plain and all(found))
    return None


ACCUMULATORS = [
    # shape, warps along its axes, columns of the instruction, steps
    ((64, 64), (4, 1), 64, ()),
    ((128, 64), (8, 1), 64, ((0, 64),)),
    ((256, 64), (8, 1), 64, ((0, 64),)),
    ((64, 128), (4, 2), 64, ((1, 64),)),
    ((64, 128), (4, 2), 32, ((1, 32),)),
    ((128, 128), (8, 2), 64, ((0, 64), (1, 64))),
    ((256, 32), (16, 1), 32, ((0, 64), (0, 128))),
    ((64, 32), (4, 4), 8, ((1, 8), (1, 16))),
    # Less than the warpgroups have together: several hold the same.
    ((64, 64), (8, 1), 64, None),
    ((64, 64), (4, 2), 64, None),
    ((128, 64), (16, 1), 64, None),
]


@pytest.mark.parametrize(("shape", "warps", "columns", "steps"), ACCUMULATORS)
@pytest.mark.parametrize("is_swapped", [False, True])
def test_accumulators(
    shape: tuple[int, int], warps: tuple[int, int], columns: int,
    steps: tuple[tuple[int, int], ...] | None, is_swapped: bool,
) -> None:  # fmt: skip
    layout = wgmma_accumulator(shape, warps, columns)
    if is_swapped:
        layout = layout.permute((1, 0))
        steps = None if steps is None else tuple((1 - axis, step) for axis, step in steps)
    assert check(layout) == steps


BLOCKED = [
    # shape, elements of a thread, lanes, warps, order, steps
    ((64, 32), (1, 4), (4, 8), (8, 1), (1, 0), ((0, 16),)),
    ((64, 64), (1, 4), (4, 8), (8, 1), (1, 0), ((0, 16),)),
    ((64, 64), (1, 4), (4, 8), (4, 2), (0, 1), ((1, 32),)),
    ((64, 64), (1, 4), (4, 8), (4, 2), (1, 0), ((0, 8),)),
    ((16, 32), (1, 4), (4, 8), (8, 1), (1, 0), None),
]


@pytest.mark.parametrize(("shape", "own", "lanes", "warps", "order", "steps"), BLOCKED)
def test_blocked(
    shape: tuple[int, ...], own: tuple[int, ...], lanes: tuple[int, ...], warps: tuple[int, ...],
    order: tuple[int, ...], steps: tuple[tuple[int, int], ...] | None,
) -> None:  # fmt: skip
    assert check(blocked(shape, own, lanes, warps, order)) == steps


def test_everyone_holds_everything() -> None:
    assert check(replicated((64,), 8)) is None
    assert check(replicated((64,), 4)) == ()


def test_warps_of_a_warpgroup_may_hold_the_same() -> None:
    # Of an accumulator of mma, four warps that would lie side by side along 8 columns.
    assert check(mma_accumulator((32, 8), (2, 4))) == ((0, 16),)


MIXED = [
    # A register moves to the rows of the other warpgroup, in half of the columns.
    ("register=[[64,1], [8,0]]", "[64,0]"),
    # The warpgroups' parts are apart, but no one bit says so.
    ("register=[[0,1], [8,0]]", "[64,1]"),
    ("register=[[0,1], [64,0]]", "[0,0]"),
]


@pytest.mark.parametrize(("registers", "group"), MIXED)
def test_mixed(registers: str, group: str) -> None:
    layout = LinearLayout.parse(
        f"layout<[128, 8], {registers}, lane=[[0,2], [0,4], [1,0], [2,0], [4,0]], "
        f"warp=[[16,0], [32,0], {group}]>"
    )
    assert check(layout) is None


@settings(max_examples=200, deadline=None)
@given(layouts(bits=5, lanes=2, warps=3))
def test_random_layouts(layout: LinearLayout) -> None:
    check(layout)


@settings(max_examples=200, deadline=None)
@given(layouts(bits=6, lanes=2, warps=4, surjective=True))
def test_random_layouts_that_hold_everything(layout: LinearLayout) -> None:
    check(layout)
