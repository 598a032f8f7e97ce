"""How a block value gets from one register layout into another: which data has to move where.

`conversion(source, target)` finds the cheapest of: nothing, renaming registers within the thread,
shuffles within the warp, shared memory. The answer comes from a linear map C that says, for each
target index, which source index holds the element; where the source has replicas, C prefers the
same thread, then the same warp.

The shuffle plan. A shuffle lets every lane choose *from* which lane it receives, but the sender
does not know who asks: all lanes send one register each. When the register that a lane needs
depends on the lane, it is the sender that must select, so the plan has three parts:

1. swaps in the source registers, so that each lane has what it must send in a fixed register;
2. for each round, one register is sent and one received (no shuffle if every lane asks itself);
3. swaps of the received values, because lanes may receive their target registers in another order.

A swap exchanges registers `r` and `r ^ offset` in the threads that a mask picks: on a vector of
registers, one `shufflevector` and one `select`. In round `t`, a lane receives its target register
`t ^ reorder(lane)`, where the linear map `reorder` is chosen such that any two lanes that ask the
same lane in the same round want the same register. If there is no such map, or too many swaps
are needed, the conversion goes through shared memory.

This module decides and plans; it generates no code and knows nothing of element types.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from . import gf2
from .linear import LinearLayout

Kind = Literal["identity", "register", "warp", "shared", "cluster"]

MAX_SWAPS = 2
"""Swap stages, before or after the shuffles, beyond which shared memory is cheaper."""


@dataclass(frozen=True)
class Swap:
    """Exchange registers `r` and `r ^ offset` in some threads: `new[r] = old[r ^ offset]`.

    A thread takes part if the number of set bits in `lane & lane_mask` plus those in
    `warp & warp_mask` is odd.
    """

    offset: int
    lane_mask: int
    warp_mask: int


@dataclass(frozen=True)
class Shuffle:
    """One round: every lane receives register `register` of a lane of its warp.

    The sender is `constant` XOR the `lane_bases` (of the plan) that the set bits of the receiver's
    lane pick XOR the `warp_bases` that those of its warp pick.
    """

    register: int
    constant: int


@dataclass(frozen=True)
class ShufflePlan:
    """A warp-local conversion: swaps, then one round per target register, then swaps.

    `rounds[t]` gives register `t` before the swaps `after`. Equal rounds need one shuffle only. A
    round whose sender is the receiver itself needs none: that is when `is_xor` and its constant
    is 0. When `is_xor`, the sender of every round is `lane ^ constant`.
    """

    before: tuple[Swap, ...]
    rounds: tuple[Shuffle, ...]
    lane_bases: tuple[int, ...]
    warp_bases: tuple[int, ...]
    after: tuple[Swap, ...]

    @property
    def is_xor(self) -> bool:
        """Whether every lane exchanges with `lane ^ constant`."""
        units = tuple(1 << bit for bit in range(len(self.lane_bases)))
        return self.lane_bases == units and not any(self.warp_bases)

    @property
    def shuffle_count(self) -> int:
        """The number of 32-bit (or narrower) values that each lane sends."""
        return sum(1 for r in set(self.rounds) if not self.is_xor or r.constant)


@dataclass(frozen=True)
class Conversion:
    """What has to happen; see `conversion`.

    - `identity`: nothing, the registers are the same.
    - `register`: target register `r` is source register `registers[r]` of the same thread.
    - `warp`: execute `plan`.
    - `shared`: store and load through shared memory (see `optimal_shared`).
    - `cluster`: the element is in another block of the cluster.
    """

    kind: Kind
    registers: tuple[int, ...] | None = None
    plan: ShufflePlan | None = None


@lru_cache(maxsize=4096)
def conversion(source: LinearLayout, target: LinearLayout) -> Conversion:
    """Return the cheapest way to turn a value of layout `source` into one of layout `target`.

    Both must have the same shape and the same numbers of lanes, warps and blocks, and `source`
    must hold every element; ValueError otherwise.
    """
    _check(source, target)
    if source == target:
        return Conversion("identity", tuple(range(source.in_size("register"))))
    if not _reachable(source, target, ("register", "lane", "warp"), ("block",)):
        return Conversion("cluster")
    found = _holders(source, target)
    if found is None:
        return Conversion("shared")
    if found.is_thread_local:
        size = target.in_size("register")
        registers = tuple(gf2.apply(found.register.registers, r) for r in range(size))
        same = registers == tuple(range(source.in_size("register")))
        return Conversion("identity" if same else "register", registers)
    plan = _plan(found, target.in_size("register"))
    return Conversion("shared") if plan is None else Conversion("warp", plan=plan)


def _check(source: LinearLayout, target: LinearLayout) -> None:
    if source.shape != target.shape:
        raise ValueError(f"{source} and {target} differ in shape")
    for dim in ("lane", "warp", "block"):
        if source.in_bits(dim) != target.in_bits(dim):
            raise ValueError(f"{source} and {target} differ in the number of {dim}s")
    if not source.is_surjective:
        raise ValueError(f"{source} does not hold every element")


def _reachable(
    source: LinearLayout,
    target: LinearLayout,
    within: Sequence[str],
    fixed: Sequence[str],
) -> bool:
    """Whether each index finds its elements without changing its `fixed` in-dims."""
    span = gf2.Span(source.flat_bases(*within))
    wanted = list(target.flat_bases(*within))
    own, other = source.flat_bases(*fixed), target.flat_bases(*fixed)
    wanted += [a ^ b for a, b in zip(own, other, strict=True)]
    return all(vector in span for vector in wanted)


@dataclass(frozen=True)
class _Columns:
    """Where the elements of some target bits are: source registers and source lanes per bit."""

    registers: tuple[int, ...]
    lanes: tuple[int, ...]


@dataclass(frozen=True)
class _Holders:
    """The map C within a warp: its columns for the bits of target register, lane and warp."""

    register: _Columns
    lane: _Columns
    warp: _Columns

    @property
    def is_thread_local(self) -> bool:
        """Whether every thread has its own elements, in registers that do not depend on it."""
        units = tuple(1 << bit for bit in range(len(self.lane.lanes)))
        return self.lane.lanes == units and not any(
            (*self.register.lanes, *self.warp.lanes, *self.lane.registers, *self.warp.registers)
        )


def _holders(source: LinearLayout, target: LinearLayout) -> _Holders | None:
    """Return who in the warp holds each element, or None if somebody needs another warp."""
    register_bits = source.in_bits("register")
    own = gf2.Span(source.flat_bases("register"))
    warp = gf2.Span(source.flat_bases("register", "lane"))
    if not _reachable(source, target, ("register", "lane"), ("warp", "block")):
        return None
    if not all(
        a ^ b in own
        for a, b in zip(source.flat_bases("block"), target.flat_bases("block"), strict=True)
    ):
        return None

    def columns(dim: str, own_lanes: Sequence[int]) -> _Columns:
        registers, lanes = [], []
        starts = source.flat_bases(dim) if dim != "register" else (0,) * target.in_bits(dim)
        for wanted, start, lane in zip(target.flat_bases(dim), starts, own_lanes, strict=True):
            here = own.solve(wanted ^ start)
            if here is not None:
                registers.append(here)
                lanes.append(lane)
                continue
            away = warp.solve(wanted if dim == "lane" else wanted ^ start)
            assert away is not None, "everything is reachable within the warp"
            registers.append(away & ((1 << register_bits) - 1))
            lanes.append(away >> register_bits)
        return _Columns(tuple(registers), tuple(lanes))

    return _Holders(
        columns("register", (0,) * target.in_bits("register")),
        columns("lane", [1 << bit for bit in range(target.in_bits("lane"))]),
        columns("warp", (0,) * target.in_bits("warp")),
    )


def _plan(found: _Holders, rounds: int) -> ShufflePlan | None:
    """Return the shuffle plan for the map C, or None if shared memory is the better way.

    With t the round, l the receiving lane and s its sender: s = lanes(t) ^ senders(l), and the
    register that s must send is registers(t) ^ picks(l). `select` is the linear map with
    select(senders(l)) == picks(l), so the sender knows picks(l) = select(s ^ lanes(t)).
    """
    reorder = _reorder(found)
    if reorder is None:
        return None
    senders = tuple(
        lane ^ gf2.apply(found.register.lanes, r)
        for lane, r in zip(found.lane.lanes, reorder, strict=True)
    )
    picks = tuple(
        register ^ gf2.apply(found.register.registers, r)
        for register, r in zip(found.lane.registers, reorder, strict=True)
    )
    units = [1 << bit for bit in range(len(senders))]
    # Lanes that nobody asks may select anything: the units complete the basis, with picks of 0.
    lanes = gf2.Span((*senders, *units))
    all_picks = (*picks, *(0 for _ in units))
    select = tuple(gf2.apply(all_picks, lanes.solve(unit) or 0) for unit in units)
    warp_select = tuple(
        register ^ gf2.apply(select, lane)
        for register, lane in zip(found.warp.registers, found.warp.lanes, strict=True)
    )
    before = _swaps(select, warp_select)
    after = _swaps(reorder, ())
    if max(len(before), len(after)) > MAX_SWAPS:
        return None
    constants = found.register.lanes
    sent = tuple(
        register ^ gf2.apply(select, lane)
        for register, lane in zip(found.register.registers, constants, strict=True)
    )
    all_rounds = tuple(Shuffle(gf2.apply(sent, t), gf2.apply(constants, t)) for t in range(rounds))
    return ShufflePlan(before, all_rounds, senders, found.warp.lanes, after)


def _reorder(found: _Holders) -> tuple[int, ...] | None:
    """Return, per lane bit, by which target registers its lanes receive early; None if impossible.

    Pairs (register, lane) are single vectors here, with the lane in the low bits. What a lane asks
    for in round 0 must determine the register from the sender: no sum of the lanes' columns may be
    (register != 0, lane 0). Each lane combination that would be so is changed by adding a target
    register's column, which either makes it ask a new sender or cancels it.
    """
    lane_bits = len(found.lane.lanes)

    def joined(columns: _Columns) -> tuple[int, ...]:
        pairs = zip(columns.registers, columns.lanes, strict=True)
        return tuple(register << lane_bits | lane for register, lane in pairs)

    lane_mask = (1 << lane_bits) - 1
    asked = joined(found.lane)
    registers = joined(found.register)
    # A basis of the lanes in which some ask distinct senders, and the others all ask lane 0.
    span = gf2.Span(found.lane.lanes)
    senders = gf2.Span()
    image = []
    for column in asked:
        if senders.add(column & lane_mask):
            image.append(column)
    reorder = [0] * lane_bits
    for combination in span.redundant:
        column = gf2.apply(asked, combination)
        if column == 0:
            continue
        change = None
        for bit, offered in enumerate(registers):
            if senders.add((column ^ offered) & lane_mask):
                change = 1 << bit
                image.append(column ^ offered)
                break
        if change is None:
            both = gf2.Span((*registers, *image))
            solution = both.solve(column)
            if solution is None:
                return None
            change = solution & ((1 << len(registers)) - 1)
        # The other lane bits of the combination asked distinct senders: only its last bit changes.
        reorder[combination.bit_length() - 1] = change
    return tuple(reorder)


def _swaps(lane_offsets: Sequence[int], warp_offsets: Sequence[int]) -> tuple[Swap, ...]:
    """Return the stages that make `new[r] = old[r ^ offset]`, the offset linear in the thread."""
    basis = gf2.reduced_basis((*lane_offsets, *warp_offsets))
    coordinates = gf2.Span(basis)

    def mask(offsets: Sequence[int], stage: int) -> int:
        return sum(
            1 << bit
            for bit, offset in enumerate(offsets)
            if (coordinates.solve(offset) or 0) >> stage & 1
        )

    return tuple(
        Swap(offset, mask(lane_offsets, stage), mask(warp_offsets, stage))
        for stage, offset in enumerate(basis)
    )
