"""How functions of the language reach the compilation that calls them, and build IR there.

One `Session` is one compilation; it is current while `active()` is open, in this thread only.
Functions of the language are plain Python functions that call what is here. Elementwise ops on
known numbers are computed at once, with the ops' own `evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from blocklang.ir.builder import Builder
from blocklang.ir.core import Block, Module, Operation, Region, Value
from blocklang.ir.location import Location
from blocklang.ir.ops.elementwise import (
    Bitcast,
    Cast,
    Compare,
    Divide,
    Elementwise,
    Remainder,
    ShiftLeft,
    ShiftRight,
)
from blocklang.ir.types import DType, Type, i1, with_element

from .values import Tensor, known


class Session:
    """The state of one compilation, from a kernel to its IR module.

    `call` calls any function value with front-end values; `messages` are the texts that
    `static_print` gives, in order.
    """

    def __init__(self, module: Module, options: Mapping[str, Any]) -> None:
        self.module = module
        self.options = options
        self.builder = Builder(Block())
        self.messages: list[str] = []
        self.call: Callable[[Any, Sequence[Any], Mapping[str, Any]], Any] = _no_calls


def _no_calls(function: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    raise AssertionError("no function is being compiled")


_session: ContextVar[Session | None] = ContextVar("blocklang_session", default=None)


class OutsideKernel(TypeError):
    """A function of the language was called by Python itself, not in a kernel."""


@contextmanager
def active(session: Session) -> Iterator[Session]:
    """Make `session` the current one."""
    token = _session.set(session)
    try:
        yield session
    finally:
        _session.reset(token)


def is_active() -> bool:
    """Whether a kernel is being compiled in this thread."""
    return _session.get() is not None


def session() -> Session:
    """The current compilation."""
    current = _session.get()
    if current is None:
        raise OutsideKernel("functions of blocklang.language work inside kernels only")
    return current


def builder() -> Builder:
    """The builder of the function that is being compiled."""
    return session().builder


def location() -> Location:
    """The place of the expression that is being compiled."""
    return session().builder.loc


def ir(tensor: Tensor) -> Value:
    """The IR value of a Tensor; a known number becomes a constant here."""
    if tensor.handle is not None:
        return tensor.handle
    assert tensor.known is not None
    return builder().constant(tensor.known, tensor.type)


def emit(op: Operation) -> Tensor:
    """Insert an op and return its only result."""
    builder().insert(op)
    (result,) = op.results
    return Tensor(result.type, result)


def elementwise(op: type[Elementwise], *operands: Tensor, **attributes: Any) -> Tensor:
    """An elementwise op on operands of one shape, computed at once where all are known."""
    computed = _evaluate(op, operands, attributes)
    if computed is not None:
        return computed
    # The operands and attributes of an op are known to its own class only.
    build: Any = op
    return emit(build(*map(ir, operands), loc=location(), **attributes))


def convert(op: type[Cast | Bitcast], operand: Tensor, type: Type, **attributes: Any) -> Tensor:
    """A conversion op to `type`."""
    return emit(op(ir(operand), loc=location(), result_types=[type], **attributes))


def _evaluate(
    op: type[Elementwise], operands: Sequence[Tensor], attributes: Mapping[str, Any]
) -> Tensor | None:
    """The known result, if all operands are known and NumPy computes what the hardware would."""
    if any(operand.known is None for operand in operands):
        return None
    if attributes and op is not Compare:
        return None
    dtype = operands[0].dtype
    if not isinstance(dtype, DType) or (dtype.is_float and dtype.bits < 32):
        return None
    second = operands[-1].known
    assert second is not None
    if op in (Divide, Remainder) and dtype.is_integer and second == 0:
        return None
    if op in (ShiftLeft, ShiftRight) and not 0 <= second < dtype.bits:
        return None
    import numpy

    with numpy.errstate(all="ignore"):
        numbers = [_numpy_scalar(operand) for operand in operands]
        result = numpy.asarray(op.evaluate(*numbers, **attributes)).item()
    type = operands[0].type if op is not Compare else _truth_type(operands[0])
    return known(result, type)


def _truth_type(operand: Tensor) -> Type:
    return with_element(operand.type, i1)


def _numpy_scalar(operand: Tensor) -> Any:
    return operand.number.numpy.type(operand.known)


@contextmanager
def inside(region: Region) -> Iterator[Region]:
    """Build at the end of `region`."""
    with builder().inside(region.block):
        yield region
