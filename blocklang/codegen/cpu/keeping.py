"""Makes the plan, second half: which values are stored, and which are computed again.

A value that two nests need is computed in the first one, its home. The second one computes it once
more if that is cheap (an address, a mask, a load that nothing can have changed); otherwise the
home keeps it in a buffer. What is dear and needed for every row of a larger block, or
before it is reshaped, gets a nest of its own.
"""

from __future__ import annotations

from blocklang.ir.core import Result, Value
from blocklang.ir.ops.memory import Load
from blocklang.ir.types import BlockType, shape_of

from .conflicts import Verdict, judge
from .grouping import Grouping
from .places import Place, dimension_places, inline_operands
from .plan import Buffer, Evaluate, Execute, Level, Nest


class Keeping:
    """Decides for the nests of one block of ops."""

    def __init__(self, grouping: Grouping) -> None:
        self.grouping = grouping
        self.levels = grouping.levels
        self.context = grouping.context
        self.home: dict[Value, Nest] = {}

    def run(self) -> None:
        """Complete the plan of the grouping."""
        for level in self.levels:
            if isinstance(level.step, Nest):
                for action in level.step.actions:
                    if isinstance(action, Evaluate) and action.buffer is self._buffer(action.value):
                        self.home[action.value] = level.step
        for level in list(self.levels):
            if isinstance(level.step, Nest):
                self._settle(level)

    def _buffer(self, value: Value) -> Buffer | None:
        return self.context.buffers.get(value)

    def _settle(self, level: Level) -> None:
        nest = level.step
        assert isinstance(nest, Nest)
        for action in nest.actions:
            values = action.op.operands if isinstance(action, Execute) else (action.value,)
            for value in values:
                if nest.shape == shape_of(value.type):
                    self._reach(level, nest, value, dimension_places(nest.shape))
                elif isinstance(value.type, BlockType) and value in self.context.buffers:
                    # A print or a product goes through the buffers of its values by itself.
                    nest.reads[value] = self.context.buffers[value]

    def _reach(self, level: Level, nest: Nest, value: Value, place: Place) -> None:
        """`nest` needs `value` at `place`."""
        if not isinstance(value.type, BlockType) or (value, place) in nest.seen:
            return
        home = self.home.get(value)
        buffer = self._buffer(value)
        is_whole = nest.shape == value.type.shape and place == dimension_places(nest.shape)
        if buffer is not None and home is not nest and not self._stands_later(level, home):
            nest.reads[value] = buffer
            nest.seen[value, place] = None
            return
        if buffer is not None and home is not None and home is not nest and is_whole:
            home = self._move(home, nest, value)
        assert isinstance(value, Result)
        if value.op.parent is self.grouping.block and self._must_be_stored(
            level, nest, value, home, is_whole
        ):
            if buffer is not None and home is not None:
                # It is to be stored later: that comes first now.
                self._move(home, self._own_nest(level, value), value)
            else:
                self._keep(home or self._own_nest(level, value), value)
            nest.reads[value] = self.context.buffers[value]
            nest.seen[value, place] = None
            return
        if is_whole and home is None:
            self.home[value] = nest
        nest.seen[value, place] = None
        for operand, at in inline_operands(value.op, place) or ():
            self._reach(level, nest, operand, at)

    def _stands_later(self, level: Level, home: Nest | None) -> bool:
        levels = self.levels[self.levels.index(level) :]
        return home is not None and any(home is other.step for other in levels)

    def _move(self, home: Nest, nest: Nest, value: Value) -> Nest:
        """Keep `value` in `nest`, which stands before `home`."""
        for action in [a for a in home.actions if isinstance(a, Evaluate)]:
            if action.value is value and action.buffer is self._buffer(value):
                home.actions.remove(action)
                nest.add(action)
        self.home[value] = nest
        return nest

    def _must_be_stored(
        self, level: Level, nest: Nest, value: Result, home: Nest | None, is_whole: bool
    ) -> bool:
        costs = self.context.costs
        if home is nest:
            return False
        if home is None:
            repeated = not is_whole and _size(nest.shape) > _size(shape_of(value.type))
            return repeated and costs.is_worth_keeping(value)
        if isinstance(value.op, Load):
            return not self._may_reload(level, nest, value.op)
        return costs.is_worth_keeping(value)

    def _may_reload(self, level: Level, nest: Nest, load: Load) -> bool:
        """Whether the memory is as it was when the load was first executed."""
        if load.volatile or self.context.costs.is_gather(load):
            return False
        position, now = self.grouping.positions[load], self.levels.index(level)
        for written, where in self.grouping.writes:
            if written > position and self.levels.index(where) < now:
                return False
        strides = self.context.costs.strides
        return all(judge(strides, load, store, True) is not Verdict.NEVER for store in nest.stores)

    def _own_nest(self, level: Level, value: Result) -> Nest:
        """A new nest before `level` that computes `value`."""
        nest = Nest(shape_of(value.type))
        before = Level(level.scalars, nest)
        level.scalars = []
        self.levels.insert(self.levels.index(level), before)
        self.home[value] = nest
        self._reach(before, nest, value, dimension_places(nest.shape))
        return nest

    def _keep(self, home: Nest, value: Result) -> None:
        buffer = Buffer.of(value.type)
        self.context.buffers[value] = buffer
        home.add(Evaluate(value, self.grouping.positions[value.op], buffer))


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
