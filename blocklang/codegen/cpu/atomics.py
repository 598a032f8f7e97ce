"""Atomics: one update for each element whose mask holds, one after the other.

Floats that no instruction updates are updated by comparing and exchanging their bits; the sum in
between is an op of the IR, expanded for the target like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from blocklang.codegen.errors import AtomicNotOnTarget
from blocklang.codegen.lower import is_native, lowers
from blocklang.ir.builder import Builder
from blocklang.ir.core import Function, Module
from blocklang.ir.op import Op
from blocklang.ir.ops.control import Return
from blocklang.ir.ops.elementwise import Add
from blocklang.ir.ops.memory import AtomicRMW
from blocklang.ir.passes.expand_math import ExpandMath
from blocklang.ir.types import DType, Type, element_type, i1

from .emitter import CpuEmitter, Lanes, uniform
from .memory import EVERYWHERE

_ORDERS = {"relaxed": "monotonic", "acquire": "acquire", "release": "release", "acq_rel": "acq_rel"}


@lowers(AtomicRMW, on=("cpu",))
def _(e: CpuEmitter, op: AtomicRMW) -> str:
    return atomic(e, op).text


def atomic(e: CpuEmitter, op: AtomicRMW) -> Lanes:
    """The updates of one chunk; the elements are the old values."""
    kind = element_type(op.accessed)
    if not isinstance(kind, DType) or kind.is_bool or kind.is_float8:
        raise AtomicNotOnTarget(
            op.loc,
            operation=f"atomic {op.kind}",
            dtype=kind,
            target="CPUs",
            instead="use an integer type, or a float of 16 bits or more",
        )
    pointer, value = e.evaluate(op.pointer, e.place), e.evaluate(op.value, e.place)
    mask = EVERYWHERE if op.mask is None else e.evaluate(op.mask, e.place)
    if not e.place:
        update = partial(_update, e, op, kind, pointer.text, value.text)
        return uniform(_update_if(e, kind, mask.text, update))
    results = e.slot(e.vector_type(kind))
    e.line(f"store {e.vector_type(kind)} zeroinitializer, ptr {results}")
    addresses, operands = e.vector(pointer, op.pointer.type), e.vector(value, kind)
    masks = e.vector(mask, i1)
    with e.loop("0", str(e.width), 1) as lane, e.when(_extract(e, masks, i1, lane)):
        address = _extract(e, addresses, op.pointer.type, lane)
        old = _update(e, op, kind, address, _extract(e, operands, kind, lane))
        place = e.emit(f"getelementptr {e.scalar_type(kind)}, ptr {results}, i64 {lane}")
        e.line(f"store {e.scalar_type(kind)} {old}, ptr {place}")
    return Lanes(e.emit(f"load {e.vector_type(kind)}, ptr {results}"))


def _extract(e: CpuEmitter, vector: str, type: Type, lane: str) -> str:
    return e.emit(f"extractelement {e.vector_type(type)} {vector}, i64 {lane}")


def _update(e: CpuEmitter, op: AtomicRMW, kind: DType, address: str, value: str) -> str:
    """One update; the old value."""
    order = _ORDERS[op.semantics]
    if kind.is_float and kind.bits == 16:
        return _exchange(e, op, kind, address, value)
    word = "fadd" if kind.is_float else "add"
    scalar = e.scalar_type(kind)
    return e.emit(f"atomicrmw {word} ptr {address}, {scalar} {value} {order}, align {kind.bytes}")


def _exchange(e: CpuEmitter, op: AtomicRMW, kind: DType, address: str, value: str) -> str:
    scalar, bits = e.scalar_type(kind), f"i{kind.bits}"
    seen = e.slot(bits)
    first = e.emit(f"load atomic {bits}, ptr {address} monotonic, align {kind.bytes}")
    e.line(f"store {bits} {first}, ptr {seen}")
    again, done = e.new_label("again"), e.new_label("done")
    e.jump(again)
    expected = e.emit(f"load {bits}, ptr {seen}")
    old = e.emit(f"bitcast {bits} {expected} to {scalar}")
    new = e.emit(f"bitcast {scalar} {_sum(e, op, kind, old, value)} to {bits}")
    orders = f"{_ORDERS[op.semantics]} monotonic, align {kind.bytes}"
    pair = e.emit(f"cmpxchg ptr {address}, {bits} {expected}, {bits} {new} {orders}")
    found = e.emit(f"extractvalue {{ {bits}, i1 }} {pair}, 0")
    e.line(f"store {bits} {found}, ptr {seen}")
    has_exchanged = e.emit(f"extractvalue {{ {bits}, i1 }} {pair}, 1")
    e.line(f"br i1 {has_exchanged}, label %{done}, label %{again}")
    e.label(done)
    return old


def _sum(e: CpuEmitter, op: AtomicRMW, kind: DType, left: str, right: str) -> str:
    """The sum of two scalars, by whatever the target has for it."""
    module = Module()
    function = module.add(Function("sum", op.loc, is_kernel=False))
    operands = [function.block.add_argument(kind, op.loc) for _ in range(2)]
    builder = Builder(function.block, loc=op.loc)
    total = builder.insert(Add(*operands, loc=op.loc)).result
    builder.insert(Return((total,), loc=op.loc))
    function.result_types = (kind,)
    ExpandMath(partial(is_native, e.target))(module)
    e.names.update(zip(operands, (left, right), strict=True))
    *ops, last = function.block.ops
    for inner in ops:
        assert isinstance(inner, Op)
        e.scalar_op(inner)
    return e[last.operands[0]]


def _update_if(e: CpuEmitter, kind: DType, mask: str, update: Callable[[], str]) -> str:
    if mask == "true":
        return update()
    before = e.block_label
    with e.when(mask):
        old = update()
        inside = e.block_label
    zero = e.constant(0.0 if kind.is_float else 0, kind)
    return e.emit(f"phi {e.scalar_type(kind)} [ {old}, %{inside} ], [ {zero}, %{before} ]")
