"""The reference evaluator: runs a module of stage "block" on NumPy arrays, slowly and plainly.

It is the oracle of the tests and no back end: programs run one after the other, blocks are arrays
of their shape, and elementwise ops are computed as in `compute.py`.

A pointer is a buffer's number and a byte offset in one 64-bit integer, so that it can be stored,
compared and cast like any other. An access outside its buffer is an EvaluationError that names the
op and where it comes from. Masked elements of a load without `other`, and of an atomic's result,
are poison: all bits one, which is NaN for every float.

Ops of later stages (shared memory, reductions within warps) are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy

from .compute import elementwise, numpy_type
from .core import Block, Function, Module, Operation, Value
from .op import Op
from .ops import control, debug, dot, memory, program, shape, shared
from .ops.elementwise import Elementwise
from .ops.reduce import Reduce
from .products import matrix_product
from .types import DType, PointerType, Type, element_type, shape_of

Array = Any
OFFSET_BITS = 40


class EvaluationError(Exception):
    """A kernel did what it must not, or an op that cannot be evaluated was met."""

    def __init__(self, text: str, op: Operation) -> None:
        super().__init__(f"{op.loc}: {op.mnemonic}: {text}")
        self.location = op.loc


def evaluate(
    module: Module,
    arguments: Sequence[Any],
    grid: Sequence[int] = (1,),
    output: Callable[[str], None] = print,
) -> None:
    """Run the kernel of `module` for every program of `grid` (one to three sizes).

    `arguments` are NumPy arrays for pointers (contiguous; written in place) and numbers for the
    rest, in the order of the kernel's parameters. `output` takes the lines of `device_print`.
    Raises EvaluationError.
    """
    x_size, y_size, z_size = (*grid, 1, 1)[:3]
    evaluator = Evaluator(module, (x_size, y_size, z_size), output)
    values = evaluator.bind(module.kernel, arguments)
    for z, y, x in numpy.ndindex(z_size, y_size, x_size):
        evaluator.program = (x, y, z)
        evaluator.block(module.kernel.block, values)


def evaluate_function(module: Module, name: str, arguments: Sequence[Any]) -> list[Array]:
    """What a function of `module` returns for arrays and numbers of its parameters' types."""
    evaluator = Evaluator(module, (1, 1, 1))
    function = module.functions[name]
    return evaluator.block(function.block, evaluator.bind(function, arguments))


class Evaluator:
    """One launch: its memory, and the program that runs."""

    def __init__(
        self, module: Module, grid: tuple[int, ...], output: Callable[[str], None] = print
    ) -> None:
        self.module = module
        self.grid = grid
        self.output = output
        self.program = (0, 0, 0)
        self.values: dict[Value, Array] = {}
        self.buffers: dict[int, Array] = {}

    def bind(self, function: Function, arguments: Sequence[Any]) -> list[Array]:
        """The values of the parameters; each array becomes a buffer."""
        pairs = zip(arguments, function.arguments, strict=True)
        return [self._bind(value, parameter.type) for value, parameter in pairs]

    def _bind(self, value: Any, type: Type) -> Array:
        if not isinstance(type, PointerType) or not isinstance(value, numpy.ndarray):
            return numpy.asarray(value, numpy_type(element_type(type)))
        if not value.flags.c_contiguous:
            raise ValueError("arrays must be contiguous")
        # Odd numbers only, so that the place just before a buffer belongs to none.
        number = 2 * len(self.buffers) + 1
        self.buffers[number] = value.reshape(-1).view(numpy.uint8)
        return numpy.int64(number << OFFSET_BITS)

    def block(self, block: Block, arguments: Sequence[Array]) -> list[Array]:
        """Run a block; the operands of its terminator."""
        self.values.update(zip(block.arguments, arguments, strict=True))
        for op in block.ops:
            operands = [self.values[v] for v in op.operands]
            if op.is_terminator:
                return operands
            found = find_evaluator(type(op))
            if found is None:
                raise EvaluationError("the reference evaluator cannot do this", op)
            result = found(self, op, *operands)
            results = result if isinstance(result, list) else [result]
            self.values.update(zip(op.results, results, strict=True))
        raise AssertionError("a block without terminator")

    def bytes_at(self, address: int, size: int, op: Operation) -> Array:
        """The `size` bytes at `address`, as a view of their buffer."""
        number, offset = address >> OFFSET_BITS, address & ((1 << OFFSET_BITS) - 1)
        if number not in self.buffers:
            number, offset = number + 1, offset - (1 << OFFSET_BITS)
        buffer = self.buffers.get(number)
        if buffer is None:
            raise EvaluationError(f"{address:#x} is not a pointer to an argument's array", op)
        if offset < 0 or offset + size > len(buffer):
            raise EvaluationError(
                f"{size} bytes at offset {offset} of an array of {len(buffer)} bytes", op
            )
        return buffer[offset : offset + size]

    def accesses(self, op: memory.MemoryAccess) -> tuple[Any, list[tuple[Any, Array]]]:
        """The dtype in memory, and index and bytes of every element that the mask lets through."""
        dtype = numpy_type(element_type(op.accessed))
        pointer = self.values[op.pointer]
        mask = True if op.mask is None else self.values[op.mask]
        mask = numpy.broadcast_to(mask, numpy.shape(pointer))
        return dtype, [
            (index, self.bytes_at(int(pointer[index]), dtype.itemsize, op))
            for index in numpy.ndindex(numpy.shape(pointer))
            if mask[index]
        ]


Evaluate = Callable[..., Any]
EVALUATORS: dict[type[Operation], Evaluate] = {}


def evaluates(*ops: type[Op]) -> Callable[[Evaluate], Evaluate]:
    """Declare how ops of these classes give their results (a list where there is not just one)."""

    def declare(function: Evaluate) -> Evaluate:
        EVALUATORS.update(dict.fromkeys(ops, function))
        return function

    return declare


def find_evaluator(kind: type[Operation]) -> Evaluate | None:
    """The evaluator of a class of ops or of its nearest base."""
    return next((EVALUATORS[base] for base in kind.__mro__ if base in EVALUATORS), None)


@evaluates(Elementwise)
def _(e: Evaluator, op: Elementwise, *operands: Array) -> Array:
    return elementwise(op, operands)


@evaluates(program.ProgramId)
def _(e: Evaluator, op: program.ProgramId) -> Array:
    return numpy.int32(e.program[op.axis])


@evaluates(program.NumPrograms)
def _(e: Evaluator, op: program.NumPrograms) -> Array:
    return numpy.int32(e.grid[op.axis])


@evaluates(program.Constant)
def _(e: Evaluator, op: program.Constant) -> Array:
    type = op.results[0].type
    return numpy.full(shape_of(type), op.value, numpy_type(element_type(type)))


@evaluates(program.Splat, shape.Broadcast)
def _(e: Evaluator, op: Op, value: Array) -> Array:
    return numpy.broadcast_to(value, shape_of(op.results[0].type))


@evaluates(program.Arange)
def _(e: Evaluator, op: program.Arange) -> Array:
    return numpy.arange(op.start, op.end, dtype=numpy.int32)


@evaluates(program.Hint, shape.ConvertLayout)
def _(e: Evaluator, op: Op, value: Array) -> Array:
    return value


@evaluates(shared.Barrier)
def _(e: Evaluator, op: shared.Barrier) -> list[Array]:
    return []


@evaluates(program.Assume)
def _(e: Evaluator, op: program.Assume, condition: Array) -> list[Array]:
    if not numpy.all(condition):
        raise EvaluationError("the promise is false", op)
    return []


@evaluates(shape.ExpandDims)
def _(e: Evaluator, op: shape.ExpandDims, value: Array) -> Array:
    return numpy.expand_dims(value, op.axis)


@evaluates(shape.Reshape)
def _(e: Evaluator, op: shape.Reshape, value: Array) -> Array:
    return numpy.reshape(value, shape_of(op.results[0].type))


@evaluates(shape.Permute)
def _(e: Evaluator, op: shape.Permute, value: Array) -> Array:
    return numpy.transpose(value, op.order)


def _poison(shape: tuple[int, ...], dtype: Any) -> Array:
    return numpy.full((*shape, dtype.itemsize), 255, numpy.uint8).view(dtype).reshape(shape)


@evaluates(memory.Load)
def _(e: Evaluator, op: memory.Load, pointer: Array, *rest: Array) -> Array:
    dtype, places = e.accesses(op)
    shape = numpy.shape(pointer)
    loaded = _poison(shape, dtype) if op.other is None else numpy.array(rest[-1])
    for index, place in places:
        loaded[index] = place.view(dtype)[0]
    return loaded


@evaluates(memory.Store)
def _(e: Evaluator, op: memory.Store, *operands: Array) -> list[Array]:
    dtype, places = e.accesses(op)
    value = numpy.asarray(e.values[op.value])
    for index, place in places:
        place[:] = numpy.array([value[index]], dtype).view(numpy.uint8)
    return []


ATOMICS: dict[str, Callable[[Array, Array], Array]] = {"add": numpy.add}


@evaluates(memory.AtomicRMW)
def _(e: Evaluator, op: memory.AtomicRMW, pointer: Array, *rest: Array) -> Array:
    dtype, places = e.accesses(op)
    value, before = numpy.asarray(rest[-1]), _poison(numpy.shape(pointer), dtype)
    for index, place in places:
        before[index] = place.view(dtype)[0]
        with numpy.errstate(all="ignore"):
            after = ATOMICS[op.kind](before[index], value[index])
        place[:] = numpy.array([after], dtype).view(numpy.uint8)
    return before


@evaluates(control.If)
def _(e: Evaluator, op: control.If, condition: Array) -> list[Array]:
    return e.block(op.regions[0 if condition else 1].block, [])


@evaluates(control.For)
def _(
    e: Evaluator, op: control.For, lower: Array, upper: Array, step: Array, *carried: Array
) -> list[Array]:
    if step <= 0:
        raise EvaluationError(f"the step {step} is not positive", op)
    values = list(carried)
    for index in range(int(lower), int(upper), int(step)):
        values = e.block(op.body.block, [numpy.asarray(index, lower.dtype), *values])
    return values


@evaluates(control.While)
def _(e: Evaluator, op: control.While, *carried: Array) -> list[Array]:
    values = list(carried)
    while True:
        condition, *values = e.block(op.before.block, values)
        if not condition:
            return values
        values = e.block(op.body.block, values)


@evaluates(control.Call)
def _(e: Evaluator, op: control.Call, *arguments: Array) -> list[Array]:
    return e.block(e.module.functions[op.callee].block, arguments)


@evaluates(Reduce)
def _(e: Evaluator, op: Reduce, *inputs: Array) -> list[Array]:
    if op.is_partial:
        raise EvaluationError("needs layouts", op)
    slices = [numpy.moveaxis(x, op.axis, 0) for x in inputs]
    totals = [numpy.array(x[0]) for x in slices]
    # Straight code computes on all elements that remain at once; branches need them one by one.
    has_branches = any(inner.regions for inner in op.combine.block.ops)
    indices = numpy.ndindex(totals[0].shape) if has_branches else [...]
    for index in indices:
        for rest in zip(*(x[1:] for x in slices), strict=True):
            pairs = [x[index] for x in (*totals, *rest)]
            for total, value in zip(totals, e.block(op.combine.block, pairs), strict=True):
                total[index] = value
    return totals


@evaluates(dot.Dot)
def _(e: Evaluator, op: dot.Dot, a: Array, b: Array, acc: Array) -> Array:
    target = element_type(op.result.type)
    assert isinstance(target, DType)
    return matrix_product(a, b, acc, target, op.precision)


@evaluates(debug.DevicePrint)
def _(e: Evaluator, op: debug.DevicePrint, *values: Array) -> list[Array]:
    if not values:
        e.output(op.prefix)
    for value in map(numpy.asarray, values):
        for index in numpy.ndindex(value.shape):
            place = f" idx ({', '.join(map(str, index))})" if index else ""
            text = _printed(value[index].item(), op.hex)
            e.output(f"pid {e.program}{place} {op.prefix}{text}")
    return []


def _printed(item: float, in_hex: bool) -> str:
    """A number as C prints it."""
    if isinstance(item, float):
        return f"{item:f}"
    return f"{item & (2**64 - 1):x}" if in_hex else str(int(item))


@evaluates(debug.DeviceAssert)
def _(e: Evaluator, op: debug.DeviceAssert, condition: Array) -> list[Array]:
    if not numpy.all(condition):
        where = tuple(numpy.argwhere(~numpy.asarray(condition))[0].tolist())
        raise EvaluationError(
            f"assertion failed in program {e.program} at {where}: {op.message}", op
        )
    return []


# Enters the evaluators of a family that has a file of its own.
from . import evaluate_descriptor  # noqa: E402, F401
