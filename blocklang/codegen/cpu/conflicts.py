"""Which accesses of one nest may be interleaved, chunk by chunk, although one of them writes.

Ops act one after the other: all elements of a load are read before any element of a later store is
written. A nest that does both for each chunk is right only if no later chunk reads what an earlier
one wrote. Three verdicts: SAFE (the same distinct addresses, element by element), CHECK (both
ranges of addresses are known before the nest runs, so that it can compare them) and NEVER. A store
with a NEVER waits until all else has been computed; so do all stores when a check fails.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from blocklang.ir.core import Operation, Result
from blocklang.ir.ops.memory import Load, MemoryAccess, Store
from blocklang.ir.types import shape_of

from .cost import Costs
from .places import dimension_places
from .plan import Buffer, Guard, Nest
from .strides import Strides

_MOST_GUARDS = 24


class Verdict(enum.Enum):
    """Whether two accesses may be interleaved."""

    SAFE = enum.auto()
    CHECK = enum.auto()
    NEVER = enum.auto()


def judge(strides: Strides, earlier: MemoryAccess, later: Store, is_whole: bool) -> Verdict:
    """Whether `earlier` and `later` may be interleaved. `is_whole` says that the earlier one goes
    through its addresses in the order of the nest.
    """
    if is_whole and earlier.pointer is later.pointer and _is_distinct(strides, later):
        return Verdict.SAFE
    if strides.is_regular(earlier.pointer) and strides.is_regular(later.pointer):
        return Verdict.CHECK
    return Verdict.NEVER


def _is_distinct(strides: Strides, access: MemoryAccess) -> bool:
    """Whether no two elements have the same address; known for a line of addresses only."""
    shape = shape_of(access.pointer.type)
    along = [s for s, n in zip(strides.of(access.pointer), shape, strict=True) if n > 1]
    return not along or (len(along) == 1 and isinstance(along[0], int) and along[0] != 0)


def settle_conflicts(costs: Costs, positions: Mapping[Operation, int], nest: Nest) -> None:
    """Set `staged`, `guards` and `kept` of a nest over blocks."""
    strides = costs.strides
    whole = dimension_places(nest.shape)
    loads = [
        (value.op, place == whole and shape_of(value.type) == nest.shape)
        for value, place in nest.seen
        if isinstance(value, Result) and isinstance(value.op, Load) and value not in nest.reads
    ]
    earlier: list[tuple[MemoryAccess, bool]] = []
    for store in nest.stores:
        # A load from outside the loop that this nest stands in has no position here.
        before = [(o, w) for o, w in loads if positions.get(o, -1) < positions[store]] + earlier
        verdicts = [(op, judge(strides, op, store, w), w) for op, w in before]
        if nest.staged or any(v is Verdict.NEVER for _, v, _ in verdicts):
            nest.staged.append(store)
        else:
            checks = [(op, w) for op, v, w in verdicts if v is Verdict.CHECK]
            nest.guards += [Guard(op, store, w and _match(strides, op, store)) for op, w in checks]
            earlier.append((store, True))
    if len(nest.guards) > _MOST_GUARDS:
        nest.staged, nest.guards = nest.stores, []
    for store in nest.stores if nest.guards else nest.staged:
        for value in store.operands:
            is_computed = value is store.value and not strides.is_regular(value)
            if (is_computed or costs.has_load(value)) and value not in nest.reads:
                nest.kept.setdefault(value, Buffer.of(value.type))


def _match(strides: Strides, earlier: MemoryAccess, later: Store) -> bool:
    """Whether equal first addresses mean equal and distinct addresses throughout."""
    same = strides.of(earlier.pointer) == strides.of(later.pointer)
    return same and earlier.pointer.type == later.pointer.type and _is_distinct(strides, later)
