"""Layouts of shared-memory buffers, and what an access from registers costs.

A shared layout has the one in-dim `offset`, counted in elements, and is bijective. Swizzles are
bases with more than one coordinate; no code treats them specially. `optimal_shared` finds the
swizzle for a given pair of register layouts; `shared_access` tells code generation which
registers form each vector and where it goes; `bank_conflicts` is the price.

Model of the hardware: 32 banks of 4 bytes; lanes that touch the same word do not conflict; an
access of 8 (16) bytes per lane is served for 16 (8) lanes at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from . import gf2
from .distributed import level
from .linear import LinearLayout
from .linear_map import WARP_SIZE, log2

_BANK_BYTES = 4
_ROW_BYTES = 128
MAX_ACCESS_BITS = 128
"""The most that one lane moves in one access."""


def shared_linear(shape: Sequence[int], order: Sequence[int]) -> LinearLayout:
    """Return the unswizzled layout with axis `order[0]` contiguous."""
    return level("offset", shape, order)


def shared_swizzled(
    shape: Sequence[int], order: Sequence[int], vec: int, per_phase: int, max_phase: int
) -> LinearLayout:
    """Return the layout that XORs column chunks with the row's phase.

    Rows run along axis `order[1]`, columns along `order[0]`. Within row `r`, chunk number `c` of
    `vec` elements lies at chunk `c ^ (r / per_phase % max_phase)`.
    """
    if len(order) < 2:
        raise ValueError("a swizzle needs at least two axes")
    for number in (vec, per_phase, max_phase):
        log2(number)
    column, row = order[0], order[1]
    bases = []
    for basis in shared_linear(shape, order).bases_of("offset"):
        phase = basis[row] // per_phase % max_phase
        swizzled = list(basis)
        swizzled[column] ^= vec * phase % shape[column]
        bases.append(tuple(swizzled))
    return LinearLayout((("offset", tuple(bases)),), tuple(shape))


@lru_cache(maxsize=1024)
def shared_tile(
    shape: tuple[int, ...], order: tuple[int, ...], element_bits: int, swizzle: int
) -> LinearLayout:
    """Return the layout in which the tensor memory accelerator writes a block and wgmma reads it.

    Rows of `swizzle` bytes (of the whole axis `order[0]` where it is 0 or the axis shorter) follow
    each other along the other axes, `order[1]` first; behind these panels come those further along
    `order[0]`. Within 8 (4, 2) rows of 128 (64, 32) bytes, 16-byte pieces are XORed with the row.
    """
    fastest = order[0]
    piece = MAX_ACCESS_BITS // element_bits
    width = min(8 * swizzle // element_bits or shape[fastest], shape[fastest])
    pieces = max(width // piece, 1)
    walk = [(width, fastest, 1), *((shape[axis], axis, 1) for axis in order[1:])]
    walk.append((shape[fastest] // width, fastest, width))
    bases: list[list[int]] = []
    for size, axis, step in walk:
        for bit in range(log2(size)):
            basis = [0] * len(shape)
            basis[axis] = step << bit
            # The pattern moves on with each line of 128 bytes, however long the rows are.
            line = (element_bits << len(bases)) // (8 * _ROW_BYTES) if swizzle else 0
            basis[fastest] ^= line % pieces * piece
            bases.append(basis)
    return LinearLayout((("offset", tuple(map(tuple, bases))),), tuple(shape))


def is_one_run(shape: Sequence[int], box: Sequence[int]) -> bool:
    """Return whether a box of a block is one run of consecutive offsets in `shared_tile`, apart
    from the panels; both have the fastest axis last, in front of it the next one, and so on.
    """
    first = next((axis for axis, size in enumerate(box[:-1]) if size > 1), len(box))
    return list(box[first + 1 : -1]) == list(shape[first + 1 : -1])


@lru_cache(maxsize=1024)
def offset_bases(registers: LinearLayout, shared: LinearLayout) -> dict[str, tuple[int, ...]]:
    """Return, per in-dim of the register layout, the offset that each of its bits adds."""
    if registers.shape != shared.shape:
        raise ValueError(f"{registers} and {shared} differ in shape")
    inverse = gf2.right_inverse(shared.flat_bases("offset"), shared.out_bits)
    return {dim: gf2.multiply(inverse, registers.flat_bases(dim)) for dim in registers.in_dims}


@dataclass(frozen=True)
class SharedAccess:
    """How the threads of a program move a block between registers and a shared buffer.

    Vector `i` moves the registers `vectors[i]`, in that order, to or from the consecutive elements
    that start at offset `offsets[i]` XOR the `lane` and `warp` bases that the set bits of the
    thread's lane and warp select. Registers that are replicas within the thread are in no vector:
    after a load, register `r` is a copy of register `copies[r]`.
    """

    vectors: tuple[tuple[int, ...], ...]
    offsets: tuple[int, ...]
    lane: tuple[int, ...]
    warp: tuple[int, ...]
    copies: tuple[int, ...]


@lru_cache(maxsize=1024)
def shared_access(registers: LinearLayout, shared: LinearLayout, vector: int) -> SharedAccess:
    """Return the accesses of `vector` elements each that move all registers of a thread.

    Raises ValueError if the layouts do not allow vectors of that many elements.
    """
    if vector > max_vector(registers, shared):
        raise ValueError(f"{registers} has no vectors of {vector} elements in {shared}")
    bases = offset_bases(registers, shared)
    at: dict[int, int] = {}
    copies = []
    for register in range(registers.in_size("register")):
        offset = gf2.apply(bases.get("register", ()), register)
        copies.append(at.setdefault(offset, register))
    starts = tuple(offset for offset in at if offset % vector == 0)
    vectors = tuple(tuple(at[start + i] for i in range(vector)) for start in starts)
    return SharedAccess(
        vectors, starts, bases.get("lane", ()), bases.get("warp", ()), tuple(copies)
    )


@lru_cache(maxsize=1024)
def max_vector(registers: LinearLayout, shared: LinearLayout) -> int:
    """Return the most elements that one access may move: consecutive offsets in one thread.

    Limited by the layouts only, not by the hardware's 128 bits.
    """
    bases = offset_bases(registers, shared)
    held = gf2.Span(bases.get("register", ()))
    width = 1
    others = [basis for dim, of_dim in bases.items() if dim != "register" for basis in of_dim]
    while width < 1 << shared.out_bits and width in held:
        if any(basis & width for basis in others):
            break
        width *= 2
    return width


@lru_cache(maxsize=1024)
def bank_conflicts(
    registers: LinearLayout, shared: LinearLayout, element_bits: int, vector: int
) -> int:
    """Return how many passes each group of lanes needs per access of `vector` elements; 1 is best.

    Among the lanes served together, the words form a subspace (shifted for other registers and
    warps), and a bank gets as many of them as the subspace has elements with bank number 0.
    """
    element_bytes = max(element_bits, 8) // 8
    access_bytes = element_bytes * vector
    if access_bytes * 8 > MAX_ACCESS_BITS:
        raise ValueError(f"no access moves {vector} elements of {element_bits} bits")
    lanes = _lanes_together(offset_bases(registers, shared).get("lane", ()), access_bytes)
    words = [lane * element_bytes // _BANK_BYTES for lane in lanes]
    words += [1 << bit for bit in range(log2(max(access_bytes // _BANK_BYTES, 1)))]
    banks = [word % (_ROW_BYTES // _BANK_BYTES) for word in words]
    return 1 << (gf2.rank(words) - gf2.rank(banks))


def _lanes_together(lane_bases: tuple[int, ...], access_bytes: int) -> tuple[int, ...]:
    """Return the bases of the lanes that the hardware serves at once."""
    return lane_bases[: log2(WARP_SIZE) - log2(max(access_bytes // _BANK_BYTES, 1))]
