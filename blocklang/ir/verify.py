"""The verifier: every invariant that passes may rely on and must keep.

1. Operands are defined before they are used, in the same or an enclosing block.
2. `Value.uses` lists each use exactly; results and arguments know their owner and index; ops know
their parents.
3. Each block ends with its only terminator: `return` in a function, `condition` in the first region
of a `while`, `yield` in the regions of ops else.
4. Operands, attributes, results and regions are those declared; result types equal what the op
infers, layouts apart; the op's own `check` holds.
5. A module has one kernel at most; callees exist and take the arguments that calls give them.
6. Stage "block": no value has a layout. Stage "layout": every block value has one, whose shape is
the block's shape padded to powers of two; no register of it is a replica. Stage "shared" likewise.
Each op is legal at the module's stage.
7. Every location of a compiled kernel's ops is known (checked where `require_locations` is set).
"""

from __future__ import annotations

from dataclasses import replace

from .core import Block, Function, Module, Operation, Region, Result, Value
from .location import SYNTHETIC
from .op import IRError, Op
from .ops.control import Call, Condition, Return, While, Yield
from .ops.shape import ConvertLayout
from .ops.shared import SharedAccess, SharedAlloc
from .printer import print_op
from .types import BlockType, Type

STAGES = ("block", "layout", "shared")
"""The stages of a kernel: without layouts, with layouts, with explicit shared memory."""


def verify(module: Module, require_locations: bool = False) -> None:
    """Raise IRError, with the op's text, at the first broken invariant. The stage is
    `module.attributes["stage"]`.
    """
    kernels = [f.name for f in module.functions.values() if f.is_kernel]
    _require(len(kernels) <= 1, f"several kernels in a module: {kernels}", None)
    stage = module.attributes.get("stage", "block")
    _require(stage in STAGES, f"unknown stage {stage}", None)
    for function in module.functions.values():
        _Verifier(module, function, stage, require_locations).run()


def _require(condition: bool, text: str, op: Operation | None) -> None:
    if not condition:
        raise IRError(text if op is None else f"{text}\n  in: {print_op(op)}")


def _without_layout(type: Type) -> Type:
    return replace(type, layout=None) if isinstance(type, BlockType) else type


class _Verifier:
    """Checks one function."""

    def __init__(
        self, module: Module, function: Function, stage: str, require_locations: bool
    ) -> None:
        self.module, self.function, self.stage = module, function, stage
        self.require_locations = require_locations
        self.visible: set[Value] = set()

    def run(self) -> None:
        self.block(self.function.block, None)
        types = tuple(v.type for v in self.function.block.terminator.operands)
        _require(
            types == self.function.result_types,
            "return differs from the function's result types",
            None,
        )

    def block(self, block: Block, parent: Op | None) -> None:
        added: list[Value] = []
        for index, argument in enumerate(block.arguments):
            _require(
                argument.block is block and argument.index == index, "argument out of place", parent
            )
            self.type(argument, parent)
            self.uses(argument, parent)
            added.append(argument)
        self.visible.update(added)
        _require(bool(block.ops), "empty block", parent)
        for op in block.ops:
            assert isinstance(op, Op)
            _require(op.parent is block, "op does not know its block", op)
            self.op(op, op is block.ops[-1])
            self.visible.update(op.results)
            added.extend(op.results)
        is_first_of_while = isinstance(parent, While) and parent.before.block is block
        legal = Return if parent is None else Condition if is_first_of_while else Yield
        _require(isinstance(block.terminator, legal), "wrong terminator", block.terminator)
        self.visible.difference_update(added)

    def op(self, op: Op, is_last: bool) -> None:
        _require(
            op.is_terminator == is_last, "a terminator ends a block, and nothing else does", op
        )
        for index, value in enumerate(op.operands):
            _require(value in self.visible, f"operand {index} is not defined here", op)
            _require((op, index) in value.uses, f"use of operand {index} is not recorded", op)
        for index, result in enumerate(op.results):
            _require(result.op is op and result.index == index, "result out of place", op)
            self.uses(result, op)
            self.type(result, op)
        for inner in op.regions:
            _require(bool(inner.block.ops), "empty block", op)
        self.declaration(op)
        if self.require_locations:
            _require(op.loc != SYNTHETIC, "unknown location", op)
        for inner in op.regions:
            self.region(op, inner)

    def uses(self, value: Value, op: Op | None) -> None:
        for user, position in value.uses:
            is_there = user.operands[position : position + 1] == (value,)
            _require(is_there, "a recorded use is not there", op)

    def declaration(self, op: Op) -> None:
        declared = {f.name for f in op.fields_of("attribute")}
        _require(set(op.attributes) == declared, "attributes differ from the declaration", op)
        _require(
            len(op.segments) == len(op.fields_of("operand")),
            "operands differ from the declaration",
            op,
        )
        _require(sum(op.segments) == len(op.operands), "operands differ from the declaration", op)
        for field, length in zip(op.fields_of("operand"), op.segments, strict=True):
            allowed = {"single": (1,), "optional": (0, 1)}.get(field.mode, (length,))
            _require(length in allowed, f"{length} values for operand {field.name}", op)
        outputs = op.fields_of("result")
        is_fixed = all(f.mode == "single" for f in outputs)
        _require(
            not is_fixed or len(op.results) == len(outputs),
            "results differ from the declaration",
            op,
        )
        _require(
            len(op.regions) == len(op.fields_of("region")),
            "regions differ from the declaration",
            op,
        )
        _require(not isinstance(op, ConvertLayout) or self.stage != "block", "no layouts yet", op)
        _require(
            not isinstance(op, SharedAlloc | SharedAccess) or self.stage != "block",
            "no shared memory yet",
            op,
        )
        try:
            op.check()
        except IRError as problem:
            _require(False, str(problem), op)
        self.inferred(op)
        if isinstance(op, Call):
            callee = self.module.functions.get(op.callee)
            _require(callee is not None, f"there is no function @{op.callee}", op)
            assert callee is not None
            _require(
                [a.type for a in callee.arguments] == [v.type for v in op.operands],
                "wrong arguments",
                op,
            )
            _require([r.type for r in op.results] == list(callee.result_types), "wrong results", op)

    def inferred(self, op: Op) -> None:
        try:
            expected = op.infer()
        except IRError:
            return  # such ops are made with `result_types`
        found = [_without_layout(r.type) for r in op.results]
        _require(
            found == [_without_layout(t) for t in expected],
            f"the result types must be {', '.join(map(str, expected)) or 'none'}",
            op,
        )

    def region(self, op: Op, region: Region) -> None:
        _require(
            region.op is op and region.block.region is region, "region does not know its op", op
        )
        self.block(region.block, op)

    def type(self, value: Value, op: Op | None) -> None:
        type = value.type
        if not isinstance(type, BlockType):
            return
        if self.stage == "block":
            _require(type.layout is None, f"{type} has a layout before assign_layouts", op)
            return
        _require(type.layout is not None, f"{type} has no layout", op)
        assert type.layout is not None
        padded = tuple(1 << (n - 1).bit_length() for n in type.shape)
        _require(type.layout.shape == padded, f"the layout of {type} has another shape", op)
        is_result = isinstance(value, Result)
        zero = any(not any(b) for b in dict(type.layout.bases).get("register", ()))
        _require(
            not zero,
            f"{'result' if is_result else 'argument'} {type} holds replicas in registers",
            op,
        )
