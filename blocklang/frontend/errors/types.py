"""Errors of types, shapes and compile-time values (BL3xx)."""

from __future__ import annotations

from blocklang.ir.diagnostics import UserError


class TypeFamily(UserError):
    """Any of the errors below."""


class OperandTypes(TypeFamily, code="BL301"):
    """Operators take numbers and blocks of numbers; pointers take `+ integer` and `- integer`."""

    message = "'{operator}' cannot be applied to {left} and {right}"
    help = "{instead}"
    example = "pointer * 2"


class OperandType(TypeFamily, code="BL302"):
    """Operators with one operand take numbers and blocks of numbers; `~` takes integers."""

    message = "'{operator}' cannot be applied to {operand}"
    help = "{instead}"
    example = "~1.5"


class MixedSignedness(TypeFamily, code="BL303"):
    """Division of a signed by an unsigned integer has no useful answer for negative numbers."""

    message = "'{operator}' cannot mix the signed and unsigned types {left} and {right}"
    help = "convert one of them first, with .to(dtype)"
    example = "x.to(uint32) // y"


class LiteralOutOfRange(TypeFamily, code="BL304"):
    """A literal takes the dtype of the value that it is combined with, and must fit it."""

    message = "{value} does not fit into {dtype}"
    help = "convert the other operand to a wider dtype first, with .to(dtype)"
    example = "x.to(int8) + 300"


class IntegerTooLarge(TypeFamily, code="BL305"):
    """Integers have at most 64 bits."""

    message = "{value} does not fit into 64 bits"
    help = (
        "compile-time integers of any size are legal until a block or a variable takes their value"
    )
    example = "x = 1 << 70"


class ShapeMismatch(TypeFamily, code="BL306"):
    """Shapes are aligned at their last dimension; sizes that meet are equal, or one is 1."""

    message = "shapes {left} and {right} do not fit together: dimension {dimension} is {a} and {b}"
    help = "add dimensions of size 1 with x[:, None] or x[None, :]"
    example = "arange(0, 8) + arange(0, 16)"


class NotPowerOfTwo(TypeFamily, code="BL307"):
    """The size of each dimension of a block is a power of two."""

    message = "a block of shape {shape}: {size} is not a power of two"
    help = "use {suggestion}, and a mask where the data ends earlier"
    example = "arange(0, 100)"


class CompileTimeRequired(TypeFamily, code="BL308"):
    """Shapes, axes, options and the like are fixed when the kernel is compiled.

    Compile-time values are literals, parameters marked `constexpr`, and what is computed from them.
    """

    message = "{what} must be known at compile time, and {found} is computed at run time"
    help = "{instead}"
    example = "arange(0, n)"


class NotACondition(TypeFamily, code="BL309"):
    """`if` and `while` decide for the whole program, so they need one truth value, not a block."""

    message = "the condition is {found}; expected one truth value"
    help = "{instead}"
    example = "if x > 0: ..."


class LoopTypeChange(TypeFamily, code="BL310"):
    """A variable that a loop carries from one iteration to the next has one type."""

    message = "'{name}' is {before} before the loop and {after} after an iteration"
    help = "{instead}"
    example = "x = y.to(int32)\nfor i in range(n):\n    x = x * 0.5"


class BranchTypes(TypeFamily, code="BL311"):
    """Both choices of `a if condition else b` become one value, which has one type."""

    message = "the choices have different types: {then} and {otherwise}"
    help = "convert one of them with .to(dtype), or give both one shape"
    example = "y = x if n > 0 else 0.5"


class ReturnTypes(TypeFamily, code="BL312"):
    """All returns of a function give values of the same type, since which one runs is not known."""

    message = "this function returns {then} on one way and {otherwise} on another"
    help = "return the same type everywhere"
    example = "if n > 0:\n    return x\nreturn x, y"


class KernelReturnsValue(TypeFamily, code="BL313"):
    """A kernel gives its results back through memory."""

    message = "a kernel returns nothing, and this is {found}"
    help = "store the result through a pointer argument"
    example = "return x"


class CompileTimeChange(TypeFamily, code="BL314"):
    """Strings, dtypes, functions and None exist at compile time only; no loop can change them."""

    message = (
        "'{name}' changes in a loop from {before} to {after}, which exists at compile time only"
    )
    help = "use static_range, which unrolls the loop at compile time, or another variable"
    example = "kind = None\nfor i in range(n):\n    kind = float32"


class WrongArgumentType(TypeFamily, code="BL315"):
    """A function of the language got something that it does not take."""

    message = "{what} must be {expected}, and this is {found}"
    help = "{instead}"
    example = "program_id(x)"


class BadCast(TypeFamily, code="BL316"):
    """Numbers convert to any dtype, pointers to 64-bit integers; bitcasts keep the width."""

    message = "{source} cannot be converted to {target}"
    help = "{instead}"
    example = "x.to(int8, bitcast=True)"


class CompileTimeOperation(TypeFamily, code="BL317"):
    """A computation with compile-time values failed, as it would in Python."""

    message = "{problem}"
    help = "{instead}"
    example = "N: constexpr = 1 // 0"
