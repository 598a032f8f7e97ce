"""assign_layouts: gives every block value a layout, with as few conversions as it can.

Memory accesses and matrix products are the anchors: `coalesce` and `map_dot` chose their layouts.
From there

1. layouts flow forward: a load's result decides the elementwise ops that use it, these decide
   theirs, a reduction's result has its input's layout without the axis, loops carry what enters or
   what their body yields. Where several layouts meet, that of a product's result wins, and a loop
   carries what a product adds to in the layout of its result;
2. what is cheap to compute anywhere (constants, ranges, broadcasts, arithmetic on only such values)
   decides nothing: it is *lazy*, and made again in each layout in which it is wanted;
3. a loop that carries only lazy values takes the layout in which its first anchor wants them;
4. a store of few elements takes the layout in which its value is already, and a load of few
   elements the one in which its first user wants them;
5. a value that is wanted in another layout than its own is converted, once, where it is defined;
   of an operand of a product that was computed elementwise from what was loaded, the loaded blocks
   are converted instead, since these may be copied ahead of time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from blocklang.ir.builder import Builder
from blocklang.ir.core import Argument, Block, Function, Module, Operation, Result, Value, clone
from blocklang.ir.layout import WARP_SIZE, LinearLayout
from blocklang.ir.op import Op
from blocklang.ir.ops.control import Condition, For, If, While, Yield
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.elementwise import Elementwise
from blocklang.ir.ops.memory import Load, MemoryAccess, Store
from blocklang.ir.ops.program import Arange, Constant, Hint, Splat
from blocklang.ir.ops.reduce import Reduce
from blocklang.ir.ops.shape import Broadcast, ConvertLayout, ExpandDims, Permute, Reshape
from blocklang.ir.types import BlockType

from .coalesce import default_layout
from .manager import Pass
from .map_dot import dot_operand_layout

LAZY = (Constant, Arange, Splat, Hint, Elementwise, ExpandDims, Broadcast, Reshape, Permute)
"""Ops that can be made again in any layout; elementwise ones are lazy only while all operands
are.
"""

MAX_STORES = 4
"""How many stores a thread may do to spare a conversion."""

MAX_LOADS = 32
"""How many elements a thread may load to spare a conversion: the first-level cache has those that
other threads load too.
"""


@dataclass(frozen=True)
class AssignLayouts(Pass):
    """Give every block value a layout."""

    name: ClassVar[str] = "assign-layouts"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            _Assignment(function).run()
        module.attributes["stage"] = "layout"


def packed(layout: LinearLayout) -> LinearLayout:
    """The layout without registers that are replicas of others, which no block value has."""
    return layout.remove_zero_bases("register")[0]


def operand_layout(op: Op, result: LinearLayout, operand: BlockType) -> LinearLayout:
    """The layout in which a lazy op needs its operand so that the result has `result` without
    moving data.
    """
    if isinstance(op, ExpandDims):
        return packed(result.slice(op.axis))
    if isinstance(op, Broadcast):
        for axis, size in enumerate(operand.shape):
            if size == 1:
                result = result.slice(axis).expand_dims(axis)
        return packed(result)
    if isinstance(op, Reshape):
        return result.reshape(operand.shape)
    if isinstance(op, Permute):
        return result.permute(sorted(range(len(op.order)), key=lambda axis: op.order[axis]))
    return result


@dataclass
class _Assignment:
    """The work on one function: decided layouts, and copies of values in further layouts."""

    function: Function
    decided: dict[Value, LinearLayout] = field(default_factory=dict)
    copies: dict[tuple[Value, LinearLayout], Value] = field(default_factory=dict)
    reduce_layouts: dict[Reduce, LinearLayout] = field(default_factory=dict)
    accumulators: set[LinearLayout] = field(default_factory=set)

    def run(self) -> None:
        self.num_warps = int(self.function.attributes["num_warps"])
        self.decide_products()
        self.decide_block(self.function.block)
        while self.settle_lazy_carried():
            self.decide_block(self.function.block)
        for op in self.function.walk():
            if isinstance(op, Load):
                self.spare_conversion_of_load(op)
        for value, layout in self.decided.items():
            assert isinstance(value.type, BlockType)
            value.type = replace(value.type, layout=layout)
        for op in self.function.walk():
            if isinstance(op, Store):
                self.spare_conversion(op)
        lazy = [op for op in self.function.walk() if self.is_lazy(op)]
        for op in list(self.function.walk()):
            if not self.is_lazy(op):
                self.satisfy(op)
        for op in reversed(lazy):
            op.erase()

    # ------------------------------------------------------------ 1. forward

    def decide_products(self) -> None:
        """Products have their layouts before anything else; what they add to has it too, if it is
        not made again anyway.
        """
        products = [op for op in self.function.walk() if isinstance(op, Dot)]
        for op in products:
            assert op.layout is not None, "map-dot runs first"
            self.accumulators.add(op.layout)
            self.set(op.results[0], op.layout)
        for op in products:
            if isinstance(op.acc, Argument) or not isinstance(op.acc.owner, LAZY):
                self.set(op.acc, op.layout)

    def decide_block(self, block: Block) -> None:
        for op in block.ops:
            self.decide(op)

    def decide(self, op: Operation) -> None:
        """Decide the layouts of an op's results, if its operands determine them."""
        if isinstance(op, MemoryAccess):
            for result in op.results:
                self.set(result, op.layout)
        elif isinstance(op, Reduce):
            self.decide_reduce(op)
        elif isinstance(op, If):
            for region in op.regions:
                self.decide_block(region.block)
            for region in op.regions:
                self.join(op.results, region.block.terminator.operands)
        elif isinstance(op, For | While):
            self.decide_loop(op)
        elif isinstance(op, Permute | Reshape):
            source = self.decided.get(op.operand)
            if source is not None:
                shape = op.results[0].type
                assert isinstance(shape, BlockType)
                moved = (
                    source.permute(op.order)
                    if isinstance(op, Permute)
                    else source.reshape(shape.shape)
                )
                self.set(op.results[0], moved)
        elif isinstance(op, Elementwise | Hint):
            found = [self.decided[v] for v in op.operands if v in self.decided]
            if found:
                products = (layout for layout in found if layout in self.accumulators)
                self.set(op.results[0], next(products, found[0]))

    def decide_reduce(self, op: Reduce) -> None:
        known = [self.decided[v] for v in op.inputs if v in self.decided]
        layout = known[0] if known else self.wanted(op.inputs[0]) or self.default(op.inputs[0])
        for value, result in zip(op.inputs, op.results, strict=True):
            if isinstance(result.type, BlockType):
                self.set(result, packed(layout.slice(op.axis)))
            if (
                isinstance(value, Result)
                and value not in self.decided
                and not self.is_lazy(value.op)
            ):
                self.set(value, layout)
        self.reduce_layouts[op] = layout

    def decide_loop(self, op: For | While) -> None:
        """What a loop carries has one layout everywhere."""
        offset = 1 if isinstance(op, For) else 0
        before = -1
        while before != len(self.decided):
            before = len(self.decided)
            for position, result in enumerate(op.results):
                carried = [result, *(r.block.arguments[position + offset] for r in op.regions)]
                leaving = [_leaving(r.block.terminator)[position] for r in op.regions]
                sources = [*carried, op.initial[position], *leaving]
                layout = next((self.decided[v] for v in sources if v in self.decided), None)
                for value in carried:
                    self.set(value, layout)
            for region in op.regions:
                self.decide_block(region.block)

    def join(
        self,
        targets: list[Result] | list[Argument],
        sources: tuple[Value, ...] | list[Result] | list[Argument],
    ) -> None:
        for target, source in zip(targets, sources, strict=True):
            if source in self.decided:
                self.set(target, self.decided[source])

    def set(self, value: Value, layout: LinearLayout | None) -> None:
        if isinstance(value.type, BlockType) and value not in self.decided and layout is not None:
            self.decided[value] = layout

    # ------------------------------------------------------------ 3. by demand

    def settle_lazy_carried(self) -> bool:
        """Decide one value that cannot stay lazy because a region or an op without a layout rule
        defines it.
        """
        for op in self.function.walk():
            defined: list[Value] = [a for r in op.regions for a in r.block.arguments]
            if not self.is_lazy(op):
                defined += op.results
            for value in defined:
                if isinstance(value.type, BlockType) and value not in self.decided:
                    self.set(value, self.wanted(value) or self.default(value))
                    return True
        return False

    def wanted(self, value: Value, depth: int = 0) -> LinearLayout | None:
        """The layout in which the first anchor that `value` reaches through lazy ops wants it."""
        for user in value.users if depth < 32 else []:
            found = self.wanted_by(user, value, depth)
            if found is not None:
                return found
        return None

    def wanted_by(self, user: Operation, value: Value, depth: int) -> LinearLayout | None:
        assert isinstance(value.type, BlockType)
        if isinstance(user, MemoryAccess):
            return user.layout
        if isinstance(user, Dot):
            return dot_operand_layout(user, user.operands.index(value))
        if isinstance(user, LAZY):
            result = user.results[0]
            layout = self.decided.get(result) or self.wanted(result, depth + 1)
            if layout is None or not isinstance(value.type, BlockType):
                return None
            return operand_layout(user, layout, value.type)
        return None

    def default(self, value: Value) -> LinearLayout:
        assert isinstance(value.type, BlockType)
        return default_layout(value.type.shape, self.num_warps)

    # ------------------------------------------------------------ 4. small stores

    def spare_conversion(self, op: Store) -> None:
        """Let a store of no more elements than there are threads, such as the sums of rows, take
        the layout of its value: some narrow stores cost less than shared memory and a barrier.
        """
        block, own = op.value.type, self.decided.get(op.value)
        if not isinstance(block, BlockType) or own is None:
            return
        is_small = block.size <= WARP_SIZE * self.num_warps
        others = [v for v in (op.pointer, op.mask) if v is not None]
        if (
            is_small
            and own.in_size("register") <= MAX_STORES
            and not any(v in self.decided for v in others)
        ):
            op.layout = own

    def spare_conversion_of_load(self, op: Load) -> None:
        """Let a load of fewer elements than there are threads, such as a number for each row or
        column of a product, take the layout in which it is wanted: no barrier in a loop.
        """
        block = op.results[0].type
        if not isinstance(block, BlockType) or block.size >= WARP_SIZE * self.num_warps:
            return
        others = [v for v in op.operands if isinstance(v.type, BlockType)]
        layout = self.wanted(op.results[0])
        if (
            layout is not None
            and layout.in_size("register") <= MAX_LOADS
            and not any(v in self.decided for v in others)
        ):
            op.layout = self.decided[op.results[0]] = layout

    # ------------------------------------------------------------ 5. rewriting

    def is_lazy(self, op: Operation) -> bool:
        """Whether an op is made again wherever it is wanted instead of having a place of its
        own.
        """
        if not isinstance(op, LAZY) or not isinstance(op.results[0].type, BlockType):
            return False
        if op.parent_op is not None and isinstance(op.parent_op, Reduce):
            return False
        return op.results[0] not in self.decided

    def satisfy(self, op: Operation) -> None:
        """Give `op` each block operand in the layout that it needs."""
        for index, value in enumerate(op.operands):
            if isinstance(value.type, BlockType):
                is_factor = isinstance(op, Dot) and index < 2
                layout = self.required(op, index)
                op.set_operand(index, self.materialize(value, layout, is_factor))
        if isinstance(op, MemoryAccess):
            op.layout = None

    def required(self, op: Operation, index: int) -> LinearLayout:
        if isinstance(op, MemoryAccess):
            assert op.layout is not None
            return op.layout
        if isinstance(op, Reduce):
            return self.reduce_layouts[op]
        if isinstance(op, Dot) and (layout := dot_operand_layout(op, index)) is not None:
            return layout
        if isinstance(op, For):
            return self.decided[op.regions[0].block.arguments[index - 2]]
        if isinstance(op, While):
            return self.decided[op.regions[0].block.arguments[index]]
        if isinstance(op, Yield | Condition) and op.parent_op is not None:
            position = index - 1 if isinstance(op, Condition) else index
            holder = op.parent_op
            if isinstance(holder, For | While | If):
                return self.decided[holder.results[position]]
        value = op.operands[index]
        if isinstance(op, LAZY):
            assert isinstance(op, Op)
            assert isinstance(value.type, BlockType)
            return operand_layout(op, self.decided[op.results[0]], value.type)
        return self.decided.get(value) or self.wanted(value) or self.default(value)

    def materialize(self, value: Value, layout: LinearLayout, is_factor: bool = False) -> Value:
        """`value` in `layout`: itself, an earlier copy, a conversion, or lazy ops made again; of a
        factor of a product also what was computed from loaded blocks.
        """
        if self.decided.get(value) == layout:
            return value
        if (value, layout) in self.copies:
            return self.copies[value, layout]
        assert isinstance(value.type, BlockType)
        kind = replace(value.type, layout=layout)
        made: Value
        if value in self.decided and not (is_factor and self.is_from_memory(value)):
            builder = Builder.behind(value)
            made = builder.insert(
                ConvertLayout(value, loc=value.location, result_types=[kind])
            ).result
        else:
            assert isinstance(value, Result)
            made = self.remake(value, layout, kind, is_factor)
        made.name = value.name
        self.copies[value, layout] = made
        self.decided[made] = layout
        return made

    def is_from_memory(self, value: Value) -> bool:
        """Whether a value is computed, elementwise and by moves, from loaded and lazy blocks."""
        if not isinstance(value, Result) or not isinstance(value.op, LAZY):
            return False
        blocks = [v for v in value.op.operands if isinstance(v.type, BlockType)]
        return all(
            v not in self.decided or isinstance(v.owner, Load) or self.is_from_memory(v)
            for v in blocks
        )

    def remake(
        self, value: Result, layout: LinearLayout, kind: BlockType, is_factor: bool
    ) -> Value:
        op = value.op
        assert isinstance(op, Op)
        mapping: dict[Value, Value] = {}
        for operand in op.operands:
            if isinstance(operand.type, BlockType):
                mapping[operand] = self.materialize(
                    operand, operand_layout(op, layout, operand.type), is_factor
                )
        copy = Builder.before(op).insert(clone(op, mapping))
        copy.results[0].type = kind
        return copy.results[0]


def _leaving(terminator: Operation) -> tuple[Value, ...]:
    """What a region hands on."""
    return terminator.operands[1 if isinstance(terminator, Condition) else 0 :]
