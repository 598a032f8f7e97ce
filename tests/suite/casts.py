"""Conversions between all pairs of dtypes, by number and by bits, and both roundings."""

from __future__ import annotations

from typing import Any

import numpy as np

import blocklang
import blocklang.language as bl
from blocklang.ir.types import DTYPES, DType
from tests.suite.case import Array, Expected, Launch, add, output
from tests.suite.data import EVERY, extremes, numbers, with_special


@blocklang.jit
def casts(x, i1, i8, i16, i32, i64, u8, u16, u32, u64, f16, bf16, f32, f64, f8e4m3, f8e5m2,
          n, BLOCK: bl.constexpr):  # fmt: skip
    i = bl.arange(0, BLOCK)
    keep = i < n
    v = bl.load(x + i, mask=keep, other=0)
    bl.store(i1 + i, v.to(bl.int1), mask=keep)
    bl.store(i8 + i, v.to(bl.int8), mask=keep)
    bl.store(i16 + i, v.to(bl.int16), mask=keep)
    bl.store(i32 + i, v.to(bl.int32), mask=keep)
    bl.store(i64 + i, v.to(bl.int64), mask=keep)
    bl.store(u8 + i, v.to(bl.uint8), mask=keep)
    bl.store(u16 + i, v.to(bl.uint16), mask=keep)
    bl.store(u32 + i, v.to(bl.uint32), mask=keep)
    bl.store(u64 + i, v.to(bl.uint64), mask=keep)
    bl.store(f16 + i, v.to(bl.float16), mask=keep)
    bl.store(bf16 + i, v.to(bl.bfloat16), mask=keep)
    bl.store(f32 + i, v.to(bl.float32), mask=keep)
    bl.store(f64 + i, v.to(bl.float64), mask=keep)
    bl.store(f8e4m3 + i, v.to(bl.float8e4nv), mask=keep)
    bl.store(f8e5m2 + i, v.to(bl.float8e5), mask=keep)


def converted(x: np.ndarray, target: DType) -> tuple[np.ndarray, np.ndarray]:
    """The numbers in another dtype, and where that is defined: floats that an integer dtype cannot
    hold become anything.
    """
    everywhere = np.ones(x.size, bool)
    is_float = x.dtype.kind not in "iub"
    with np.errstate(all="ignore"):
        if target.is_bool:
            return x != 0, everywhere
        if is_float and target.is_integer:
            wide = np.trunc(x.astype(np.longdouble))
            low, high = np.longdouble(int(target.minimum)), np.longdouble(int(target.maximum))
            fits = (wide >= low) & (wide <= high)
            return np.array([int(v) if f else 0 for v, f in zip(wide, fits, strict=True)], object
                            ).astype(target.numpy), fits  # fmt: skip
        if target.is_integer:
            return x.astype(target.numpy), everywhere
        return round_to(x, target), everywhere


def round_to(x: np.ndarray, target: DType) -> np.ndarray:
    """To nearest, ties to even, in one step. float8e4nv saturates: it has no infinity."""
    if target.bits >= 32:
        return x.astype(target.numpy)
    exact = x.astype(np.longdouble)
    # ml_dtypes and NumPy round long doubles by way of float32 or float64: round to odd before.
    wide = exact.astype(np.float32)
    inexact = np.isfinite(wide) & (wide.astype(np.longdouble) != exact)
    away = np.abs(wide.astype(np.longdouble)) > np.abs(exact)
    bits = wide.view(np.uint32)
    bits = np.where(inexact & away, bits - 1, bits)
    bits = np.where(inexact, bits | 1, bits)
    huge = np.isinf(wide) & np.isfinite(exact)
    largest = np.copysign(np.finfo(np.float32).max, wide)
    odd = np.where(huge, largest, bits.astype(np.uint32).view(np.float32))
    if target.name == "f8e4m3":
        odd = np.clip(odd, np.float32(-448), np.float32(448))
    return odd.astype(target.numpy)


def make_casts(name: str) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        draw = with_special if DTYPES[name].is_float else numbers
        edges = extremes(name)
        x = np.concatenate([edges, draw(rng, name, 256 - edges.size)])
        results = {target: converted(x, DTYPES[target]) for target in EVERY}
        expected = {
            target: Expected(values, defined=fits) for target, (values, fits) in results.items()
        }
        arguments: dict[str, Any] = {"x": Array(x), "n": x.size}
        arguments |= {target: output(x.size, DTYPES[target].numpy) for target in EVERY}
        return Launch(arguments, expected)

    return make


@blocklang.jit
def bitcasts(x, a, b, c, n, A: bl.constexpr, B: bl.constexpr, C: bl.constexpr, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    keep = i < n
    v = bl.load(x + i, mask=keep)
    bl.store(a + i, v.to(A, bitcast=True), mask=keep)
    bl.store(b + i, v.to(B, bitcast=True), mask=keep)
    bl.store(c + i, v.to(C, bitcast=True), mask=keep)


SAME_WIDTH = (
    ("i8", "u8", "f8e4m3", "f8e5m2"),
    ("i16", "u16", "f16", "bf16"),
    ("i32", "u32", "f32", "f32"),
    ("i64", "u64", "f64", "f64"),
)


def make_bitcasts(source: str, targets: tuple[str, ...]) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        n = 200
        raw = rng.integers(0, 256, n * DTYPES[source].bytes, np.uint8)
        x = raw.view(DTYPES[source].numpy)
        kinds = dict(zip("abc", targets, strict=True))
        arguments: dict[str, Any] = {"x": Array(x), "n": n}
        arguments |= {key: output(n, DTYPES[name].numpy) for key, name in kinds.items()}
        values = {key: x.view(DTYPES[name].numpy) for key, name in kinds.items()}
        return Launch(arguments, {key: Expected(v) for key, v in values.items()})

    return make


@blocklang.jit
def roundings(x, nearest, zero, n, TARGET: bl.constexpr, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    keep = i < n
    v = bl.load(x + i, mask=keep)
    bl.store(nearest + i, v.to(TARGET, fp_downcast_rounding="rtne"), mask=keep)
    bl.store(zero + i, v.to(TARGET, fp_downcast_rounding="rtz"), mask=keep)


def make_roundings(source: str, target: str) -> Any:
    def make(rng: np.random.Generator) -> Launch:
        n, kind = 256, DTYPES[target]
        # Within the range of every format, so that nothing overflows.
        x = (rng.uniform(-1, 1, n) * 2.0 ** rng.integers(-12, 8, n)).astype(DTYPES[source].numpy)
        nearest = round_to(x, kind)
        integer = np.dtype(f"u{kind.bytes}")
        beyond = np.abs(nearest.astype(np.longdouble)) > np.abs(x.astype(np.longdouble))
        # The next number toward zero has the bits that are lower by one.
        bits = nearest.view(integer) - beyond.astype(integer)
        zero = bits.astype(integer).view(kind.numpy)
        arguments = {"x": Array(x), "n": n, "nearest": output(n, kind.numpy)}
        arguments["zero"] = output(n, kind.numpy)
        return Launch(arguments, {"nearest": Expected(nearest), "zero": Expected(zero)})

    return make


for _name in EVERY:
    add(f"casts-{_name}", casts, make_casts(_name), BLOCK=256)
for _group in SAME_WIDTH:
    for _name in dict.fromkeys(_group):
        _others = [other for other in _group if other != _name]
        _targets = tuple([*_others, _others[-1]][:3])
        _dtypes = dict(zip("ABC", (DTYPES[t] for t in _targets), strict=True))
        add(f"bitcasts-{_name}", bitcasts, make_bitcasts(_name, _targets), BLOCK=256, **_dtypes)
for _source, _target in (
    ("f32", "f16"), ("f32", "bf16"), ("f64", "f32"), ("f64", "bf16"), ("f32", "f8e4m3"),
    ("f16", "f8e5m2"),
):  # fmt: skip
    _make = make_roundings(_source, _target)
    add(f"roundings-{_source}-{_target}", roundings, _make, TARGET=DTYPES[_target], BLOCK=256)
