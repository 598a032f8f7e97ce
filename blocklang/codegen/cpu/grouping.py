"""Makes the plan, first half: puts every op that must be executed into a nest, in program order.

Invariants of the result:

1. A nest stands after every nest and control op whose result it needs in full.
2. Memory: a load stands after all earlier writes, a write not before an earlier load or write (in
   one nest with them at most; `conflicts` then makes sure that they act as if one after the
   other). Nothing passes an assertion, an atomic or a control op.
3. Loads of blocks have no place of their own: they are computed where they are needed. A load that
   is needed again after a later write is evaluated in a nest before that write as well.

The second half, `keeping`, decides which values are stored between nests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from blocklang.ir.core import Argument, Block, Operation, Result, Value, is_inside
from blocklang.ir.op import Effect, Op
from blocklang.ir.ops.control import For, While
from blocklang.ir.ops.debug import DeviceAssert, DevicePrint
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.memory import AtomicRMW, Load, Store
from blocklang.ir.ops.reduce import Reduce
from blocklang.ir.ops.shape import Permute, Reshape
from blocklang.ir.types import BlockType, shape_of

from .cost import Costs
from .places import is_inline
from .plan import Action, Buffer, Control, Evaluate, Execute, Level, Nest, Plan
from .products import (
    factor_buffer,
    may_be_overwritten,
    permuted,
    starts_at_zero,
    transposed_factor,
)


@dataclass
class Context:
    """What all plans of a kernel share: `buffers` has the values that are stored in full."""

    costs: Costs
    buffers: dict[Value, Buffer] = field(default_factory=dict)
    controls: dict[Op, Control] = field(default_factory=dict)


class Grouping:
    """Groups the ops of one block; `yielded` are what it hands on, with buffers. `replaced` has the
    buffers that hold what those of a loop are to hold in the next iteration.
    """

    def __init__(
        self,
        context: Context,
        block: Block,
        yielded: Sequence[tuple[Value, Buffer]],
        plan_control: Callable[[Op], Control],
        replaced: Mapping[Buffer, Buffer],
    ) -> None:
        self.context = context
        self.plan_control = plan_control
        self.block = block
        self.yielded = yielded
        self.replaced = replaced
        self.targets = dict(reversed(yielded))
        self.plan = Plan()
        self.levels = self.plan.levels
        self.positions: dict[Operation, int] = {op: i for i, op in enumerate(block.ops)}
        self.writes: list[tuple[int, Level]] = []
        self.last_use = _last_uses(block, self.positions)
        # The first level at which a value can be used; 0 for what comes from outside.
        self._available: dict[Value, int] = {}
        self._pending: list[Load] = []
        self._barrier = 0
        self._reads, self._writes, self._checks = 0, -1, -1

    def run(self) -> Plan:
        """The plan without buffers for values that are used in several nests."""
        for op in self.block.ops:
            assert isinstance(op, Op)
            if not op.is_terminator:
                self._visit(op)
        for value, buffer in self.yielded:
            lies_in = self.context.buffers.get(value)
            if lies_in is None or lies_in not in (buffer, self.replaced.get(buffer)):
                self._evaluate(value, len(self.block.ops), buffer)
        return self.plan

    def _visit(self, op: Op) -> None:
        if isinstance(op, Reduce):
            if any(r.uses for r in op.results):
                self._reduce(op)
        elif op.regions:
            self._control(op)
        elif isinstance(op, Store | AtomicRMW):
            self._write(op)
        elif isinstance(op, DeviceAssert):
            self._checks = self._execute(
                op, shape_of(op.condition.type), max(self._writes, self._checks)
            )
        elif isinstance(op, DevicePrint):
            self._print(op)
        elif isinstance(op, Load) and not shape_of(op.pointer.type):
            low = max(self._writes, self._checks) + 1
            self._reads = max(self._reads, self._execute(op, (), low))
        elif isinstance(op, Reshape) and not is_inline(op):
            self._reshape(op)
        elif isinstance(op, Dot):
            self._dot(op)
        elif any(isinstance(r.type, BlockType) for r in op.results):
            self._inline(op)
        else:
            level = max((self._first(v) for v in op.operands), default=0)
            self._level(level).scalars.append(op)
            self._available.update((r, level) for r in op.results)

    # ------------------------------------------------------------ where things go

    def _first(self, value: Value) -> int:
        return self._available.get(value, 0)

    def _level(self, index: int) -> Level:
        while len(self.levels) <= index:
            self.levels.append(Level())
        return self.levels[index]

    def _place(
        self, shape: tuple[int, ...], low: int, axis: int | None = None, exclusive: bool = False
    ) -> int:
        """The first level from `low` on whose nest takes an action over `shape`."""
        index = max(low, self._barrier)
        while True:
            level = self._level(index)
            if level.step is None:
                level.step = Nest(shape, exclusive)
                return index
            if isinstance(level.step, Nest) and level.step.accepts(shape, axis) and not exclusive:
                return index
            index += 1

    def _add(self, index: int, action: Action) -> Nest:
        nest = self.levels[index].step
        assert isinstance(nest, Nest)
        nest.add(action)
        return nest

    def _evaluate(self, value: Value, position: int, buffer: Buffer | None) -> int:
        """Have `value` computed in some nest, into `buffer`."""
        level = self._place(shape_of(value.type), self._first(value))
        self._add(level, Evaluate(value, position, buffer))
        if self.context.costs.has_load(value):
            self._reads = max(self._reads, level)
        return level

    def _keep(self, value: Value, buffer: Buffer | None = None) -> None:
        """Have `value` stored in full, in `buffer` if it is not yet."""
        if value in self.context.buffers:
            return
        buffer = buffer or Buffer.of(value.type)
        level = self._evaluate(value, self._position(value), buffer)
        self.context.buffers[value] = buffer
        self._available[value] = level + 1

    def _position(self, value: Value) -> int:
        return self.positions[value.op] if isinstance(value, Result) else -1

    def _execute(
        self,
        op: Op,
        shape: tuple[int, ...],
        low: int,
        axis: int | None = None,
        exclusive: bool = False,
    ) -> int:
        """Put `op` into a nest over `shape`; returns the level."""
        low = max([low, *(self._first(v) for v in op.operands)])
        level = self._place(shape, low, axis, exclusive)
        nest = self._add(level, Execute(op, self.positions[op]))
        if axis is not None:
            nest.axis = axis
        if any(self.context.costs.has_load(v) for v in op.operands):
            self._reads = max(self._reads, level)
        self._finish(op, level)
        return level

    def _finish(self, op: Op, level: int) -> None:
        """The results of `op` can be used after `level`, blocks from buffers."""
        for result in op.results:
            self._available[result] = level + 1
            if isinstance(result.type, BlockType):
                self.context.buffers[result] = Buffer.of(result.type)

    # ------------------------------------------------------------ kinds of ops

    def _inline(self, op: Op) -> None:
        level = max((self._first(v) for v in op.operands), default=0)
        if isinstance(op, Load):
            level = max(level, self._writes + 1, self._checks + 1)
            self._pending.append(op)
            self._available[op.result] = level
            if op.volatile:
                self._evaluate(op.result, self.positions[op], None)
        self._available.update((r, level) for r in op.results)

    def _reduce(self, op: Reduce) -> None:
        self._execute(op, shape_of(op.inputs[0].type), 0, op.axis)

    def _reshape(self, op: Reshape) -> None:
        self._keep(op.operand)
        buffer, level = self.context.buffers[op.operand], self._first(op.operand)
        if not buffer.is_row_by_row:
            buffer = Buffer.of(op.operand.type)
            level = self._evaluate(op.operand, self.positions[op], buffer) + 1
        view = Buffer(shape_of(op.result.type), buffer.element, base=buffer)
        self.context.buffers[op.result] = view
        self._available[op.result] = level

    def _dot(self, op: Dot) -> None:
        right = [self._factor(value) for value in (op.a, op.b)][1]
        total = self.context.buffers.get(op.acc)
        if total is None or not may_be_overwritten(op.acc, self.block):
            total = self.targets.get(op.result) or Buffer.of(op.result.type)
            low = 0
            if not starts_at_zero(op):
                low = self._evaluate(op.acc, self.positions[op], total) + 1
        else:
            low = self._first(op.acc)
        level = self._execute(op, (), low, exclusive=True)
        self.context.buffers[op.result] = total
        copy = transposed_factor(right)
        if copy is not None:
            nest = self.levels[level].step
            assert isinstance(nest, Nest)
            nest.work.append(copy)

    def _factor(self, value: Value) -> Buffer:
        """Have a factor of a product stored, in an order that suits it."""
        buffers = self.context.buffers
        if value not in buffers and isinstance(value, Result):
            turned = value.op
            if isinstance(turned, Permute) and turned.operand in buffers:
                buffers[value] = permuted(turned, buffers[turned.operand])
                self._available[value] = self._first(turned.operand)
        self._keep(value, factor_buffer(self.context.costs.strides, value))
        return buffers[value]

    def _write(self, op: Store | AtomicRMW) -> None:
        self._pin(op)
        is_atomic = isinstance(op, AtomicRMW)
        if is_atomic:
            # What it reads must not change while it runs.
            for value in op.operands:
                if self.context.costs.has_load(value):
                    self._keep(value)
        low = max(self._reads, self._writes, self._checks + 1)
        self._writes = self._execute(op, shape_of(op.pointer.type), low, exclusive=is_atomic)
        self.writes.append((self.positions[op], self.levels[self._writes]))

    def _print(self, op: DevicePrint) -> None:
        for value in op.values:
            if isinstance(value.type, BlockType):
                self._keep(value)
        self._checks = self._execute(op, (), self._checks + 1, exclusive=True)

    def _pin(self, op: Op) -> None:
        """Evaluate the loads that are used after `op` in nests that do not stand after it."""
        position = self.positions[op]
        for load in list(self._pending):
            if self.last_use[load.results[0]] > position:
                self._evaluate(load.result, self.positions[load], None)
                self._pending.remove(load)

    def _control(self, op: Op) -> None:
        effects = op.all_effects()
        if effects & ~Effect.READ:
            self._pin(op)
        for value in _free_blocks(op):
            if any(isinstance(user, Dot) for user in value.users):
                self._factor(value)
            elif not self.context.costs.may_cross(value) or any(map(_reads_buffer, value.users)):
                self._keep(value)
            else:
                for part in self.context.costs.dear_parts(value):
                    self._keep(part)
        control = self.plan_control(op)
        for value, buffer in zip(_initial(op), control.incoming, strict=True):
            if buffer is not None:
                self._evaluate(value, self.positions[op], buffer)
        if not self.levels or self.levels[-1].step is not None:
            self.levels.append(Level())
        index = len(self.levels) - 1
        self.levels[index].step = control
        self._barrier = index + 1
        self._available.update((r, index + 1) for r in op.results)
        if effects & ~Effect.READ:
            self._writes = index
            self.writes.append((self.positions[op], self.levels[index]))
        self._reads = index


def _reads_buffer(user: Operation) -> bool:
    """Whether an op takes its operands from buffers only."""
    return isinstance(user, DevicePrint) or (isinstance(user, Reshape) and not is_inline(user))


def _initial(op: Op) -> tuple[Value, ...]:
    return op.initial if isinstance(op, For | While) else ()


def _free_blocks(op: Op) -> Iterator[Value]:
    """The block values from outside that the regions of `op` use."""
    found: dict[Value, None] = {}
    for region in op.regions:
        for inner in region.walk():
            for value in inner.operands:
                if isinstance(value.type, BlockType) and not _is_defined_inside(value, op):
                    found[value] = None
    return iter(found)


def _is_defined_inside(value: Value, op: Op) -> bool:
    if isinstance(value, Result):
        return any(is_inside(value.op, region) for region in op.regions)
    assert isinstance(value, Argument)
    holder = value.block.region.op if value.block.region is not None else None
    return holder is op or (holder is not None and any(is_inside(holder, r) for r in op.regions))


def _last_uses(block: Block, positions: dict[Operation, int]) -> dict[Value, int]:
    """For each block value the position of the last op that needs it executed, through whatever is
    computed from it element by element.
    """
    last: dict[Value, int] = {}
    for op in reversed(block.ops):
        assert isinstance(op, Op)
        for result in op.results:
            last[result] = -1
            for user in result.users:
                inner: Operation = user
                while inner not in positions:
                    assert inner.parent_op is not None
                    inner = inner.parent_op
                place = positions[inner]
                executes = isinstance(user, Store | AtomicRMW | Reduce | Dot) or user.regions
                if inner is user and user.results and not executes:
                    place = max(last[r] for r in user.results)
                last[result] = max(last[result], place)
    return last
