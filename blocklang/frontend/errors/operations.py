"""Errors of single functions of the language and of statements (BL4xx)."""

from __future__ import annotations

from blocklang.ir.diagnostics import UserError


class OperationFamily(UserError):
    """Any of the errors below."""


class NotAPointer(OperationFamily, code="BL401"):
    """Memory is read and written through pointers: an argument that is an array, plus offsets."""

    message = "{function}() needs a pointer or a block of pointers, and this is {found}"
    help = "{instead}"
    example = "load(3)"


class BlockThroughScalarPointer(OperationFamily, code="BL402"):
    """A scalar pointer reads or writes one element, with a scalar mask and value."""

    message = "'{argument}' is {found}, but the pointer is a scalar"
    help = "make a block of pointers: pointer + arange(0, N)"
    example = "load(pointer, mask=cols < n)"


class MaskNotBoolean(OperationFamily, code="BL403"):
    """A mask has one truth value an element; comparisons give that."""

    message = "the mask is {found}; expected int1"
    help = "compare: 'mask != 0', or 'offsets < n'"
    example = "load(pointers, mask=offsets)"


class OtherWithoutMask(OperationFamily, code="BL404"):
    """`other` is what a load gives where the mask fails; without a mask it would never be used."""

    message = "'other' is given without 'mask'"
    help = "give a mask, or remove 'other'"
    example = "load(pointers, other=0.0)"


class AxisOutOfRange(OperationFamily, code="BL405"):
    """Axes count from 0; negative ones count from the last."""

    message = "axis {axis} does not exist in {found}"
    help = "{instead}"
    example = "sum(x, axis=2)"


class BadRange(OperationFamily, code="BL406"):
    """`arange(start, end)` makes the integers from start to below end; both fit into int32."""

    message = "arange({start}, {end}): {problem}"
    help = "use arange(0, N) with N a power of two"
    example = "arange(8, 0)"


class UnknownOption(OperationFamily, code="BL407"):
    """Options are strings from a short list."""

    message = "'{found}' is no {option}"
    help = "it is one of: {choices}"
    example = 'load(p, cache_modifier=".xx")'


class FloatRequired(OperationFamily, code="BL408"):
    """Mathematical functions take float16, bfloat16, float32 and float64."""

    message = "{function}() takes floats, and this is {found}"
    help = "convert it first: .to(float32)"
    example = "exp(arange(0, 8))"


class DotShapes(OperationFamily, code="BL409"):
    """A matrix product takes shapes (M, K) and (K, N), or a batch: (B, M, K) and (B, K, N)."""

    message = "matrices of shapes {left} and {right} cannot be multiplied: {problem}"
    help = "{instead}"
    example = "dot(a, b)"


class StaticAssertion(OperationFamily, code="BL410"):
    """A condition that the author of the kernel demands at compile time does not hold."""

    message = "static assertion failed{text}"
    help = "{instead}"
    example = "static_assert(N > 16, 'N is too small')"


class RaiseReached(OperationFamily, code="BL411"):
    """A `raise` that is not in a dead compile-time branch stops the compilation."""

    message = "the kernel raises {text}"
    help = "remove what leads here, or put it under a compile-time condition that does not hold"
    example = 'raise ValueError("unsupported")'


class ReturnInLoop(OperationFamily, code="BL412"):
    """A loop that runs on the GPU has one end."""

    message = "'return' inside a loop that runs at run time"
    help = "set a variable and 'break', then return after the loop"
    example = "for i in range(n):\n    return"


class NotIterable(OperationFamily, code="BL413"):
    """Loops go over `range`, `static_range` and compile-time tuples."""

    message = "a loop cannot go over {found}"
    help = "use range(n); whole blocks are processed at once, without a loop"
    example = "for element in block: ..."


class BadStep(OperationFamily, code="BL414"):
    """A loop's step is not zero, and positive where it is not known at compile time."""

    message = "the step of a loop cannot be zero"
    help = "give a positive or negative step"
    example = "for i in range(0, n, 0): ..."


class WrongHint(OperationFamily, code="BL415"):
    """A hint has one positive integer for each dimension of its value."""

    message = "{function}() needs {expected} for {found}, and got {values}"
    help = "give one integer for each dimension"
    example = "multiple_of(x, [16, 16])"


class BadCombine(OperationFamily, code="BL416"):
    """The function given to `reduce` combines two elements into one of the same type."""

    message = "the combine function gives {found}; expected {expected}"
    help = "convert its result with .to(dtype)"
    example = "reduce(x, 0, f)"


class AtomicType(OperationFamily, code="BL417"):
    """Atomic additions exist for 32- and 64-bit integers and for floats of 16 to 64 bits."""

    message = "atomic_add() cannot add {dtype} in memory"
    help = "use int32, int64, uint32, uint64, float16, bfloat16, float32 or float64"
    example = "atomic_add(int8_pointer, 1)"


class TooManyExits(OperationFamily, code="BL418"):
    """What follows an early exit is compiled once for each way that leads there."""

    message = "more than {limit} early exits (return, break, continue) in one function"
    help = "combine their conditions, or use masks"
    example = "for i in static_range(1000):\n    if x > i:\n        continue"


class BadReshape(OperationFamily, code="BL419"):
    """Reshaping keeps the number of elements; permuting names each dimension once."""

    message = "{problem}"
    help = "{instead}"
    example = "reshape(arange(0, 8), 4, 4)"


class ScalarGiven(OperationFamily, code="BL420"):
    """Functions over dimensions need a block."""

    message = "{function}() needs a block, and this is {found}"
    help = "{instead}"
    example = "sum(1.0, axis=0)"


class DotOperands(OperationFamily, code="BL421"):
    """Both matrices of a product have one dtype, or are any two 8-bit floats."""

    message = "there is no matrix product of {left} and {right}"
    help = "{instead}"
    example = "dot(a, b.to(float16))"


class DotAccumulator(OperationFamily, code="BL422"):
    """A matrix product is summed in a dtype that depends on its operands, on top of `acc`."""

    message = "{what}"
    help = "{instead}"
    example = "dot(a, b, acc)"
