"""Errors of names and calls (BL2xx): what a name means, and how functions are called."""

from __future__ import annotations

from blocklang.ir.diagnostics import UserError


class NameFamily(UserError):
    """Any of the errors below."""


class UnknownName(NameFamily, code="BL201"):
    """A name is a parameter, assigned before its use, or defined in the file around the kernel."""

    message = "'{name}' is not defined"
    help = "{instead}"
    example = "y = x + undefined"


class UnknownAttribute(NameFamily, code="BL202"):
    """Blocks, types and modules have a fixed set of attributes and methods."""

    message = "{owner} has no attribute '{name}'"
    help = "{instead}"
    example = "x.too(bl.float32)"


class MaybeUnassigned(NameFamily, code="BL203"):
    """A variable that is assigned on one way through the kernel only has no value on the other.

    A loop may run zero times, and a branch may not be taken.
    """

    message = "'{name}' has no single value here: {reason}"
    help = "{instead}"
    example = "if n > 0:\n    y = 1\nstore(p, y)"


class UnusableValue(NameFamily, code="BL204"):
    """Kernels can use numbers, strings, dtypes, tuples, functions and modules around them.

    Everything else lives on the host: pass it as an argument.
    """

    message = "'{name}' is {what}, which kernels cannot use"
    help = "{instead}"
    example = "y = some_list_of_objects"


class NotCallable(NameFamily, code="BL205"):
    """Kernels call functions of the language and functions decorated with `@blocklang.jit`."""

    message = "{what} cannot be called in a kernel"
    help = "{instead}"
    example = "y = numpy.exp(x)"


class UnknownKeyword(NameFamily, code="BL206"):
    """A keyword argument must be a parameter of the function."""

    message = "{function}() has no parameter '{name}'"
    help = "{instead}"
    example = "load(x, musk=m)"


class MissingArgument(NameFamily, code="BL207"):
    """Parameters without a default need an argument."""

    message = "{function}() needs an argument for '{name}'"
    help = "its parameters are: {parameters}"
    example = "store(x)"


class TooManyArguments(NameFamily, code="BL208"):
    """A call has at most as many arguments as the function has parameters."""

    message = "{function}() takes at most {expected}, and got {found}"
    help = "its parameters are: {parameters}"
    example = "program_id(0, 1)"


class RepeatedArgument(NameFamily, code="BL209"):
    """Each parameter takes one argument, by position or by name."""

    message = "{function}() got several arguments for '{name}'"
    help = "its parameters are: {parameters}"
    example = "load(x, pointer=x)"


class RecursiveCall(NameFamily, code="BL210"):
    """Functions are inlined into the kernel, so they cannot call themselves, nor in a circle."""

    message = "'{name}' calls itself"
    help = "write a loop"
    example = "def f(x): return f(x - 1)"


class KernelCalled(NameFamily, code="BL211"):
    """A `kernel` is launched by the host; what kernels call is a `function`."""

    message = "'{name}' is a kernel, which only the host can launch"
    help = "declare it with 'function' to call it"
    example = "kernel a(): ...\nkernel b(): a()"


class WrongUnpacking(NameFamily, code="BL212"):
    """The names on the left and the items on the right must match one by one."""

    message = "{found} cannot be assigned to {expected} names"
    help = "{instead}"
    example = "a, b = (1, 2, 3)"


class BadSubscript(NameFamily, code="BL213"):
    """Tuples are indexed by compile-time integers and slices. Blocks take `:` and `None` only.

    Elements of a block belong to different threads: they are selected with masks, not indexed.
    """

    message = "{problem}"
    help = "{instead}"
    example = "x[3]"
