"""Loads, stores and atomics on global memory: vectors of up to 16 bytes, each under one predicate.

Accesses without predicate and cache options are LLVM instructions; all others are inline PTX,
because only that is predicated without branches. Of replicated elements, the owner alone stores.
Scalars are loaded by all threads and stored by one.
"""

from __future__ import annotations

from blocklang.codegen.emit import Emitter
from blocklang.codegen.errors import AtomicNotOnTarget
from blocklang.codegen.lower import lowers
from blocklang.ir.ops.memory import AtomicRMW, Load, Store
from blocklang.ir.types import DType, PointerType, Type, element_type

from .elements import element
from .emitter import NvptxEmitter


def storage_type(e: Emitter, type: Type) -> str:
    """The LLVM type of an element in memory: masks are bytes, pointers are integers."""
    element = element_type(type)
    if isinstance(element, PointerType):
        return "i64"
    return "i8" if element.is_bool else e.scalar_type(element)


def to_storage(e: NvptxEmitter, value: str, type: Type) -> str:
    """A value in its form in memory."""
    return _change(e, value, type, to_memory=True)


def from_storage(e: NvptxEmitter, value: str, type: Type) -> str:
    """A value from its form in memory."""
    return _change(e, value, type, to_memory=False)


def _change(e: NvptxEmitter, value: str, type: Type, to_memory: bool) -> str:
    stored, own = storage_type(e, type), e.scalar_type(type)
    if stored == own:
        return value
    lanes = e.lanes(type)
    memory = stored if lanes is None else f"<{lanes} x {stored}>"
    if isinstance(element_type(type), PointerType):
        source, target = (e.type(type), memory) if to_memory else (memory, e.type(type))
        return e.emit(f"{'ptrtoint' if to_memory else 'inttoptr'} {source} {value} to {target}")
    if to_memory:
        return e.emit(f"zext {e.type(type)} {value} to {memory}")
    return e.emit(
        f"icmp ne {memory} {value}, zeroinitializer" if lanes else f"icmp ne i8 {value}, 0"
    )


class Words:
    """A vector of `count` elements of LLVM type `scalar` as the registers of one PTX access."""

    def __init__(self, scalar: str, bits: int, count: int) -> None:
        self.scalar, self.count = scalar, count
        total = bits * count
        self.word_bits = 32 if total >= 32 else 16
        self.memory_bits = min(total, 32)
        self.words = max(1, total // 32)
        self.element_bits = bits

    @property
    def suffix(self) -> str:
        """`.v4.b32`, `.b16`, ..."""
        return (f".v{self.words}" if self.words > 1 else "") + f".b{self.memory_bits}"

    @property
    def constraint(self) -> str:
        """The constraint letter of one register."""
        return "r" if self.word_bits == 32 else "h"

    def split(self, e: NvptxEmitter, vector: str) -> list[str]:
        """The words of a vector."""
        kind = f"<{self.count} x {self.scalar}>"
        if self.memory_bits == 8:
            byte = e.emit(f"bitcast {kind} {vector} to i8")
            return [e.emit(f"zext i8 {byte} to i16")]
        packed = f"<{self.words} x i{self.word_bits}>"
        words = e.emit(f"bitcast {kind} {vector} to {packed}") if kind != packed else vector
        return [e.extract(words, packed, i) for i in range(self.words)]

    def join(self, e: NvptxEmitter, words: list[str]) -> str:
        """The vector of the words."""
        kind = f"<{self.count} x {self.scalar}>"
        if self.memory_bits == 8:
            byte = e.emit(f"trunc i16 {words[0]} to i8")
            return e.emit(f"bitcast i8 {byte} to {kind}")
        packed = f"<{self.words} x i{self.word_bits}>"
        vector = e.build_vector(words, f"i{self.word_bits}")
        return e.emit(f"bitcast {packed} {vector} to {kind}") if kind != packed else vector


def value_piece(e: NvptxEmitter, value: str, type: Type, start: int, size: int) -> str:
    """Registers start .. start + size of a value in memory form, as a vector even if it is a
    scalar.
    """
    scalar, lanes = storage_type(e, type), e.lanes(type)
    if lanes is None:
        return e.build_vector([value], scalar)
    return e.piece(value, scalar, lanes, start, size)


@lowers(Load, on=("nvptx",))
def _(e: NvptxEmitter, op: Load) -> str:
    lanes = e.lanes(op.pointer.type) or 1
    other = None if op.other is None else to_storage(e, e[op.other], op.other.type)
    scalar = storage_type(e, op.accessed)
    bits = 8 * element_type(op.accessed).bytes
    words = Words(scalar, bits, op.vector)
    pieces = []
    for start in range(0, lanes, op.vector):
        pointer = element(e, op.pointer, start)
        mask = None if op.mask is None else element(e, op.mask, start)
        if mask is None and not _load_options(op):
            kind = f"<{op.vector} x {scalar}>"
            align = bits // 8 * op.vector
            pieces.append(e.emit(f"load {kind}, ptr addrspace(1) {pointer}, align {align}"))
        else:
            before = None if other is None else value_piece(e, other, op.accessed, start, op.vector)
            pieces.append(_load(e, op, words, pointer, mask, before))
    if e.lanes(op.pointer.type) is None:
        return from_storage(e, e.extract(pieces[0], f"<1 x {scalar}>", 0), op.accessed)
    return from_storage(e, e.concatenate(pieces, scalar, op.vector), op.accessed)


def _load_options(op: Load) -> str:
    if op.volatile:
        return ".volatile"
    if op.cache:
        return f".{op.cache}"
    return f".L1::{op.eviction}" if op.eviction else ""


def _load(
    e: NvptxEmitter, op: Load, words: Words, pointer: str, mask: str | None, other: str | None
) -> str:
    """One predicated access; registers hold `other` before, so that nothing has to be chosen
    after.
    """
    count, letter = words.words, words.constraint
    outputs = [f"${i}" for i in range(count)]
    options = _load_options(op)
    space = f"{options}.global" if options == ".volatile" else f".global{options}"
    target = "{" + ", ".join(outputs) + "}" if count > 1 else outputs[0]
    access = f"ld{space}{words.suffix} {target}, [${count}];"
    operands, constraints = [f"ptr addrspace(1) {pointer}"], [*[f"={letter}"] * count, "l"]
    if mask is not None:
        access = f"@${count + 1} {access}"
        operands.append(f"i1 {mask}")
        constraints.append("b")
        before = words.split(e, other) if other is not None else ["0"] * count
        for index, word in enumerate(before):
            access = f"mov.b{words.word_bits} ${index}, ${count + 2 + index}; {access}"
            operands.append(f"i{words.word_bits} {word}")
            constraints.append(letter)
        # Early clobber: the outputs are written before the address is read.
        constraints[:count] = [f"=&{letter}"] * count
    word = f"i{words.word_bits}"
    result_type = word if count == 1 else "{" + ", ".join([word] * count) + "}"
    text = f'asm sideeffect "{access}", "{",".join(constraints)},~{{memory}}"'
    result = e.emit(f"call {result_type} {text}({', '.join(operands)})")
    if count == 1:
        return words.join(e, [result])
    return words.join(
        e, [e.emit(f"extractvalue {result_type} {result}, {i}") for i in range(count)]
    )


@lowers(Store, on=("nvptx",))
def _(e: NvptxEmitter, op: Store) -> None:
    lanes = e.lanes(op.pointer.type) or 1
    value = to_storage(e, e[op.value], op.value.type)
    owner = e.owner(op.pointer.type)
    scalar = storage_type(e, op.accessed)
    bits = 8 * element_type(op.accessed).bytes
    words = Words(scalar, bits, op.vector)
    options = f".{op.cache}" if op.cache else f".L1::{op.eviction}" if op.eviction else ""
    for start in range(0, lanes, op.vector):
        pointer = element(e, op.pointer, start)
        mask = None if op.mask is None else element(e, op.mask, start)
        predicate = e.both(owner, mask)
        piece = value_piece(e, value, op.value.type, start, op.vector)
        if predicate is None and not options:
            align = bits // 8 * op.vector
            e.line(
                f"store <{op.vector} x {scalar}> {piece}, ptr addrspace(1) {pointer}, align {align}"
            )
        else:
            store_words(
                e,
                words,
                f"st.global{options}",
                ("ptr addrspace(1)", "l"),
                pointer,
                piece,
                predicate,
            )


def store_words(
    e: NvptxEmitter,
    words: Words,
    opcode: str,
    address: tuple[str, str],
    pointer: str,
    piece: str,
    predicate: str | None,
) -> None:
    """One store by inline PTX; `address` is the LLVM type and the constraint of the pointer."""
    sources = words.split(e, piece)
    names = [f"${i + 1}" for i in range(len(sources))]
    source = "{" + ", ".join(names) + "}" if len(names) > 1 else names[0]
    access = f"{opcode}{words.suffix} [$0], {source};"
    operands = [f"{address[0]} {pointer}", *[f"i{words.word_bits} {s}" for s in sources]]
    constraints = [address[1], *[words.constraint] * len(sources)]
    if predicate is not None:
        access = f"@${len(sources) + 1} {access}"
        operands.append(f"i1 {predicate}")
        constraints.append("b")
    text = f'asm sideeffect "{access}", "{",".join(constraints)},~{{memory}}"'
    e.line(f"call void {text}({', '.join(operands)})")


_ATOMIC_TYPES = {
    "i32": ("s32", "r", 0), "u32": ("u32", "r", 0), "i64": ("u64", "l", 0), "u64": ("u64", "l", 0),
    "f32": ("f32", "f", 0), "f64": ("f64", "d", 0),
    "f16": ("noftz.f16", "h", 70), "bf16": ("noftz.bf16", "h", 90),
}  # fmt: skip


@lowers(AtomicRMW, on=("nvptx",))
def _(e: NvptxEmitter, op: AtomicRMW) -> str:
    kind = element_type(op.accessed)
    assert isinstance(kind, DType)
    suffix, letter, capability = _ATOMIC_TYPES.get(kind.name, ("", "", 1000))
    if e.target.capability < capability:
        raise AtomicNotOnTarget(
            operation=f"atomic_{op.kind}",
            dtype=kind,
            target=e.target.name,
            instead="accumulate in float32 or int32",
        )
    lanes = e.lanes(op.pointer.type)
    owner = e.owner(op.pointer.type)
    results = []
    for register in range(lanes or 1):
        mask = None if op.mask is None else element(e, op.mask, register)
        predicate = e.both(owner, mask)
        pointer = element(e, op.pointer, register)
        value = element(e, op.value, register)
        results.append(_atomic(e, op, (suffix, letter), pointer, value, predicate))
    return results[0] if lanes is None else e.build_vector(results, e.scalar_type(op.accessed))


def _atomic(
    e: NvptxEmitter,
    op: AtomicRMW,
    form: tuple[str, str],
    pointer: str,
    value: str,
    predicate: str | None,
) -> str:
    suffix, letter = form
    own = e.scalar_type(op.accessed)
    # Inline PTX has no half or bfloat operands: they travel as their bits.
    carrier = "i16" if letter == "h" else own
    sent = value if carrier == own else e.emit(f"bitcast {own} {value} to {carrier}")
    access = f"atom.{op.semantics}.{op.scope}.global.{op.kind}.{suffix} $0, [$1], $2;"
    operands, constraints = (
        [f"ptr addrspace(1) {pointer}", f"{carrier} {sent}"],
        [f"=&{letter}", "l", letter],
    )
    if predicate is not None:
        access = f"@$3 {access}"
        operands.append(f"i1 {predicate}")
        constraints.append("b")
    text = f'asm sideeffect "{access}", "{",".join(constraints)},~{{memory}}"'
    result = e.emit(f"call {carrier} {text}({', '.join(operands)})")
    return result if carrier == own else e.emit(f"bitcast {carrier} {result} to {own}")
