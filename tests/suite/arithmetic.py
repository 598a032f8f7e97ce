"""Arithmetic, bits, shifts and comparisons for every dtype, and the promotion of mixed ones."""

from __future__ import annotations

from typing import Any

import numpy as np

import blocklang
import blocklang.language as bl
from blocklang.ir.types import DTYPES
from tests.suite.bounds import ulp
from tests.suite.case import SIZES, Array, Expected, Launch, add, block_size, output
from tests.suite.data import FLOATS, INTEGERS, NUMBERS, numbers, with_special

ARITHMETIC = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "neg": lambda x, y: (-x.astype(np.int64)).astype(x.dtype) if x.dtype.kind in "iu" else -x,
    "abs": lambda x, y: np.abs(x),
    "scaled": lambda x, y: x * np.asarray(3, x.dtype) + np.asarray(1, x.dtype),
}


@blocklang.jit
def arithmetic(x, y, out, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    keep = i < n
    a = bl.load(x + i, mask=keep)
    b = bl.load(y + i, mask=keep)
    bl.store(out + i, a + b, mask=keep)
    bl.store(out + n + i, a - b, mask=keep)
    bl.store(out + 2 * n + i, a * b, mask=keep)
    bl.store(out + 3 * n + i, -a, mask=keep)
    bl.store(out + 4 * n + i, bl.abs(a), mask=keep)
    bl.store(out + 5 * n + i, a * 3 + 1, mask=keep)


def make_arithmetic(name: str, n: int, special: bool) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        draw = with_special if special else numbers
        x, y = draw(rng, name, n), draw(rng, name, n)
        with np.errstate(all="ignore"):
            rows = [f(x, y) for f in ARITHMETIC.values()]
        bound = np.zeros((len(rows), n))
        if name in FLOATS:
            # x * 3 + 1 may be rounded once or twice: half an ulp of the product, once more of the
            # sum.
            product = rows[-1].astype(np.longdouble) - 1
            bound[-1] = ulp(product, DTYPES[name]) + ulp(rows[-1], DTYPES[name])
        expected = Expected(np.concatenate(rows), bound.reshape(-1))
        arguments = {"x": Array(x), "y": Array(y), "out": output(len(rows) * n, x.dtype), "n": n}
        return Launch(arguments, {"out": expected})

    return make


@blocklang.jit
def comparisons(x, y, out, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    keep = i < n
    a = bl.load(x + i, mask=keep)
    b = bl.load(y + i, mask=keep)
    bl.store(out + i, a < b, mask=keep)
    bl.store(out + n + i, a <= b, mask=keep)
    bl.store(out + 2 * n + i, a > b, mask=keep)
    bl.store(out + 3 * n + i, a >= b, mask=keep)
    bl.store(out + 4 * n + i, a == b, mask=keep)
    bl.store(out + 5 * n + i, a != b, mask=keep)
    bl.store(out + 6 * n + i, (a < b) | ~(a == a), mask=keep)
    bl.store(out + 7 * n + i, (a >= b) & (b == b) ^ (a > b), mask=keep)


def make_comparisons(name: str, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        draw = with_special if name in FLOATS else numbers
        x, y = draw(rng, name, n), draw(rng, name, n)
        y = np.where(rng.integers(0, 3, n) == 0, x, y)
        with np.errstate(all="ignore"):
            rows = [x < y, x <= y, x > y, x >= y, x == y, x != y]
            rows += [(x < y) | ~(x == x), (x >= y) & (y == y) ^ (x > y)]
        arguments = {"x": Array(x), "y": Array(y), "out": output(len(rows) * n, bool), "n": n}
        return Launch(arguments, {"out": Expected(np.concatenate(rows))})

    return make


@blocklang.jit
def bits(x, y, shift, out, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    keep = i < n
    a = bl.load(x + i, mask=keep)
    b = bl.load(y + i, mask=keep)
    s = bl.load(shift + i, mask=keep, other=0)
    bl.store(out + i, a & b, mask=keep)
    bl.store(out + n + i, a | b, mask=keep)
    bl.store(out + 2 * n + i, a ^ b, mask=keep)
    bl.store(out + 3 * n + i, ~a, mask=keep)
    bl.store(out + 4 * n + i, a << s, mask=keep)
    bl.store(out + 5 * n + i, a >> s, mask=keep)


def make_bits(name: str, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x, y = numbers(rng, name, n), numbers(rng, name, n)
        s = rng.integers(0, DTYPES[name].bits, n).astype(x.dtype)
        rows = [x & y, x | y, x ^ y, ~x, x << s, x >> s]
        arguments = {"x": Array(x), "y": Array(y), "shift": Array(s)}
        arguments |= {"out": output(len(rows) * n, x.dtype), "n": n}
        return Launch(arguments, {"out": Expected(np.concatenate(rows))})

    return make


@blocklang.jit
def integer_division(x, y, out, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    keep = i < n
    a = bl.load(x + i, mask=keep, other=0)
    b = bl.load(y + i, mask=keep, other=1)
    bl.store(out + i, a // b, mask=keep)
    bl.store(out + n + i, a % b, mask=keep)
    bl.store(out + 2 * n + i, a // 8, mask=keep)
    bl.store(out + 3 * n + i, a % 7, mask=keep)


def truncated(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quotient toward zero and remainder with the sign of `x`, as C has them."""
    quotients = [abs(int(a)) // abs(int(b)) for a, b in zip(x, y, strict=True)]
    signs = [-1 if (a < 0) != (b < 0) else 1 for a, b in zip(x, y, strict=True)]
    quotient = np.array([q * s for q, s in zip(quotients, signs, strict=True)], object)
    remainder = x.astype(object) - quotient * y.astype(object)
    return quotient.astype(x.dtype), remainder.astype(x.dtype)


def make_division(name: str, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x, y = numbers(rng, name, n), numbers(rng, name, n)
        # The quotient of the least integer and -1 does not fit, and there is none by 0.
        y = np.where((y == 0) | (y.astype(np.float64) == -1), np.asarray(3, x.dtype), y)
        eight, seven = np.full(n, 8, x.dtype), np.full(n, 7, x.dtype)
        rows = [*truncated(x, y), truncated(x, eight)[0], truncated(x, seven)[1]]
        arguments = {"x": Array(x), "y": Array(y), "out": output(len(rows) * n, x.dtype), "n": n}
        return Launch(arguments, {"out": Expected(np.concatenate(rows))})

    return make


@blocklang.jit
def division(x, y, quotient, exact, rest, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    keep = i < n
    a = bl.load(x + i, mask=keep, other=0.0)
    b = bl.load(y + i, mask=keep, other=1.0)
    bl.store(quotient + i, a / b, mask=keep)
    bl.store(exact + i, bl.div_rn(a, b), mask=keep)
    bl.store(rest + i, a % b, mask=keep)


def make_float_division(name: str, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x, y = with_special(rng, name, n), numbers(rng, name, n)
        y = np.where(y == 0, np.asarray(1, x.dtype), y)
        # 16-bit floats are divided in float32, and so is their remainder.
        wide = np.float64 if name == "f64" else np.float32
        kind = DTYPES["f64" if name == "f64" else "f32"]
        a, b = x.astype(wide), y.astype(wide)
        with np.errstate(all="ignore"):
            expected = {
                # The fast division of GPUs is at most 2 ulp off.
                "quotient": Expected(a / b, gpu_bound=2 * ulp(a / b, kind)),
                "exact": Expected(a / b),
                "rest": Expected(np.fmod(a, b)),
            }
        arguments = {"x": Array(x), "y": Array(y), "n": n}
        arguments |= {row: output(n, wide) for row in expected}
        return Launch(arguments, expected)

    return make


@blocklang.jit
def true_division(x, y, out, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    keep = i < n
    a = bl.load(x + i, mask=keep, other=0)
    b = bl.load(y + i, mask=keep, other=1)
    quotient = a / b
    bl.static_assert(quotient.dtype == bl.float32)
    bl.store(out + i, quotient, mask=keep)


def make_true_division(name: str, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x, y = numbers(rng, name, n), numbers(rng, name, n)
        y = np.where(y == 0, np.asarray(3, x.dtype), y)
        quotient = x.astype(np.float32) / y.astype(np.float32)
        # Both operands are rounded to float32 by conversion, as in the reference.
        expected = Expected(quotient, gpu_bound=2 * ulp(quotient, DTYPES["f32"]))
        arguments = {"x": Array(x), "y": Array(y), "out": output(n, np.float32), "n": n}
        return Launch(arguments, {"out": expected})

    return make


@blocklang.jit
def mixed(x, y, out, n, RESULT: bl.constexpr, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    keep = i < n
    total = bl.load(x + i, mask=keep, other=0) + bl.load(y + i, mask=keep, other=0)
    bl.static_assert(total.dtype == RESULT)
    bl.store(out + i, total, mask=keep)


PROMOTIONS = (
    ("i1", "i8", "i8"), ("i8", "i16", "i16"), ("i8", "u8", "u8"), ("i16", "u8", "i16"),
    ("i8", "u16", "u16"), ("i32", "u32", "u32"), ("i32", "i64", "i64"), ("u32", "i64", "i64"),
    ("i64", "u64", "u64"), ("u8", "u64", "u64"), ("i32", "f16", "f16"), ("i64", "bf16", "f32"),
    ("u8", "f32", "f32"), ("i64", "f64", "f64"), ("i1", "f32", "f32"), ("f16", "bf16", "f16"),
    ("f16", "f32", "f32"), ("bf16", "f32", "f32"), ("bf16", "f64", "f64"), ("f32", "f64", "f64"),
    ("f8e4m3", "f8e5m2", "f16"), ("f8e5m2", "f32", "f32"), ("f8e4m3", "f16", "f16"),
)  # fmt: skip
"""Pairs of dtypes and what their sum has in Triton."""


def make_mixed(left: str, right: str, result: str, n: int) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        x, y = numbers(rng, left, n), numbers(rng, right, n)
        if DTYPES[result].is_float:
            # Integers that all formats hold exactly.
            x, y = (
                v if DTYPES[d].is_float else (v.astype(np.int64) % 2 if d == "i1" else v % 8)
                for v, d in ((x, left), (y, right))
            )
            x, y = x.astype(DTYPES[left].numpy), y.astype(DTYPES[right].numpy)
        kind = DTYPES[result].numpy
        with np.errstate(all="ignore"):
            total = x.astype(kind) + y.astype(kind)
        arguments = {"x": Array(x), "y": Array(y), "out": output(n, kind), "n": n}
        return Launch(arguments, {"out": Expected(total)})

    return make


for _name in NUMBERS:
    for _n in SIZES if _name in ("i32", "f32", "bf16") else (257,):
        _block = block_size(_n)
        add(f"arithmetic-{_name}-{_n}", arithmetic, make_arithmetic(_name, _n, False), BLOCK=_block)
        add(f"comparisons-{_name}-{_n}", comparisons, make_comparisons(_name, _n), BLOCK=_block)
for _name in FLOATS:
    add(f"arithmetic-{_name}-special", arithmetic, make_arithmetic(_name, 257, True), BLOCK=512)
    add(f"float_division-{_name}", division, make_float_division(_name, 257), BLOCK=512)
for _name in INTEGERS:
    add(f"bits-{_name}", bits, make_bits(_name, 257), BLOCK=512)
    add(f"integer_division-{_name}", integer_division, make_division(_name, 257), BLOCK=512)
    add(f"true_division-{_name}", true_division, make_true_division(_name, 16), BLOCK=16)
for _left, _right, _result in PROMOTIONS:
    for _first, _second in ((_left, _right), (_right, _left)):
        _make = make_mixed(_first, _second, _result, 16)
        add(f"mixed-{_first}-{_second}", mixed, _make, RESULT=DTYPES[_result], BLOCK=16)
