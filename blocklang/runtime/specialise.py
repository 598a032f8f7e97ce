"""What a kernel is compiled for: the facts about its arguments that the machine code may rely on.

Facts are those of Triton: an integer's width, addresses and integers divisible by 16, integers
equal to 1, None, and the values of compile-time parameters; and one more, integers divisible by 8:
rows of that many 16-bit elements are what the tensor memory accelerator can copy. The type of a
compile-time value counts: 1, True and 1.0 are three kernels. Nothing here looks at arrays; see
`arrays.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

from blocklang.runtime.arrays import Argument, Parts
from blocklang.runtime.errors import ArgumentRangeError, ArgumentTypeError


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()

DESCRIPTOR: Final = "tensordesc"
"""The declared type of a parameter that is a tensor descriptor."""

DIVISOR: Final = 16
"""What code relies on addresses and integers being divisible by, as in Triton."""

LESSER_DIVISOR: Final = 8
"""What code relies on where an integer is not divisible by DIVISOR."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel, as the launcher sees it.

    `dtype` is the declared type: an IR scalar such as `i64`, an array of elements such as `*f16`,
    DESCRIPTOR, or None to follow the argument. `specialize` and `specialize_alignment` false leave
    out the facts about values, or about divisibility only. `descriptor`, for a parameter that is
    declared as a tensor descriptor, gives block shape and padding from the values of all parameters
    by name.
    """

    name: str
    constexpr: bool = False
    dtype: str | None = None
    specialize: bool = True
    specialize_alignment: bool = True
    default: Any = MISSING
    descriptor: Callable[[Mapping[str, Any]], tuple[tuple[int, ...], str]] | None = None


class ArgumentFacts(NamedTuple):
    """What is known about one argument when its kernel is compiled.

    `dtype` is the type of a number or of an array's elements, and empty for the other kinds;
    `divisible` is a divisor of the number or of the address in bytes, `value` is that of a
    compile-time parameter. Equality of values is not equality of kernels: see `typed_key`. A tensor
    descriptor has the facts of its `parts`.
    """

    kind: Literal["array", "integer", "float", "boolean", "none", "constexpr", "descriptor"]
    dtype: str = ""
    divisible: int = 1
    equal_to_1: bool = False
    value: Any = None
    parts: tuple[Any, ...] = ()
    block_shape: tuple[int, ...] = ()
    padding: str = ""


@dataclass(frozen=True)
class Specialisation:
    """Everything that the compiled code of a kernel depends upon, besides its source.

    `device` is the number of a GPU, or `arrays.HOST` for the CPU; `arguments` are in the order of
    the parameters, `options` in the order in which the kernel declares them.
    """

    device: int
    arguments: tuple[ArgumentFacts, ...]
    options: tuple[tuple[str, Any], ...]


_INTEGER_RANGES: Final = {
    "i1": (0, 1),
    **{f"i{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"u{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}


def argument_facts(parameter: Parameter, argument: Argument, kernel: str) -> ArgumentFacts:
    """The facts about one run-time argument; an error names the parameter of `kernel`.

    Raises ArgumentTypeError and ArgumentRangeError where it does not fit the declared type.
    """
    if argument.kind == "descriptor" and parameter.dtype in (None, DESCRIPTOR):
        return _descriptor_facts(parameter, argument)
    dtype = argument.dtype
    if parameter.dtype is not None:
        dtype = _declared_dtype(parameter, argument, kernel)
    if argument.kind == "array":
        return ArgumentFacts("array", dtype, _divisor(parameter, argument.value, DIVISOR))
    if argument.kind == "none":
        return ArgumentFacts("none")
    if dtype == "i1":
        return ArgumentFacts("boolean", dtype)
    if dtype not in _INTEGER_RANGES:
        return ArgumentFacts("float", dtype)
    value = argument.value
    divisible = _divisor(parameter, value, DIVISOR, LESSER_DIVISOR)
    return ArgumentFacts("integer", dtype, divisible, parameter.specialize and value == 1)


def _divisor(parameter: Parameter, value: int, *divisors: int) -> int:
    """The first of `divisors` that divides `value`, else 1; 1 where it does not count."""
    if not (parameter.specialize and parameter.specialize_alignment):
        return 1
    return next((each for each in divisors if value % each == 0), 1)


def _descriptor_facts(parameter: Parameter, argument: Argument) -> ArgumentFacts:
    parts: Parts = argument.value
    pointer, *numbers = parts.arguments
    aligned = parameter.specialize and parameter.specialize_alignment
    known = ArgumentFacts("array", pointer.dtype, _divisor(parameter, pointer.value, DIVISOR))
    return ArgumentFacts(
        "descriptor",
        argument.dtype,
        parts=(known, *_facts_of_numbers(tuple(numbers), parameter.specialize, aligned)),
        block_shape=parts.block_shape,
        padding=parts.padding,
    )


@lru_cache(maxsize=4096)
def _facts_of_numbers(
    numbers: tuple[Argument, ...], specialize: bool, aligned: bool
) -> tuple[ArgumentFacts, ...]:
    """The facts about sizes and strides of a descriptor."""
    plain = Parameter("", specialize=specialize, specialize_alignment=aligned)
    return tuple(argument_facts(plain, number, "") for number in numbers)


def check_range(parameter: Parameter, argument: Argument, dtype: str, kernel: str) -> None:
    """Raise ArgumentRangeError where a number does not fit the integer type of its parameter."""
    lowest, highest = _INTEGER_RANGES.get(dtype, (argument.value, argument.value))
    if not lowest <= argument.value <= highest:
        raise ArgumentRangeError(
            f"{parameter.name!r} of {kernel} is {argument.value}, which does not fit its "
            f"type {dtype}",
            f"pass a value from {lowest} to {highest}",
        )


def _declared_dtype(parameter: Parameter, argument: Argument, kernel: str) -> str:
    declared = parameter.dtype
    assert declared is not None
    if declared.startswith("*"):
        if argument.kind == "none" or (argument.kind == "array" and argument.dtype == declared[1:]):
            return argument.dtype
    elif declared in _INTEGER_RANGES and argument.kind in ("integer", "boolean"):
        check_range(parameter, argument, declared, kernel)
        return declared
    elif declared not in _INTEGER_RANGES and argument.kind in ("integer", "boolean", "float"):
        return declared
    expected = (
        f"an array of {declared[1:]}" if declared.startswith("*") else f"a number ({declared})"
    )
    if declared == DESCRIPTOR:
        expected = "a tensor descriptor, or an array"
    given = {
        "array": f"an array of {argument.dtype}",
        "none": "None",
        "descriptor": "a tensor descriptor",
    }.get(argument.kind, f"the {argument.kind} {argument.value}")
    raise ArgumentTypeError(f"{parameter.name!r} of {kernel} must be {expected}, not {given}")


def typed_key(value: Any) -> Hashable:
    """A key that differs where the compiled code could: by type, by bits of floats, within tuples.

    Raises TypeError for values that cannot be hashed.
    """
    kind = type(value)
    if kind is int or kind is bool or kind is str or value is None:
        return kind, value
    if kind is float:
        # Equal, but not the same constants: 0.0 and -0.0. And a NaN is not equal to itself.
        return kind, value.hex()
    if isinstance(value, tuple):
        return kind, tuple(typed_key(item) for item in value)
    hash(value)
    return kind, value
