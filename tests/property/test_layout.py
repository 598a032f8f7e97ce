"""Linear layouts against enumeration: formulas are checked on every element of small layouts."""

import itertools
from collections import Counter

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from blocklang.ir.layout import (
    LinearLayout,
    ShufflePlan,
    bank_conflicts,
    blocked,
    conversion,
    gf2,
    max_vector,
    optimal_shared,
    shared_access,
)

DIMS = ("register", "lane", "warp")
quick = settings(max_examples=60, deadline=None)
thorough = settings(max_examples=200, deadline=None)


@st.composite
def shapes(draw, bits: int = 5) -> tuple[int, ...]:
    rank = draw(st.integers(1, 3))
    cuts = sorted(draw(st.lists(st.integers(0, bits), min_size=rank - 1, max_size=rank - 1)))
    edges = [0, *cuts, bits]
    return tuple(1 << (b - a) for a, b in itertools.pairwise(edges))


@st.composite
def layouts(draw, bits: int = 5, surjective: bool = False, shape=None, lanes=3, warps=1):
    """A layout with random bases; registers are added until every element is held, if asked."""
    shape = draw(shapes(bits)) if shape is None else shape
    # Single bits and zeros are what real layouts have; sums make it hard.
    basis = st.one_of(
        st.integers(0, bits - 1).map(lambda bit: 1 << bit),
        st.just(0),
        st.integers(0, (1 << bits) - 1),
    )
    flat = {
        "register": draw(st.lists(basis, max_size=2)),
        "lane": draw(st.lists(basis, min_size=lanes, max_size=lanes)),
        "warp": draw(st.lists(basis, min_size=warps, max_size=warps)),
    }
    if surjective:
        held = [b for bases in flat.values() for b in bases]
        units = [1 << bit for bit in range(bits)]
        flat["register"] += gf2.independent(draw(st.permutations(units)), modulo=held)
        flat["register"] = draw(st.permutations(flat["register"]))
    return LinearLayout.from_flat(shape, flat)


@st.composite
def bijections(draw, dim: str, shape: tuple[int, ...]):
    """A random bijective layout with one in-dim."""
    bits = sum(size.bit_length() - 1 for size in shape)
    columns = draw(st.permutations([1 << bit for bit in range(bits)]))
    for target, source in draw(
        st.lists(st.tuples(st.integers(0, bits - 1), st.integers(0, bits - 1)), max_size=8)
    ):
        if target != source:
            columns[target] ^= columns[source]
    return LinearLayout.from_flat(shape, {dim: columns})


def indices(layout: LinearLayout):
    """Every index of a layout, as keyword arguments of `apply`."""
    dims = layout.in_dims
    for values in itertools.product(*(range(layout.in_size(dim)) for dim in dims)):
        yield dict(zip(dims, values, strict=True))


def number(coordinates: tuple[int, ...], shape: tuple[int, ...]) -> int:
    flat = 0
    for coordinate, size in zip(coordinates, shape, strict=True):
        flat = flat * size + coordinate
    return flat


def bits_of(value: int) -> list[int]:
    return [bit for bit in range(value.bit_length()) if value >> bit & 1]


# --- The algebra ---


vectors = st.lists(st.integers(0, 63), max_size=6)


def span(basis) -> set[int]:
    return {gf2.apply(basis, combination) for combination in range(1 << len(basis))}


@thorough
@given(vectors, vectors)
def test_spans_against_enumeration(first: list[int], second: list[int]) -> None:
    common = gf2.intersection(first, second)
    assert span(common) == span(first) & span(second)
    assert 1 << len(common) == len(span(common))
    assert span(gf2.kernel(first)) == {
        x for x in range(1 << len(first)) if gf2.apply(first, x) == 0
    }
    # One basis per span, whatever it was given by.
    assert gf2.reduced_basis(first) == gf2.reduced_basis(sorted(span(first), reverse=True))
    rest = gf2.independent(second, modulo=first)
    assert span([*first, *second]) == span([*gf2.reduced_basis(first), *rest])
    assert len(rest) == gf2.rank([*first, *second]) - gf2.rank(first)


# --- The map ---


@quick
@given(layouts())
def test_apply_is_the_xor_of_bases(layout: LinearLayout) -> None:
    for index in indices(layout):
        expected = [0] * layout.rank
        for dim, value in index.items():
            for bit in bits_of(value):
                for axis, coordinate in enumerate(layout.basis(dim, bit)):
                    expected[axis] ^= coordinate
        assert layout.apply(**index) == tuple(expected)


@quick
@given(layouts())
def test_text_reads_back(layout: LinearLayout) -> None:
    assert LinearLayout.parse(str(layout)) == layout


@quick
@given(layouts())
def test_rank_predicates_count_elements(layout: LinearLayout) -> None:
    held = Counter(layout.apply(**index) for index in indices(layout))
    assert layout.is_injective == (max(held.values()) == 1)
    assert layout.is_surjective == (len(held) == 1 << layout.out_bits)


@quick
@given(layouts())
def test_owners_hold_each_element_exactly_once(layout: LinearLayout) -> None:
    held = {layout.apply(**index) for index in indices(layout)}
    owned = Counter(layout.apply(**i) for i in indices(layout) if layout.owns(**i))
    assert owned == dict.fromkeys(held, 1)


@quick
@given(layouts(surjective=True))
def test_pseudo_inverse_finds_the_owner(layout: LinearLayout) -> None:
    inverse = layout.pseudo_inverse()
    for coordinates in itertools.product(*map(range, layout.shape)):
        point = {f"dim{axis}": c for axis, c in enumerate(coordinates)}
        index = dict(zip(layout.in_dims, inverse.apply(**point), strict=True))
        assert layout.apply(**index) == coordinates
        assert layout.owns(**index)


@quick
@given(st.data())
def test_composition_and_inverse(data) -> None:
    shape = data.draw(shapes())
    inner = data.draw(layouts(shape=shape))
    bijection = data.draw(bijections("offset", shape))
    composed = inner.compose(bijection.invert())
    for index in indices(inner):
        (offset,) = composed.apply(**index)
        assert bijection.apply(offset=offset) == inner.apply(**index)
    assert bijection.compose(bijection.invert()).flat_bases("offset") == tuple(
        1 << bit for bit in range(bijection.out_bits)
    )


# --- Shapes ---


@quick
@given(layouts(), st.data())
def test_shape_changes_keep_every_element_where_it_is(layout: LinearLayout, data) -> None:
    axis = data.draw(st.integers(0, layout.rank - 1))
    sliced = layout.slice(axis)
    order = data.draw(st.permutations(range(layout.rank)))
    permuted = layout.permute(order)
    new_shape = data.draw(shapes())
    reshaped = layout.reshape(new_shape)
    expanded = layout.expand_dims(axis)
    for index in indices(layout):
        at = layout.apply(**index)
        assert sliced.apply(**index) == at[:axis] + at[axis + 1 :]
        assert permuted.apply(**index) == tuple(at[i] for i in order)
        assert number(reshaped.apply(**index), new_shape) == number(at, layout.shape)
        assert expanded.apply(**index) == (*at[:axis], 0, *at[axis:])


@quick
@given(layouts(surjective=True), st.data())
def test_broadcast_needs_no_data_movement(layout: LinearLayout, data) -> None:
    axis = data.draw(st.integers(0, layout.rank))
    column = layout.expand_dims(axis)
    wide = column.broadcast(axis, 8)
    assert wide.is_surjective
    registers = column.in_size("register")
    free = sum(mask.bit_count() for mask in column.free_masks().values())
    assert wide.in_bits("register") == column.in_bits("register") + max(3 - free, 0)
    for index in indices(wide):
        at = wide.apply(**index)
        index["register"] = index.get("register", 0) % registers
        assert column.apply(**index) == (*at[:axis], 0, *at[axis + 1 :])


@quick
@given(layouts(bits=3, lanes=1), layouts(bits=3, lanes=2))
def test_a_product_tiles(tile: LinearLayout, outer: LinearLayout) -> None:
    assume(tile.rank == outer.rank)
    product = tile.product(outer)
    for index in indices(product):
        low = {d: v % tile.in_size(d) for d, v in index.items()}
        high = {d: v // tile.in_size(d) for d, v in index.items()}
        expected = zip(tile.apply(**low), tile.shape, outer.apply(**high), strict=True)
        assert product.apply(**index) == tuple(a + size * b for a, size, b in expected)


@quick
@given(layouts())
def test_removed_registers_are_copies_of_the_kept(layout: LinearLayout) -> None:
    smaller, kept = layout.remove_zero_bases("register")
    assert len(kept) == smaller.in_size("register")
    for register, original in enumerate(kept):
        assert smaller.apply(register=register) == layout.apply(register=original)
    assert len(set(kept)) == len(kept)
    assert all(any(basis) for basis in smaller.bases_of("register"))


@thorough
@given(layouts())
def test_vector_width_is_the_widest_run_in_all_threads(layout: LinearLayout) -> None:
    def runs(width: int) -> bool:
        for index in indices(layout):
            register = index.get("register", 0)
            at = layout.apply(**index)
            first = layout.apply(**{**index, "register": register - register % width})
            if first[-1] % width or at != (*first[:-1], first[-1] + register % width):
                return False
        return True

    widths = [1 << bit for bit in range(layout.in_bits("register") + 1)]
    assert layout.vector_width() == max(width for width in widths if runs(width))


@st.composite
def powers(draw, rank: int, bits: int) -> list[int]:
    split = draw(st.lists(st.integers(0, rank - 1), min_size=bits, max_size=bits))
    return [1 << split.count(axis) for axis in range(rank)]


@quick
@given(st.integers(1, 3), st.data())
def test_blocked_is_surjective_and_walks_boxes(rank: int, data) -> None:
    shape = data.draw(powers(rank, 7))
    size, threads = data.draw(powers(rank, 2)), data.draw(powers(rank, 5))
    warps = data.draw(powers(rank, 1))
    order = data.draw(st.permutations(range(rank)))
    layout = blocked(shape, size, threads, warps, order)
    assert layout.is_surjective
    for lane in range(32):
        rest, expected = lane, [0] * rank
        for axis in order:
            expected[axis] = rest % threads[axis] * size[axis] % shape[axis]
            rest //= threads[axis]
        assert layout.apply(lane=lane) == tuple(expected)


# --- Conversions ---


def simulate(plan: ShufflePlan, values: list[list[int]], warp: int) -> list[list[int]]:
    """Execute a plan on `values[lane][register]` of one warp, as the hardware would."""

    def swapped(rows: list[list[int]], swaps) -> list[list[int]]:
        for swap in swaps:
            rows = [
                [row[r ^ swap.offset] for r in range(len(row))]
                if ((lane & swap.lane_mask).bit_count() + (warp & swap.warp_mask).bit_count()) % 2
                else row
                for lane, row in enumerate(rows)
            ]
        return rows

    sent = swapped(values, plan.before)
    received: list[list[int]] = []
    for lane in range(len(values)):
        sender = gf2.apply(plan.lane_bases, lane) ^ gf2.apply(plan.warp_bases, warp)
        received.append([sent[sender ^ r.constant][r.register] for r in plan.rounds])
    return swapped(received, plan.after)


def contents(layout: LinearLayout, warp: int) -> list[list[int]]:
    return [
        [
            number(layout.apply(register=register, lane=lane, warp=warp), layout.shape)
            for register in range(layout.in_size("register"))
        ]
        for lane in range(layout.in_size("lane"))
    ]


def everything(rows: list[list[int]]) -> set[int]:
    return {value for row in rows for value in row}


@st.composite
def warp_local_pairs(draw):
    """Two layouts whose warps hold the same elements, in shuffled or summed directions."""
    source = draw(layouts(surjective=True))
    bases = [*source.flat_bases("register"), *source.flat_bases("lane")]
    mixed = draw(st.permutations(bases))
    for target, other in draw(
        st.lists(st.tuples(*[st.integers(0, len(bases) - 1)] * 2), max_size=2)
    ):
        mixed[target] ^= mixed[other] if target != other else 0
    warp = [b ^ draw(st.sampled_from([0, *bases])) for b in source.flat_bases("warp")]
    flat = {"lane": mixed[:3], "register": mixed[3:], "warp": warp}
    return source, LinearLayout.from_flat(source.shape, flat)


@st.composite
def pairs(draw):
    source = draw(layouts(surjective=True))
    return source, draw(layouts(shape=source.shape, surjective=draw(st.booleans())))


@thorough
@given(st.one_of(pairs(), warp_local_pairs()))
def test_conversions_deliver_every_element(pair) -> None:
    source, target = pair
    found = conversion(source, target)
    warps = range(source.in_size("warp"))
    before = [contents(source, warp) for warp in warps]
    after = [contents(target, warp) for warp in warps]
    if found.registers is not None:
        moved = [[[row[r] for r in found.registers] for row in rows] for rows in before]
        assert moved == after
    if found.plan is not None:
        assert [simulate(found.plan, before[warp], warp) for warp in warps] == after

    # No cheaper kind would have done.
    same_threads = all(
        any(
            all(before[w][lane][g] == after[w][lane][r] for w in warps for lane in range(8))
            for g in range(source.in_size("register"))
        )
        for r in range(target.in_size("register"))
    )
    assert same_threads == (found.kind in ("identity", "register"))
    if found.kind == "identity":
        assert before == after
    same_warps = all(everything(after[w]) <= everything(before[w]) for w in warps)
    assert same_warps or found.kind == "shared"


@quick
@given(bijections("bits", (8, 8)), st.integers(0, 1), st.integers(0, 2))
def test_exchanging_one_lane_bit_never_needs_shared_memory(
    bijection: LinearLayout, register: int, lane: int
) -> None:
    columns = bijection.flat_bases("bits")

    def layout(lanes, registers) -> LinearLayout:
        flat = {"lane": lanes, "register": registers, "warp": columns[5:]}
        return LinearLayout.from_flat((8, 8), flat)

    lanes, registers = list(columns[:3]), list(columns[3:5])
    source = layout(lanes, registers)
    registers[register], lanes[lane] = lanes[lane], registers[register]
    plan = conversion(source, layout(lanes, registers)).plan
    assert plan is not None
    # Half of the elements stay in their thread.
    assert plan.is_xor
    assert plan.shuffle_count == 2


# --- Shared memory ---


def enumerated_conflicts(registers, shared, element_bits: int, vector: int) -> int:
    """Count, over all accesses, the most words that the lanes served together have in a bank."""
    offset_of = {shared.apply(offset=o): o for o in range(1 << shared.out_bits)}
    element_bytes = element_bits // 8
    together = 32 // max(element_bytes * vector // 4, 1)
    starts = range(0, 1 << shared.out_bits, vector)
    worst = 1
    held = [
        [
            {offset_of[registers.apply(register=r, lane=lane, warp=warp)] for r in
             range(registers.in_size("register"))}
            for lane in range(registers.in_size("lane"))
        ]
        for warp in range(registers.in_size("warp"))
    ]  # fmt: skip
    access = shared_access(registers, shared, vector)
    for warp, (base, first) in itertools.product(range(len(held)), enumerate(access.offsets)):
        for group in range(0, 32, together):
            words = set()
            for lane in range(group, group + together):
                start = first ^ gf2.apply(access.lane, lane) ^ gf2.apply(access.warp, warp)
                assert start in starts
                assert set(range(start, start + vector)) <= held[warp][lane], base
                words |= {(start + i) * element_bytes // 4 for i in range(vector)}
            worst = max(worst, *Counter(word % 32 for word in words).values())
    return worst


@quick
@given(st.data())
def test_bank_conflicts_are_as_counted(data) -> None:
    element_bits = data.draw(st.sampled_from([8, 16, 32, 64]))
    shape = data.draw(shapes(8))
    registers = data.draw(layouts(bits=8, shape=shape, lanes=5, surjective=True))
    shared = data.draw(bijections("offset", shape))
    vector = min(max_vector(registers, shared), 128 // element_bits)
    counted = enumerated_conflicts(registers, shared, element_bits, vector)
    assert bank_conflicts(registers, shared, element_bits, vector) == counted


@st.composite
def realistic(draw, shape):
    """Permuted unit bases, as most layouts have them."""
    bits = sum(size.bit_length() - 1 for size in shape)
    units = draw(st.permutations([1 << bit for bit in range(bits)]))
    first = draw(st.integers(6, bits))
    flat = {"lane": units[:5], "warp": units[5:first], "register": units[first:]}
    return LinearLayout.from_flat(shape, flat)


@thorough
@given(st.data())
def test_the_optimal_buffer_converts_without_conflicts(data) -> None:
    element_bits = data.draw(st.sampled_from([8, 16, 32, 64]))
    shape = data.draw(shapes(9))
    kinds = st.one_of(
        layouts(bits=9, shape=shape, lanes=5, surjective=True), realistic(shape), realistic(shape)
    )
    source, target = data.draw(kinds), data.draw(kinds)
    best = optimal_shared(source, target, element_bits)
    assert best.layout.is_bijective
    for registers, bits in (
        (source, best.store_vector_bits),
        (target, best.load_vector_bits),
    ):
        assert element_bits <= bits <= 128
        conflicts = bank_conflicts(registers, best.layout, element_bits, bits // element_bits)
        # Layouts that are no permutation of the bits may, rarely, leave two lanes in one bank.
        assert conflicts <= (1 if _permutes_bits(source) and _permutes_bits(target) else 2)


def _permutes_bits(layout: LinearLayout) -> bool:
    flat = sorted(layout.flat_bases())
    return flat == [1 << bit for bit in range(layout.out_bits)]


@quick
@given(st.data())
def test_stores_and_loads_through_the_optimal_buffer_convert(data) -> None:
    shape = data.draw(shapes(7))
    source, target = (
        data.draw(layouts(bits=7, shape=shape, lanes=5, surjective=True)) for _ in range(2)
    )
    best = optimal_shared(source, target, 32)
    buffer = [-1] * (1 << source.out_bits)
    store = shared_access(source, best.layout, best.store_vector_bits // 32)
    load = shared_access(target, best.layout, best.load_vector_bits // 32)
    before, after = ([contents(side, warp) for warp in range(2)] for side in (source, target))
    for warp, lane in itertools.product(range(2), range(32)):
        shift = gf2.apply(store.lane, lane) ^ gf2.apply(store.warp, warp)
        for registers, offset in zip(store.vectors, store.offsets, strict=True):
            for i, register in enumerate(registers):
                buffer[(offset ^ shift) + i] = before[warp][lane][register]
    for warp, lane in itertools.product(range(2), range(32)):
        shift = gf2.apply(load.lane, lane) ^ gf2.apply(load.warp, warp)
        got: dict[int, int] = {}
        for registers, offset in zip(load.vectors, load.offsets, strict=True):
            for i, register in enumerate(registers):
                got[register] = buffer[(offset ^ shift) + i]
        assert [got[r] for r in load.copies] == after[warp][lane]
