"""Elementwise ops in LLVM IR, for both back ends: one instruction or intrinsic on the whole vector.

Where only one back end has an instruction (`ex2.approx`), `on` and `dtypes` say so; `expand-math`
rewrites the rest before. Floating point: adds, subtractions and multiplications may be fused
(`contract`) unless `fp_fusion=False`; division and square root on GPUs are the fast full-range
forms (2 and 1 ulp) unless the op asks for `precise`; exp2 there flushes subnormals to zero. Nothing
else of fast-math is ever used.
"""

from __future__ import annotations

from blocklang.ir.ops.elementwise import (
    Absolute,
    Add,
    AddPointer,
    And,
    Binary,
    Bitcast,
    Cast,
    Ceil,
    Compare,
    Divide,
    Exp2,
    Floor,
    FusedMultiplyAdd,
    Log2,
    Maximum,
    Minimum,
    Multiply,
    Negate,
    Not,
    Or,
    Remainder,
    Rsqrt,
    Select,
    ShiftLeft,
    ShiftRight,
    Sqrt,
    Subtract,
    Unary,
    Xor,
)
from blocklang.ir.ops.program import Constant, Hint, Splat
from blocklang.ir.types import DType, PointerType, Type, element_type, f32, i32, with_element

from .emit import Emitter
from .lower import lowers

INTEGERS = ("i1", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
WIDE = ("f32", "f64")
NUMBERS = (*INTEGERS, *WIDE)


def element(type: Type) -> DType:
    """The dtype of a number or of a block of numbers."""
    kind = element_type(type)
    assert isinstance(kind, DType)
    return kind


def arithmetic(e: Emitter, op: Binary, integer: str, floating: str) -> str:
    """The instruction of that name for integers or floats on both operands."""
    if element(op.left.type).is_float:
        opcode = f"{floating} contract" if e.contract else floating
    else:
        opcode = integer
    return e.emit(f"{opcode} {e.type(op.left.type)} {e[op.left]}, {e[op.right]}")


@lowers(Constant)
def _(e: Emitter, op: Constant) -> str:
    return e.constant(op.value, op.results[0].type)


@lowers(Splat)
def _(e: Emitter, op: Splat) -> str:
    return e.splat(e[op.value], op.results[0].type)


@lowers(Hint)
def _(e: Emitter, op: Hint) -> str:
    return e[op.value]


@lowers(Add, dtypes=NUMBERS)
@lowers(Add, on=("nvptx",), dtypes=("f16", "bf16"), capability=90)
def _(e: Emitter, op: Add) -> str:
    return arithmetic(e, op, "add", "fadd")


@lowers(Subtract, dtypes=NUMBERS)
@lowers(Subtract, on=("nvptx",), dtypes=("f16", "bf16"), capability=90)
def _(e: Emitter, op: Subtract) -> str:
    return arithmetic(e, op, "sub", "fsub")


@lowers(Multiply, dtypes=NUMBERS)
@lowers(Multiply, on=("nvptx",), dtypes=("f16", "bf16"), capability=90)
def _(e: Emitter, op: Multiply) -> str:
    return arithmetic(e, op, "mul", "fmul")


@lowers(Divide, dtypes=WIDE)
@lowers(Divide, on=("nvptx",), dtypes=INTEGERS)
def _(e: Emitter, op: Divide) -> str:
    kind = element(op.left.type)
    if kind.name == "f32" and e.target.backend == "nvptx" and not op.precise:
        return e.for_each_element(
            op.left.type,
            [e[op.left], e[op.right]],
            lambda x, y: e.emit(f"call float @llvm.nvvm.div.full(float {x}, float {y})"),
        )
    opcode = "fdiv" if kind.is_float else "sdiv" if kind.is_signed else "udiv"
    return e.emit(f"{opcode} {e.type(op.left.type)} {e[op.left]}, {e[op.right]}")


@lowers(Remainder, on=("nvptx",), dtypes=INTEGERS)
def _(e: Emitter, op: Remainder) -> str:
    opcode = "srem" if element(op.left.type).is_signed else "urem"
    return e.emit(f"{opcode} {e.type(op.left.type)} {e[op.left]}, {e[op.right]}")


@lowers(Negate, dtypes=NUMBERS)
@lowers(Negate, on=("nvptx",), dtypes=("f16", "bf16"))
def _(e: Emitter, op: Negate) -> str:
    kind = e.type(op.operand.type)
    if element(op.operand.type).is_float:
        return e.emit(f"fneg {kind} {e[op.operand]}")
    return e.emit(f"sub {kind} {e.constant(0, op.operand.type)}, {e[op.operand]}")


@lowers(Absolute, dtypes=NUMBERS)
@lowers(Absolute, on=("nvptx",), dtypes=("f16", "bf16"))
def _(e: Emitter, op: Absolute) -> str:
    kind = element(op.operand.type)
    if kind.is_float:
        return e.intrinsic("llvm.fabs", op.operand.type, e[op.operand])
    if not kind.is_signed:
        return e[op.operand]
    vector = e.type(op.operand.type)
    zero = e.constant(0, op.operand.type)
    negated = e.emit(f"sub {vector} {zero}, {e[op.operand]}")
    return e.intrinsic("llvm.smax", op.operand.type, e[op.operand], negated)


def extremum(e: Emitter, op: Minimum | Maximum, word: str) -> str:
    """min or max: NaN-dropping or NaN-propagating on floats, signed or unsigned on integers."""
    kind = element(op.left.type)
    if kind.is_float:
        name = f"llvm.{word}imum" if op.propagate_nan else f"llvm.{word}num"
    else:
        name = f"llvm.{'s' if kind.is_signed else 'u'}{word}"
    return e.intrinsic(name, op.left.type, e[op.left], e[op.right])


@lowers(Minimum, dtypes=NUMBERS)
@lowers(Minimum, on=("nvptx",), dtypes=("f16", "bf16"), capability=80)
def _(e: Emitter, op: Minimum) -> str:
    return extremum(e, op, "min")


@lowers(Maximum, dtypes=NUMBERS)
@lowers(Maximum, on=("nvptx",), dtypes=("f16", "bf16"), capability=80)
def _(e: Emitter, op: Maximum) -> str:
    return extremum(e, op, "max")


@lowers(FusedMultiplyAdd, dtypes=WIDE)
@lowers(FusedMultiplyAdd, on=("nvptx",), dtypes=("f16", "bf16"), capability=80)
def _(e: Emitter, op: FusedMultiplyAdd) -> str:
    return e.intrinsic("llvm.fma", op.x.type, e[op.x], e[op.y], e[op.z])


@lowers(And)
def _(e: Emitter, op: And) -> str:
    return e.emit(f"and {e.type(op.left.type)} {e[op.left]}, {e[op.right]}")


@lowers(Or)
def _(e: Emitter, op: Or) -> str:
    return e.emit(f"or {e.type(op.left.type)} {e[op.left]}, {e[op.right]}")


@lowers(Xor)
def _(e: Emitter, op: Xor) -> str:
    return e.emit(f"xor {e.type(op.left.type)} {e[op.left]}, {e[op.right]}")


@lowers(Not)
def _(e: Emitter, op: Not) -> str:
    kind = element(op.operand.type)
    ones = e.constant(-1 if kind.is_signed else kind.maximum, op.operand.type)
    return e.emit(f"xor {e.type(op.operand.type)} {e[op.operand]}, {ones}")


@lowers(ShiftLeft)
def _(e: Emitter, op: ShiftLeft) -> str:
    return e.emit(f"shl {e.type(op.left.type)} {e[op.left]}, {e[op.right]}")


@lowers(ShiftRight)
def _(e: Emitter, op: ShiftRight) -> str:
    opcode = "ashr" if element(op.left.type).is_signed else "lshr"
    return e.emit(f"{opcode} {e.type(op.left.type)} {e[op.left]}, {e[op.right]}")


@lowers(Compare, dtypes=NUMBERS)
@lowers(Compare, on=("nvptx",), dtypes=("f16", "bf16"), capability=90)
def _(e: Emitter, op: Compare) -> str:
    kind = element_type(op.left.type)
    if isinstance(kind, DType) and kind.is_float:
        opcode = "fcmp " + ("une" if op.predicate == "ne" else f"o{op.predicate}")
    else:
        ordered = op.predicate not in ("eq", "ne")
        signed = isinstance(kind, DType) and kind.is_signed
        opcode = "icmp " + (("s" if signed else "u") if ordered else "") + op.predicate
    return e.emit(f"{opcode} {e.type(op.left.type)} {e[op.left]}, {e[op.right]}")


@lowers(Select)
def _(e: Emitter, op: Select) -> str:
    condition, kind = e.type(op.condition.type), e.type(op.then.type)
    return e.emit(
        f"select {condition} {e[op.condition]}, {kind} {e[op.then]}, {kind} {e[op.otherwise]}"
    )


@lowers(Cast, dtypes=NUMBERS)
@lowers(Cast, dtypes=("f16",), feature="has_float16")
@lowers(Cast, on=("nvptx",), dtypes=("bf16",), capability=80)
def _(e: Emitter, op: Cast) -> str:
    source, target = element(op.operand.type), element(op.results[0].type)
    value, source_type, target_type = (
        e[op.operand],
        e.type(op.operand.type),
        e.type(op.results[0].type),
    )
    if target.is_bool:
        opcode = "fcmp une" if source.is_float else "icmp ne"
        zero = e.constant(0.0 if source.is_float else 0, op.operand.type)
        return e.emit(f"{opcode} {source_type} {value}, {zero}")
    if source.is_float and target.is_integer:
        return _float_to_integer(e, op, source, target)
    if source.is_float:
        if source.bits == target.bits:
            # LLVM has no instruction between half and bfloat; every one of both is a float.
            wide = e.type(with_element(op.operand.type, f32))
            value = e.emit(f"fpext {source_type} {value} to {wide}")
            return e.emit(f"fptrunc {wide} {value} to {target_type}")
        opcode = "fptrunc" if target.bits < source.bits else "fpext"
    elif target.is_float:
        opcode = "sitofp" if source.is_signed else "uitofp"
    elif target.bits == source.bits:
        return value
    else:
        opcode = "trunc" if target.bits < source.bits else "sext" if source.is_signed else "zext"
    return e.emit(f"{opcode} {source_type} {value} to {target_type}")


def _float_to_integer(e: Emitter, op: Cast, source: DType, target: DType) -> str:
    # Narrow integers go through i32, as hardware does: what fits i32 keeps its low bits.
    wide = with_element(op.operand.type, i32) if target.bits < 32 else op.results[0].type
    opcode = "fptosi" if target.bits < 32 or target.is_signed else "fptoui"
    value = e.emit(f"{opcode} {e.type(op.operand.type)} {e[op.operand]} to {e.type(wide)}")
    return (
        value
        if target.bits >= 32
        else e.emit(f"trunc {e.type(wide)} {value} to {e.type(op.results[0].type)}")
    )


@lowers(Bitcast)
def _(e: Emitter, op: Bitcast) -> str:
    source, target = e.type(op.operand.type), e.type(op.results[0].type)
    if source == target:
        return e[op.operand]
    from_pointer = isinstance(element_type(op.operand.type), PointerType)
    to_pointer = isinstance(element_type(op.results[0].type), PointerType)
    opcode = "ptrtoint" if from_pointer else "inttoptr" if to_pointer else "bitcast"
    return e.emit(f"{opcode} {source} {e[op.operand]} to {target}")


@lowers(AddPointer)
def _(e: Emitter, op: AddPointer) -> str:
    pointer = element_type(op.pointer.type)
    assert isinstance(pointer, PointerType)
    # Memory keeps an i1 in a byte.
    size = "i8" if pointer.element.bits == 1 else e.scalar_type(pointer.element)
    offset, kind = e[op.offset], element(op.offset.type)
    if not kind.is_signed and kind.bits < 64:
        wide = e.type(op.offset.type).replace(f"i{kind.bits}", "i64")
        offset = e.emit(f"zext {e.type(op.offset.type)} {offset} to {wide}")
        return e.emit(
            f"getelementptr {size}, {e.type(op.pointer.type)} {e[op.pointer]}, {wide} {offset}"
        )
    base = f"{e.type(op.pointer.type)} {e[op.pointer]}"
    return e.emit(f"getelementptr {size}, {base}, {e.type(op.offset.type)} {offset}")


def per_element(e: Emitter, op: Unary, name: str) -> str:
    """A scalar NVPTX intrinsic on each element."""
    kind = e.scalar_type(op.operand.type)
    return e.for_each_element(
        op.operand.type, [e[op.operand]], lambda x: e.emit(f"call {kind} @{name}({kind} {x})")
    )


@lowers(Exp2, on=("nvptx",), dtypes=("f32",))
def _(e: Emitter, op: Exp2) -> str:
    return per_element(e, op, "llvm.nvvm.ex2.approx.ftz.f32")


@lowers(Log2, on=("nvptx",), dtypes=("f32",))
def _(e: Emitter, op: Log2) -> str:
    return per_element(e, op, "llvm.nvvm.lg2.approx.f")


@lowers(Rsqrt, on=("nvptx",), dtypes=("f32",))
def _(e: Emitter, op: Rsqrt) -> str:
    return per_element(e, op, "llvm.nvvm.rsqrt.approx.f")


@lowers(Sqrt, dtypes=WIDE)
def _(e: Emitter, op: Sqrt) -> str:
    if element(op.operand.type).name == "f32" and e.target.backend == "nvptx" and not op.precise:
        return per_element(e, op, "llvm.nvvm.sqrt.approx.f")
    return e.intrinsic("llvm.sqrt", op.operand.type, e[op.operand])


@lowers(Floor, dtypes=WIDE)
def _(e: Emitter, op: Floor) -> str:
    return e.intrinsic("llvm.floor", op.operand.type, e[op.operand])


@lowers(Ceil, dtypes=WIDE)
def _(e: Emitter, op: Ceil) -> str:
    return e.intrinsic("llvm.ceil", op.operand.type, e[op.operand])
