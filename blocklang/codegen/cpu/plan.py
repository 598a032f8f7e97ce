"""The plan of a kernel: which ops form a loop nest, what is stored between nests, in what order.

A plan is a list of levels. A level computes some scalars and then takes one step: a nest of loops
over one shape, or a control op whose regions have plans of their own. A nest executes its actions
chunk by chunk; every other block op is computed inside the nests that need its result, as often as
they need it, unless the plan keeps the value in a buffer of scratch memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from blocklang.ir.core import Value
from blocklang.ir.op import Op
from blocklang.ir.ops.memory import Store
from blocklang.ir.types import Element, Type, element_type, shape_of

from .places import Place


@dataclass(eq=False)
class Buffer:
    """Scratch memory for a block. `strides`, in elements, say how it lies there: row by row if none
    are given. `first` and `last` are the steps that it must survive, `offset` its place. With a
    `base` it is the memory of that buffer, seen in another shape.
    """

    shape: tuple[int, ...]
    element: Element
    strides: tuple[int, ...] = ()
    base: Buffer | None = None
    first: int = -1
    last: int = -1
    offset: int = -1

    def __post_init__(self) -> None:
        self.strides = self.strides or _row_by_row(self.shape)

    @classmethod
    def of(cls, type: Type) -> Buffer:
        """A buffer for values of `type`."""
        return cls(shape_of(type), element_type(type))

    @property
    def bytes(self) -> int:
        """Its size; an i1 takes a byte."""
        last = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        return (last + 1) * self.element.bytes

    @property
    def is_row_by_row(self) -> bool:
        """Whether the elements follow each other without gaps, the last index fastest."""
        return self.strides == _row_by_row(self.shape)

    @property
    def storage(self) -> Buffer:
        """The buffer whose memory this is."""
        return self if self.base is None else self.base.storage

    def touch(self, time: int) -> None:
        """Note that the buffer is used at step `time`."""
        self.first = time if self.first < 0 else min(self.first, time)
        self.last = max(self.last, time)


def _row_by_row(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[d + 1 :]) for d in range(len(shape)))


@dataclass(eq=False)
class Evaluate:
    """Compute a value, and keep it in `buffer` unless that is None. `position` orders actions."""

    value: Value
    position: int
    buffer: Buffer | None = None


@dataclass(eq=False)
class Execute:
    """Perform an op that has an effect, or a reduction."""

    op: Op
    position: int


Action = Evaluate | Execute


@dataclass(eq=False)
class Guard:
    """Two accesses that may be interleaved only if their addresses turn out not to meet.

    `may_coincide` says that they also may where both access the very same addresses.
    """

    earlier: Op
    later: Store
    may_coincide: bool


@dataclass(eq=False)
class Nest:
    """Loops over `shape` that execute `actions` for each chunk, in order of position.

    `axis` is the axis of the reductions inside, `vector` the dimension along which chunks extend,
    `bits` the width of the widest elements that are computed with. `reads` are the values that
    come from buffers. `staged` stores wait until everything else has been computed; the others do
    so too unless every guard holds. `kept` has the buffers for what staged stores need, `work`
    further ones that it uses while it runs.
    """

    shape: tuple[int, ...]
    exclusive: bool = False
    axis: int | None = None
    vector: int = 0
    bits: int = 32
    actions: list[Action] = field(default_factory=list)
    reads: dict[Value, Buffer] = field(default_factory=dict)
    seen: dict[tuple[Value, Place], None] = field(default_factory=dict)
    staged: list[Store] = field(default_factory=list)
    guards: list[Guard] = field(default_factory=list)
    kept: dict[Value, Buffer] = field(default_factory=dict)
    work: list[Buffer] = field(default_factory=list)

    def accepts(self, shape: tuple[int, ...], axis: int | None) -> bool:
        """Whether an action over `shape` may join, as far as the loops are concerned."""
        fits = axis is None or self.axis is None or axis == self.axis
        return not self.exclusive and shape == self.shape and fits

    def add(self, action: Action) -> None:
        """Insert an action at its place in the program."""
        self.actions.append(action)
        self.actions.sort(key=lambda a: a.position)

    @property
    def stores(self) -> list[Store]:
        """The stores of blocks, in order."""
        ops = [a.op for a in self.actions if isinstance(a, Execute)]
        return [op for op in ops if isinstance(op, Store)]


@dataclass(eq=False)
class Control:
    """A `for`, `while` or `if` with the plans of its regions and the buffers of its block values.

    `incoming[i]` is where value i of the op lives when it starts, `following[i]` where a region
    leaves it (None for scalars).
    """

    op: Op
    regions: list[Plan]
    incoming: list[Buffer | None]
    following: list[Buffer | None]


@dataclass(eq=False)
class Level:
    """Scalar ops, then at most one step."""

    scalars: list[Op] = field(default_factory=list)
    step: Nest | Control | None = None


@dataclass(eq=False)
class Plan:
    """The levels of a straight list of ops."""

    levels: list[Level] = field(default_factory=list)

    def nests(self) -> Iterator[Nest]:
        """All nests, those of nested plans included, in order."""
        for level in self.levels:
            if isinstance(level.step, Nest):
                yield level.step
            elif isinstance(level.step, Control):
                for region in level.step.regions:
                    yield from region.nests()
