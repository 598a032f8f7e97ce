"""Memory: loads and stores of one chunk, in global memory and in buffers.

Adjacent elements are one vector access, also where only the run shows that they are adjacent;
whatever else is a gather or scatter, or one access for a chunk whose addresses are all equal.
Nothing is read or written where the mask fails. Addresses need no alignment.
"""

from __future__ import annotations

from blocklang.codegen.emit import overload
from blocklang.codegen.lower import lowers
from blocklang.ir.ops.memory import Load, Store
from blocklang.ir.types import PointerType, Type, element_type, i1

from .emitter import CpuEmitter, Lanes, uniform
from .places import ZERO, Place
from .plan import Buffer

_WORTH_A_CHECK = 4
"""Fewer elements are gathered without asking whether they are adjacent."""
EVERYWHERE = uniform("true")
"""The mask of an access without one."""


@lowers(Load, on=("cpu",))
def _(e: CpuEmitter, op: Load) -> Lanes | str:
    pointer = e.evaluate(op.pointer, e.place)
    mask = EVERYWHERE if op.mask is None else e.evaluate(op.mask, e.place)
    other = None if op.other is None else e.evaluate(op.other, e.place)
    lanes = load(e, op.accessed, pointer, mask, other, op.volatile)
    # Scalar ops are lowered by the shared emitter, which knows names only.
    return lanes if e.place else lanes.text


@lowers(Store, on=("cpu",))
def _(e: CpuEmitter, op: Store) -> None:
    mask = EVERYWHERE if op.mask is None else e.evaluate(op.mask, e.place)
    value = e.evaluate(op.value, e.place)
    store(e, op.accessed, e.evaluate(op.pointer, e.place), mask, value)


def load_buffer(e: CpuEmitter, buffer: Buffer, type: Type, place: Place) -> Lanes:
    """The elements of a block of `type`, which is stored in `buffer`, at `place`."""
    return load(e, type, buffer_pointer(e, buffer, type, place), EVERYWHERE, None)


def store_buffer(e: CpuEmitter, buffer: Buffer, type: Type, place: Place, value: Lanes) -> None:
    """Keep the elements of a block of `type` at `place` in `buffer`."""
    store(e, type, buffer_pointer(e, buffer, type, place), EVERYWHERE, value)


def buffer_pointer(e: CpuEmitter, buffer: Buffer, type: Type, place: Place) -> Lanes:
    """The addresses of the elements at `place`."""
    offset, stride = "0", 0
    for size, index in zip(reversed(buffer.strides), reversed(place), strict=True):
        if index is not ZERO:
            scaled = index.base if size == 1 else e.emit(f"mul nuw nsw i64 {index.base}, {size}")
            offset = scaled if offset == "0" else e.emit(f"add nuw nsw i64 {offset}, {scaled}")
            stride += index.step * size
    base = e.address(buffer)
    return Lanes(e.emit(f"getelementptr {e.memory_type(type)}, ptr {base}, i64 {offset}"), stride)


# ---------------------------------------------------------------- accesses


def load(
    e: CpuEmitter,
    type: Type,
    pointer: Lanes,
    mask: Lanes,
    other: Lanes | None,
    volatile: bool = False,
) -> Lanes:
    """Elements of `type` at the addresses `pointer` where the mask holds, `other` elsewhere."""
    word = "load volatile" if volatile else "load"
    if mask.is_uniform and mask.text != "true":
        return _load_if(e, type, pointer, mask.text, other, word)
    kind = e.memory_type(type)
    if mask.is_uniform and pointer.is_uniform:
        found = e.emit(f"{word} {kind}, ptr {pointer.text}, align 1")
        return uniform(_from_memory(e, found, kind, type))
    vector = f"<{e.width} x {kind}>"
    if mask.is_uniform and pointer.stride == 1:
        found = e.emit(f"{word} {vector}, ptr {pointer.text}, align 1")
        return Lanes(_from_memory(e, found, vector, type))
    if other is None:
        rest = "zeroinitializer"
    else:
        rest = _to_memory(e, e.vector(other, type), vector, type)
    masks = f"<{e.width} x i1> {e.vector(mask, i1)}"
    suffix = overload(kind, e.width)
    at_once = f"call {vector} @llvm.masked.load.{suffix}.p0(ptr align 1 "
    if pointer.stride == 1:
        found = e.emit(f"{at_once}{pointer.text}, {masks}, {vector} {rest})")
        return Lanes(_from_memory(e, found, vector, type))
    pointers = f"<{e.width} x ptr>"
    addresses = e.vector(pointer, PointerType(element_type(type)))
    one_by_one = (
        f"call {vector} @llvm.masked.gather.{suffix}.v{e.width}p0"
        f"({pointers} align 1 {addresses}, {masks}, {vector} {rest})"
    )
    if pointer.stride is not None or e.width < _WORTH_A_CHECK:
        return Lanes(_from_memory(e, e.emit(one_by_one), vector, type))
    first = e.emit(f"extractelement {pointers} {addresses}, i32 0")
    adjacent = _are_adjacent(e, addresses, first, kind)
    found = e.choose(
        adjacent,
        lambda: e.emit(f"{at_once}{first}, {masks}, {vector} {rest})"),
        lambda: e.emit(one_by_one),
        vector,
    )
    return Lanes(_from_memory(e, found, vector, type))


def _are_adjacent(e: CpuEmitter, addresses: str, first: str, kind: str) -> str:
    """Whether addresses that nothing is known of are those from `first` on: an index modulo a size
    seldom turns around.
    """
    steps = ", ".join(f"i64 {i}" for i in range(e.width))
    expected = e.emit(f"getelementptr {kind}, ptr {first}, <{e.width} x i64> <{steps}>")
    equal = e.emit(f"icmp eq <{e.width} x ptr> {addresses}, {expected}")
    return e.emit(f"call i1 @llvm.vector.reduce.and.v{e.width}i1(<{e.width} x i1> {equal})")


def _load_if(
    e: CpuEmitter, type: Type, pointer: Lanes, condition: str, other: Lanes | None, word: str
) -> Lanes:
    before = e.block_label
    is_uniform = pointer.is_uniform and (other is None or other.is_uniform)
    if is_uniform:
        kind, rest = e.scalar_type(type), "zeroinitializer" if other is None else other.text
    else:
        kind = e.vector_type(type)
        rest = "zeroinitializer" if other is None else e.vector(other, type)
    with e.when(condition):
        found = load(e, type, pointer, EVERYWHERE, None, word != "load")
        text = found.text if is_uniform else e.vector(found, type)
        inside = e.block_label
    result = e.emit(f"phi {kind} [ {text}, %{inside} ], [ {rest}, %{before} ]")
    return Lanes(result, 0 if is_uniform else None)


def store(e: CpuEmitter, type: Type, pointer: Lanes, mask: Lanes, value: Lanes) -> None:
    """Write elements of `type` where the mask holds."""
    if mask.is_uniform and mask.text != "true":
        # Texts that are made inside must not be taken for known outside.
        if value.stride != 0 or pointer.stride != 0:
            value = Lanes(e.vector(value, type))
        with e.when(mask.text):
            store(e, type, pointer, EVERYWHERE, value)
        return
    kind = e.memory_type(type)
    if mask.is_uniform and pointer.is_uniform and value.is_uniform:
        text = _to_memory(e, value.text, kind, type)
        e.line(f"store {kind} {text}, ptr {pointer.text}, align 1")
        return
    vector = f"<{e.width} x {kind}>"
    text = _to_memory(e, e.vector(value, type), vector, type)
    if mask.is_uniform and pointer.stride == 1:
        e.line(f"store {vector} {text}, ptr {pointer.text}, align 1")
        return
    masks = f"<{e.width} x i1> {e.vector(mask, i1)}"
    suffix = overload(kind, e.width)
    if pointer.stride == 1:
        where = f"ptr align 1 {pointer.text}"
        e.line(f"call void @llvm.masked.store.{suffix}.p0({vector} {text}, {where}, {masks})")
        return
    where = f"<{e.width} x ptr> align 1 {e.vector(pointer, PointerType(element_type(type)))}"
    name = f"@llvm.masked.scatter.{suffix}.v{e.width}p0"
    e.line(f"call void {name}({vector} {text}, {where}, {masks})")


def _from_memory(e: CpuEmitter, text: str, kind: str, type: Type) -> str:
    own = e.scalar_type(type)
    if e.memory_type(type) == own:
        return text
    if own == "i1":
        return e.emit(f"icmp ne {kind} {text}, zeroinitializer")
    return e.emit(f"bitcast {kind} {text} to {_like(kind, own, e)}")


def _like(kind: str, scalar: str, e: CpuEmitter) -> str:
    """`scalar`, or the vector of it if `kind` is a vector."""
    return f"<{e.width} x {scalar}>" if kind.startswith("<") else scalar


def _to_memory(e: CpuEmitter, text: str, kind: str, type: Type) -> str:
    own = e.scalar_type(type)
    if e.memory_type(type) == own:
        return text
    word = "zext" if own == "i1" else "bitcast"
    return e.emit(f"{word} {_like(kind, own, e)} {text} to {kind}")
