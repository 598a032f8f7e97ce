"""Random programs of integer ops, and an interpreter that runs them on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy

from blocklang.ir.builder import Builder, normalize
from blocklang.ir.core import Block, Function, Region, Value
from blocklang.ir.location import SYNTHETIC
from blocklang.ir.ops.control import For, If, Yield
from blocklang.ir.ops.elementwise import (
    Add,
    AddPointer,
    And,
    Binary,
    Cast,
    Compare,
    Divide,
    Elementwise,
    Maximum,
    Minimum,
    Multiply,
    Negate,
    Or,
    Remainder,
    Select,
    ShiftLeft,
    ShiftRight,
    Subtract,
    Xor,
)
from blocklang.ir.ops.program import Arange, Constant, Splat
from blocklang.ir.ops.shape import Broadcast, ExpandDims, Permute, Reshape
from blocklang.ir.printer import Printer
from blocklang.ir.types import (
    BlockType,
    DType,
    PointerType,
    Type,
    element_type,
    f32,
    i1,
    i8,
    i32,
    i64,
    shape_of,
    u8,
    u32,
    with_element,
)

AT: dict[str, Any] = {"loc": SYNTHETIC}
BINARY = [Add, Subtract, Multiply, Divide, Remainder, And, Or, Xor, Minimum, Maximum]
SHIFTS = [ShiftLeft, ShiftRight]
SHAPES = [(16,), (12,), (64,), (4, 8), (3, 8), (8, 4), (2, 4, 4)]
CONSTANTS = [0, 1, 2, 3, 4, 7, 8, 12, 15, 16, 24, 31, 32, -1, -4, -8, -16]


class Generator:
    """Draws a program: a pool of values of some shape and dtype, combined at random."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.function = Function("random", SYNTHETIC)
        self.builder = Builder(self.function.block)
        self.pool: list[Value] = []
        self.inputs: dict[Value, int] = {}
        for _ in range(2):
            factor = self.random.choice([1, 2, 8, 16])
            argument = self.function.block.add_argument(i32, SYNTHETIC)
            argument.facts = {"divisible": factor}
            self.inputs[argument] = factor * self.random.randint(-9, 9)
            self.pool.append(argument)
        pointer = self.function.block.add_argument(PointerType(f32), SYNTHETIC)
        pointer.facts = {"divisible": 16}
        self.inputs[pointer] = 1 << 33
        self.pool.append(pointer)
        for shape in SHAPES:
            if len(shape) == 1:
                row = BlockType(shape, i32)
                self.insert(Arange(0, shape[0], **AT, result_types=[row]))
                self.insert(Splat(self.pool[0], **AT, result_types=[row]))

    def pick(self, **wanted: Any) -> Value | None:
        """A value of the pool with that type, shape or element type."""
        found = [v for v in self.pool if all(_matches(v, k, w) for k, w in wanted.items())]
        return self.random.choice(found) if found else None

    def constant(self, type: Type) -> Value:
        kind = element_type(type)
        assert isinstance(kind, DType)
        return self.builder.constant(int(normalize(self.random.choice(CONSTANTS), kind)), type)

    def insert(self, op: Any) -> Value:
        value = self.builder.insert(op).result
        self.pool.append(value)
        return value

    def steps(self, count: int, depth: int = 0) -> None:
        choices = [self.source, self.binary, self.binary, self.shift, self.compare, self.select]
        choices += [self.shape, self.cast, self.pointer, self.negate]
        choices += [self.loop, self.branch] if depth == 0 else []
        for _ in range(count):
            step = self.random.choice(choices)
            step(depth) if step in (self.loop, self.branch) else step()

    def source(self) -> None:
        shape = self.random.choice(SHAPES)
        scalar = self.pick(shape=())
        if len(shape) == 1 and (self.random.random() < 0.5):
            start = self.random.choice([0, 0, 1, 4, 16, -16, -8])
            self.insert(Arange(start, start + shape[0], **AT, result_types=[BlockType(shape, i32)]))
        elif scalar is not None:
            element = element_type(scalar.type)
            self.insert(Splat(scalar, **AT, result_types=[BlockType(shape, element)]))

    def integer(self) -> Value | None:
        kind = self.random.choice([i32, i32, i32, i8, u8, u32, i64])
        return self.pick(element=kind) or self.pick(element=i32)

    def second(self, x: Value) -> Value:
        other = self.pick(type=x.type)
        return (
            other if other is not None and (self.random.random() < 0.5) else self.constant(x.type)
        )

    def binary(self) -> None:
        x = self.integer()
        if x is not None:
            kind: type[Binary] = self.random.choice(BINARY)
            y = self.second(x)
            if kind in (Divide, Remainder):
                number = self.random.choice([2, 4, 8, 16, 24, 12, 3, -8])
                y = self.builder.constant(number, x.type)
            elif self.random.randint(0, 3) == 0:
                x, y = y, x
            self.insert(kind(x, y, **AT))

    def negate(self) -> None:
        x = self.integer()
        if x is not None:
            self.insert(Negate(x, **AT))

    def shift(self) -> None:
        x = self.integer()
        if x is not None:
            amount = self.builder.constant(self.random.randint(0, 5), x.type)
            self.insert(self.random.choice(SHIFTS)(x, amount, **AT))

    def compare(self) -> None:
        x = self.integer()
        if x is not None:
            predicate = self.random.choice(["eq", "ne", "lt", "le", "gt", "ge"])
            x, y = self.random.sample([x, self.second(x)], 2)
            self.insert(Compare(x, y, predicate, **AT))

    def select(self) -> None:
        x = self.integer()
        condition = x and self.pick(type=with_element(x.type, i1))
        if x is not None and condition is not None:
            self.insert(Select(condition, x, self.second(x), **AT))

    def cast(self) -> None:
        x = self.integer()
        if x is not None:
            kind = self.random.choice([i1, i8, u8, i32, u32, i64])
            self.insert(Cast(x, **AT, result_types=[with_element(x.type, kind)]))

    def pointer(self) -> None:
        offset = self.integer()
        base = offset and self.pick(type=with_element(offset.type, PointerType(f32)))
        if offset is None:
            return
        if base is None:
            scalar = self.pick(type=PointerType(f32))
            assert scalar is not None
            base = self.builder.splat(scalar, with_element(offset.type, scalar.type))
        self.insert(AddPointer(base, offset, **AT))

    def shape(self) -> None:
        x = self.random.choice(self.pool)
        shape = shape_of(x.type)
        if not shape:
            return
        element = element_type(x.type)
        choice = self.random.choice(["expand", "broadcast", "reshape", "permute"])
        if choice == "expand" and len(shape) < 3:
            self.insert(ExpandDims(x, self.random.randint(0, len(shape)), **AT))
        elif choice == "broadcast" and 1 in shape:
            new = tuple(self.random.choice([3, 4, 8]) if s == 1 else s for s in shape)
            self.insert(Broadcast(x, **AT, result_types=[BlockType(new, element)]))
        elif choice == "reshape":
            size = int(numpy.prod(shape))
            columns = self.random.choice([c for c in (1, 2, 4, 8, size) if size % c == 0])
            new = self.random.choice([(size,), (size // columns, columns)])
            self.insert(Reshape(x, **AT, result_types=[BlockType(new, element)]))
        elif choice == "permute":
            self.insert(Permute(x, tuple(self.random.sample(range(len(shape)), len(shape))), **AT))

    def loop(self, depth: int) -> None:
        initial = self.integer()
        if initial is None:
            return
        bounds = [self.builder.constant(self.random.choice([0, 4, 16]), i32),
                  self.builder.constant(self.random.choice([0, 1, 17, 40]), i32),
                  self.builder.constant(self.random.choice([4, 8, 16]), i32)]  # fmt: skip
        region, pool = Region(), list(self.pool)
        self.pool.append(region.block.add_argument(i32, SYNTHETIC))
        carried = region.block.add_argument(initial.type, SYNTHETIC)
        self.pool += [carried] * 3
        with self.builder.inside(region.block):
            self.steps(3, depth + 1)
            last = self.pick(type=initial.type)
            assert last is not None
            self.builder.insert(Yield((last,), **AT))
        self.pool = pool
        op = self.builder.insert(For(*bounds, (initial,), **AT, regions=[region]))
        self.pool += op.results

    def branch(self, depth: int) -> None:
        x, condition = self.integer(), self.pick(type=i1)
        if x is None or condition is None:
            return
        regions = [Region(), Region()]
        for region in regions:
            pool = list(self.pool)
            with self.builder.inside(region.block):
                self.steps(2, depth + 1)
                last = self.pick(type=x.type)
                self.builder.insert(Yield((last,), **AT))
            self.pool = pool
        op = self.builder.insert(If(condition, **AT, result_types=[x.type], regions=regions))
        self.pool += op.results


def _matches(value: Value, key: str, wanted: Any) -> bool:
    read = {"type": lambda t: t, "shape": shape_of, "element": element_type}
    return read[key](value.type) == wanted


class Undefined(Exception):
    """The program does what is undefined, or what the analysis under test excludes."""


class Interpreter:
    """Runs a function on NumPy arrays; `on_value` sees each value as often as it is computed.

    With `strict`, programs are refused that widen a signed integer which has overflowed.
    """

    def __init__(self, on_value: Callable[[Value, Any], None], strict: bool) -> None:
        self.on_value, self.strict = on_value, strict
        self.values: dict[Value, Any] = {}
        self.wrapped: set[Value] = set()
        self.wrapped_here: set[Value] = set()

    def define(self, value: Value, array: Any) -> None:
        array = numpy.asarray(array)
        self.values[value] = array
        self.on_value(value, array)

    def block(self, block: Block) -> None:
        for op in block.ops:
            if isinstance(op, For):
                low, high, step = (int(self.values[v]) for v in (op.lower, op.upper, op.step))
                carried = [self.values[v] for v in op.initial]
                for index in range(low, high, step):
                    index_and_carried = [numpy.int32(index), *carried]
                    for argument, array in zip(
                        op.body.block.arguments, index_and_carried, strict=True
                    ):
                        self.define(argument, array)
                    self.block(op.body.block)
                    carried = [self.values[v] for v in op.body.block.terminator.operands]
                for result, array in zip(op.results, carried, strict=True):
                    self.define(result, array)
            elif isinstance(op, If):
                region = op.regions[0 if self.values[op.condition] else 1]
                self.block(region.block)
                for result, value in zip(op.results, region.block.terminator.operands, strict=True):
                    self.define(result, self.values[value])
            elif not op.is_terminator:
                self.define(op.results[0], self.evaluate(op))

    def evaluate(self, op: Any) -> Any:
        kind = element_type(op.result.type)
        operands = [self.values[v] for v in op.operands]
        if isinstance(op, Constant):
            return numpy.full(shape_of(op.result.type), op.value, kind.numpy)
        if isinstance(op, Arange):
            return numpy.arange(op.start, op.end, dtype=numpy.int32)
        if isinstance(op, Splat):
            return numpy.broadcast_to(operands[0], shape_of(op.result.type))
        if isinstance(op, ExpandDims):
            return numpy.expand_dims(operands[0], op.axis)
        if isinstance(op, Broadcast):
            return numpy.broadcast_to(operands[0], shape_of(op.result.type))
        if isinstance(op, Reshape):
            return operands[0].reshape(shape_of(op.result.type))
        if isinstance(op, Permute):
            return numpy.transpose(operands[0], op.order)
        if isinstance(op, AddPointer):
            self.refuse_wrapped(op.offset)
            return operands[0] + operands[1].astype(numpy.int64) * 4
        if isinstance(op, Cast):
            if kind.bits > 32:
                self.refuse_wrapped(op.operand)
            return operands[0].astype(kind.numpy)
        assert isinstance(op, Elementwise)
        if isinstance(op, Divide | Remainder) and not operands[1].all():
            raise Undefined  # Division by zero is undefined.
        with numpy.errstate(all="ignore"):
            keywords = op.attributes if isinstance(op, Compare) else {}
            result = op.evaluate(*operands, **keywords)
            self.note_wrap(op, operands, result)
            return numpy.asarray(result).astype(kind.numpy)

    def note_wrap(self, op: Any, operands: list[Any], result: Any) -> None:
        inherited = any(v in self.wrapped for v in op.operands)
        wide = [x.astype(object) for x in operands]
        exact = {Add: lambda x, y: x + y, Subtract: lambda x, y: x - y, Negate: lambda x: -x,
                 Multiply: lambda x, y: x * y, ShiftLeft: lambda x, y: x << y}  # fmt: skip
        if type(op) in exact and (exact[type(op)](*wide) != result).any():
            self.wrapped_here.add(op.result)
        if inherited or op.result in self.wrapped_here:
            self.wrapped.add(op.result)

    def refuse_wrapped(self, value: Value) -> None:
        if self.strict and value in self.wrapped:
            raise Undefined


def run(generator: Generator, on_value: Callable[[Value, Any], None], strict: bool) -> Interpreter:
    """Run a finished program until it does something undefined; failures show its text."""
    function = generator.function
    interpreter = Interpreter(on_value, strict)
    try:
        for argument, number in generator.inputs.items():
            kind = "i4" if argument.type == i32 else "i8"
            interpreter.define(argument, numpy.array(number, kind))
        interpreter.block(function.block)
    except Undefined:
        pass
    except AssertionError as problem:
        lines: list[str] = []
        Printer(locations=False).function(function, lines)
        raise AssertionError("\n".join(lines)) from problem
    return interpreter
