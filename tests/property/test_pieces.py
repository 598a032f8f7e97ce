"""Blocks in pieces, against enumeration of all threads and registers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocklang.ir.layout import LinearLayout, pieces, shared_tile, wgmma_accumulator
from tests.property.test_layout import layouts


def check(layout: LinearLayout, axis: int, count: int, dim: str = "register") -> None:
    """Each piece has all elements of its coordinates, where its own layout says."""
    found = pieces(layout, axis, count, dim)
    if found is None:
        return
    size = layout.shape[axis] // count
    assert found.layout.shape[axis] == size
    assert sorted(r for each in found.registers for r in each) == list(range(layout.in_size(dim)))
    others = [d for d in layout.in_dims if d != dim]
    for number, registers in enumerate(found.registers):
        assert len(registers) == found.layout.in_size(dim)
        for own, register in enumerate(registers):
            for indices in itertools.product(*(range(layout.in_size(d)) for d in others)):
                rest = dict(zip(others, indices, strict=True))
                expected = list(found.layout.apply(**{dim: own}, **rest))
                expected[axis] += number * size
                assert layout.apply(**{dim: register}, **rest) == tuple(expected)


def has_pieces(layout: LinearLayout, axis: int, count: int) -> bool:
    """Whether each register has elements of one piece only, in all threads the same, each piece has
    as many registers, and these differ from those of the first in nothing but the piece.
    """
    size = layout.shape[axis] // count
    numbers: dict[int, set[tuple[tuple[int, ...], ...]]] = {}
    threads = list(itertools.product(range(layout.in_size("lane")), range(layout.in_size("warp"))))
    for register in range(layout.in_size("register")):
        places = [layout.apply(register=register, lane=x, warp=y) for x, y in threads]
        if len({place[axis] // size for place in places}) != 1:
            return False
        within = tuple((*p[:axis], p[axis] % size, *p[axis + 1 :]) for p in places)
        numbers.setdefault(places[0][axis] // size, set()).add(within)
    return len(numbers) == count and len({frozenset(each) for each in numbers.values()}) == 1


@settings(max_examples=300, deadline=None)
@given(layouts(bits=4, surjective=True), st.data())
def test_any_layout(layout: LinearLayout, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(layout.shape) - 1))
    count = data.draw(st.sampled_from([n for n in (1, 2, 4) if n <= layout.shape[axis]]))
    check(layout, axis, count)
    if pieces(layout, axis, count) is not None:
        assert has_pieces(layout, axis, count)


@settings(max_examples=200, deadline=None)
@given(layouts(bits=3), st.sampled_from([2, 4]), st.data())
def test_layouts_that_have_pieces(part: LinearLayout, count: int, data: st.DataObject) -> None:
    """Any layout of a piece, and registers that number the pieces, anywhere among the others."""
    axis = data.draw(st.integers(0, len(part.shape) - 1))
    size = part.shape[axis]
    numbers = [size << bit for bit in range(count.bit_length() - 1)]
    numbering = [tuple(n if i == axis else 0 for i in range(len(part.shape))) for n in numbers]
    registers = data.draw(st.permutations([*part.bases_of("register"), *numbering]))
    shape = [n * count if i == axis else n for i, n in enumerate(part.shape)]
    others = {dim: part.bases_of(dim) for dim in part.in_dims if dim != "register"}
    layout = LinearLayout.of(shape, register=registers, **others)
    assert has_pieces(layout, axis, count)
    assert pieces(layout, axis, count) is not None
    check(layout, axis, count)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_results_of_warpgroups(count: int) -> None:
    layout = wgmma_accumulator((128, 256), (8, 1), 256)
    check(layout, 1, count)
    assert pieces(layout, 1, count) is not None
    assert (pieces(layout, 0, count) is not None) == (count == 1)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_pieces_of_a_buffer_are_as_the_accelerator_reads_them(count: int) -> None:
    found = pieces(shared_tile((64, 256), (1, 0), 16, 128), 1, count, "offset")
    assert found is not None
    assert found.layout == shared_tile((64, 256 // count), (1, 0), 16, 128)
    check(shared_tile((64, 256), (1, 0), 16, 128), 1, count, "offset")


def test_pieces_may_be_numbered_in_any_order() -> None:
    layout = LinearLayout.of([1, 16], register=[[0, 8], [0, 1], [0, 4]], lane=[[0, 2]])
    check(layout, 1, 4)
    found = pieces(layout, 1, 4)
    assert found is not None
    assert found.registers == ((0, 2), (4, 6), (1, 3), (5, 7))


def test_no_pieces() -> None:
    across = LinearLayout.of([1, 4], register=[[0, 1]], lane=[[0, 2]])
    assert pieces(across, 1, 2) is None  # lanes have different pieces
    assert pieces(across, 1, 8) is None  # more than there are elements
    mixed = LinearLayout.of([1, 4], register=[[0, 1], [0, 3]])
    assert pieces(mixed, 1, 2) is None
    twice = LinearLayout.of([1, 4], register=[[0, 1], [0, 2], [0, 2]])
    assert pieces(twice, 1, 2) is None
