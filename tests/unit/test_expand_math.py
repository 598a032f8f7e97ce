"""expand-math: accuracy of every formula, exactness of every conversion, and what is left."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from typing import Any

import numpy
import pytest

from blocklang.ir.expansions import trigonometric
from blocklang.ir.op import Op
from blocklang.ir.ops import elementwise as ops
from blocklang.ir.passes import expand_math
from blocklang.ir.passes.expand_math import FORMULAS, ExpandMath, is_basic
from blocklang.ir.types import DTYPES, DType, bf16, f8e4m3, f8e5m2, f16, f32, f64, i1, i32, i64
from tests.ir_modules import PLACE, module_of_op, run
from tools import fit_polynomials

FLOATS = [f8e4m3, f8e5m2, f16, bf16, f32, f64]
INTEGERS = [d for d in DTYPES.values() if d.is_integer]
COUNT = 20_000
generator = numpy.random.default_rng(20)
pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def quiet() -> Iterator[None]:
    """Overflow and the like are what is tested."""
    global generator
    generator = numpy.random.default_rng(20)
    with numpy.errstate(all="ignore"):
        yield


def expanded(
    op: type[Op],
    dtypes: list[DType],
    result: DType | None = None,
    size: int = 0,
    native: Callable[[type[Op], DType], bool] = is_basic,
    **fields: Any,
) -> Any:
    """The expansion of one op, as a function on arrays."""
    module = module_of_op(op, dtypes, result, size, **fields)
    ExpandMath(native)(module)
    return lambda *arrays: run(module, *arrays)


def all_bits(dtype: DType) -> Any:
    return numpy.arange(1 << dtype.bits, dtype=f"u{dtype.bytes}").view(dtype.numpy)


def random_bits(dtype: DType, count: int) -> Any:
    kind = f"u{dtype.bytes}"
    highest = numpy.iinfo(kind).max
    return generator.integers(0, highest, count, kind, endpoint=True).view(dtype.numpy)


EDGES = [0.0, -0.0, 1.0, -1.0, 2.0, 10.0, -10.0, math.inf, -math.inf, math.nan]
LIMITS_F32 = [2.0**-126, 2.0**-149, -(2.0**-149), 3.4028234e38, -3.4028234e38]
LIMITS_F64 = [2.0**-1022, 5e-324, -5e-324, 1.7e308, -1.7e308]


# ---------------------------------------------------------------- functions


def error_in_ulps(found: float, exact: Decimal, dtype: DType) -> float:
    """The distance in units of the last place of the exact result's binade."""
    with localcontext() as context:
        context.prec = 60
        smallest = 2.0**-149 if dtype is f32 else 2.0**-1074
        exponent = math.frexp(float(exact))[1] - 1
        unit = max(Decimal(2) ** (exponent - dtype.mantissa), Decimal(smallest))
        return float(abs(Decimal(found) - exact) / unit)


def sine(x: Decimal) -> Decimal:
    with localcontext() as context:
        context.prec = 400
        x = x % (2 * pi())
        return fit_polynomials.alternating(x * x, 1) * x


def cosine(x: Decimal) -> Decimal:
    with localcontext() as context:
        context.prec = 400
        x = x % (2 * pi())
        return fit_polynomials.alternating(x * x, 0)


def pi() -> Decimal:
    return Decimal(2 << 1184) / Decimal(trigonometric.TWO_OVER_PI)


def tangent(x: Decimal) -> Decimal:
    with localcontext() as context:
        context.prec = 400
        e = (2 * x).exp()
        return (e - 1) / (e + 1)


def erf(x: Decimal) -> Decimal:
    if abs(x) > 6.2:
        return Decimal(1).copy_sign(x)
    with localcontext() as context:
        context.prec = 80
        return fit_polynomials.erf(x)


ULPS = {
    # op: exact value, NumPy's on float64, largest error for f32 and f64, ranges of arguments
    ops.Exp: (Decimal.exp, numpy.exp, 1.0, 1.0, [(-105, 90), (-1, 1), (-745, 709.7)]),
    ops.Exp2: (
        lambda x: Decimal(2) ** x, numpy.exp2, 1.05, 1.05, [(-151, 128), (-1, 1), (-1075, 1024)],
    ),
    ops.Log: (Decimal.ln, numpy.log, 0.9, 0.9, [(0, 4), (0.7, 1.5), (0, 1e38), (0, 1e-38)]),
    ops.Log2: (
        lambda x: x.ln() / Decimal(2).ln(), numpy.log2, 1.3, 1.1,
        [(0, 4), (0.7, 1.5), (0, 1e38), (0, 1e-38)],
    ),
    ops.Tanh: (tangent, numpy.tanh, 2.7, 2.4, [(-1, 1), (-0.1, 0.1), (-20, 20)]),
    ops.Sin: (sine, numpy.sin, 2.7, 2.2, [(-4, 4), (-1e5, 1e5), (1e5, 1e10), (-1e36, 1e36)]),
    ops.Cos: (cosine, numpy.cos, 2.7, 2.2, [(-4, 4), (-1e5, 1e5), (1e5, 1e10), (-1e36, 1e36)]),
    ops.Erf: (erf, numpy.vectorize(math.erf), 1.2, 1.3, [(-4, 4), (0.9, 1.1), (-0.01, 0.01)]),
    ops.Rsqrt: (lambda x: 1 / x.sqrt(), lambda x: 1 / numpy.sqrt(x), 1.5, 1.5, [(0, 4), (0, 1e38)]),
}  # fmt: skip


@pytest.mark.parametrize("op", ULPS, ids=lambda op: op.mnemonic)
def test_float32_functions_are_accurate(op: type[Op]) -> None:
    _, numpy_function, limit, _, ranges = ULPS[op]
    samples = [generator.uniform(low, high, COUNT) for low, high in ranges]
    values = [numpy.asarray(s, numpy.float32) for s in (EDGES, LIMITS_F32, *samples)]
    x = numpy.concatenate([*values, random_bits(f32, COUNT)])
    found = expanded(op, [f32], size=len(x))(x).astype(numpy.float64)
    exact = numpy_function(x.astype(numpy.float64))
    rounded = exact.astype(numpy.float32)
    exponent = numpy.frexp(exact)[1] - 1
    unit = numpy.maximum(numpy.ldexp(1.0, exponent - 23), 2.0**-149)
    error = abs(found - exact) / unit
    special = ~numpy.isfinite(rounded) | (rounded == 0)
    same = (found == rounded) | (numpy.isnan(found) & numpy.isnan(rounded))
    # Near the largest number, an ulp decides between it and infinity.
    same |= numpy.isinf(rounded) & numpy.isfinite(exact) & (found > 3.4028e38)
    assert same[special & (rounded != 0)].all()
    assert error[~special | (rounded == 0)].max() <= limit
    assert error[~special].max() > limit / 3, "the limit says too little"


@pytest.mark.parametrize("op", ULPS, ids=lambda op: op.mnemonic)
def test_float64_functions_are_accurate(op: type[Op]) -> None:
    exact, numpy_function, _, limit, ranges = ULPS[op]
    samples = [generator.uniform(low, high, 250) for low, high in ranges]
    if op in (ops.Sin, ops.Cos):
        samples.append(numpy.array([1e300, 1e22, 6381956970095103.0 * 2.0**797, math.pi, 1e9]))
    x = numpy.concatenate(samples)
    found = expanded(op, [f64], size=len(x))(x)
    with localcontext() as context:
        context.prec = 50
        errors = [
            error_in_ulps(y, exact(Decimal(v)), f64)
            for v, y in zip(x.tolist(), found.tolist(), strict=True)
            if math.isfinite(y)
        ]
    assert len(errors) >= len(x) - 2
    assert limit / 3 < max(errors) <= limit
    edges = numpy.array([*EDGES, *LIMITS_F64])
    expected = numpy_function(edges)
    found = expanded(op, [f64], size=len(edges))(edges)
    numpy.testing.assert_allclose(found, expected, rtol=1e-15)
    assert (numpy.signbit(found) == numpy.signbit(expected))[~numpy.isnan(expected)].all()


def test_two_over_pi_is_right() -> None:
    # Machin: pi = 16 arctan(1/5) - 4 arctan(1/239)
    one = 1 << 1300

    def arctan_of_inverse(n: int) -> int:
        total, power, index, sign = 0, one // n, 1, 1
        while power:
            total += sign * (power // index)
            power, index, sign = power // (n * n), index + 2, -sign
        return total

    circle = 16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)
    assert (2 * one << 1184) // circle == trigonometric.TWO_OVER_PI


def test_coefficients_are_those_that_the_tool_finds() -> None:
    (fit,) = (f for f in fit_polynomials.fits() if f.name == "SIN_F32")
    coefficients, error = fit_polynomials.run(fit)
    assert tuple(coefficients) == trigonometric._F32.sine
    assert error < 1e-8


def test_exp2_and_log2_are_used_where_native() -> None:
    def native(op: type[Op], dtype: DType) -> bool:
        return is_basic(op, dtype) or (op in (ops.Exp2, ops.Log2) and dtype is f32)

    for op, used in ((ops.Exp, "exp2"), (ops.Log, "log2")):
        module = module_of_op(op, [f32])
        ExpandMath(native)(module)
        assert [o.mnemonic for o in module.walk()].count(used) == 1
        assert len(list(module.walk())) == 4
        module = module_of_op(op, [f64])
        ExpandMath(native)(module)
        assert used not in [o.mnemonic for o in module.walk()]


def test_remainder() -> None:
    for dtype in (f32, f64):
        x = generator.uniform(-1e5, 1e5, COUNT).astype(dtype.numpy)
        y = (x[::-1] / generator.uniform(-1e5, 1e5, COUNT)).astype(dtype.numpy)
        y = numpy.where(abs(y) < 0.05, dtype.numpy.type(7), y)
        x[:6] = [0, -0.0, 5, math.inf, 7, -6]
        y[:6] = [1, 1, math.inf, 2, 0, 3]
        expected = numpy.fmod(x, y)
        found = expanded(ops.Remainder, [dtype, dtype], size=COUNT)(x, y)
        numpy.testing.assert_array_equal(found, expected)
        assert (numpy.signbit(found) == numpy.signbit(expected))[~numpy.isnan(expected)].all()


# ---------------------------------------------------------------- conversions


def samples_of(dtype: DType) -> Any:
    """All values of small formats; of large ones random bits, and what lies near the values of the
    small ones and halfway between them.
    """
    if dtype.bits <= 16:
        return all_bits(dtype)
    near = [random_bits(dtype, COUNT)]
    for small in (f8e4m3, f8e5m2, f16, bf16):
        values = all_bits(small).astype(numpy.float64)
        values = numpy.sort(values[numpy.isfinite(values)])
        beyond = [2 * values[-1] - values[-2], 1.5 * values[-1] - 0.5 * values[-2]]
        halfway = (values[1:] + values[:-1]) / 2
        middle = numpy.concatenate([values, halfway, beyond]).astype(dtype.numpy)
        near += [middle, numpy.nextafter(middle, dtype.numpy.type(math.inf))]
        near += [numpy.nextafter(middle, dtype.numpy.type(-math.inf))]
    near.append(numpy.array([math.inf, -math.inf, math.nan], dtype.numpy))
    return numpy.concatenate(near)


def exactly_rounded(x: Any, target: DType, rounding: str) -> Any:
    """float64 numbers rounded to a format, by search in the list of its values."""
    values = all_bits(target)
    finite = values[numpy.isfinite(values.astype(numpy.float64))]
    finite = finite[numpy.argsort(finite.astype(numpy.float64), kind="stable")]
    table = numpy.unique(abs(finite.astype(numpy.float64)))
    magnitude = abs(x)
    below = numpy.clip(numpy.searchsorted(table, magnitude, side="right") - 1, 0, None)
    # One step beyond the largest number stands for infinity.
    table = numpy.append(table, 2 * table[-1] - table[-2])
    chosen = below
    if rounding == "rtne":
        low, high = table[below], table[below + 1]
        up = (magnitude - low > high - magnitude) | (
            (magnitude - low == high - magnitude) & (below % 2 == 1)
        )
        chosen = below + up
    top = table[-2] if target is f8e4m3 else math.inf
    result = numpy.append(table[:-1], top)[chosen]
    result = numpy.where(numpy.isinf(magnitude), top, result)
    return numpy.where(numpy.isnan(x), x, numpy.copysign(result, x))


def assert_same_floats(found: Any, expected: Any) -> None:
    found, expected = found.astype(numpy.float64), numpy.asarray(expected, numpy.float64)
    numpy.testing.assert_array_equal(found, expected)
    signs = numpy.signbit(found) == numpy.signbit(expected)
    assert signs[~numpy.isnan(expected)].all()


@pytest.mark.parametrize("rounding", ["rtne", "rtz"])
@pytest.mark.parametrize("target", FLOATS, ids=str)
@pytest.mark.parametrize("source", FLOATS, ids=str)
def test_conversions_between_floats_are_exact(source: DType, target: DType, rounding: str) -> None:
    x = samples_of(source)
    found = expanded(ops.Cast, [source], target, len(x), rounding=rounding)(x)
    assert found.dtype == target.numpy
    if target.bits <= 16:
        expected = exactly_rounded(x.astype(numpy.float64), target, rounding)
    elif rounding == "rtne" or source.bits <= target.bits:
        expected = x.astype(target.numpy)
    else:
        nearest = x.astype(numpy.float32)
        back = numpy.nextafter(nearest, numpy.float32(0))
        expected = numpy.where(abs(nearest.astype(numpy.float64)) > abs(x), back, nearest)
    assert_same_floats(found, expected)


@pytest.mark.parametrize("target", FLOATS, ids=str)
@pytest.mark.parametrize("source", INTEGERS, ids=str)
def test_conversions_from_integers_round_once(source: DType, target: DType) -> None:
    x = [source.minimum, source.maximum, 0, 1]
    for bits in range(1, source.bits - source.is_signed):
        edge = 1 << bits
        x += [edge, edge - 1, *(edge + (edge >> k) + d for k in (8, 9, 11, 12) for d in (-1, 0, 1))]
    if source.is_signed:
        x += [-v for v in x[1:]]
    x = [v for v in x if source.minimum <= v <= source.maximum]
    found = expanded(ops.Cast, [source], target, len(x))(numpy.array(x, source.numpy))
    expected = [integer_as_float(v, target) for v in x]
    assert_same_floats(found, expected)


def integer_as_float(value: int, target: DType) -> float:
    magnitude = abs(value)
    shift = max(0, magnitude.bit_length() - target.mantissa - 1)
    quotient, rest = magnitude >> shift, magnitude & ((1 << shift) - 1)
    half = (1 << shift) >> 1
    rounded = (quotient + (rest > half or (rest == half != 0 and quotient & 1))) << shift
    largest = {f8e4m3: 448, f8e5m2: 57344, f16: 65504}.get(target, 1 << 200)
    if rounded > largest:
        rounded = 448 if target is f8e4m3 else math.inf
    return math.copysign(float(rounded), value)


@pytest.mark.parametrize("source", FLOATS, ids=str)
def test_conversions_to_integers(source: DType) -> None:
    x = samples_of(source)
    wide = x.astype(numpy.float64)
    fits = abs(wide) < 2.0**31
    for target in (i32, i64):
        found = expanded(ops.Cast, [source], target, fits.sum())(x[fits])
        numpy.testing.assert_array_equal(found, numpy.trunc(wide[fits]).astype(numpy.int64))
    without_i1 = expanded(ops.Cast, [source], i1, len(x), native=lacks_i1)(x)
    numpy.testing.assert_array_equal(without_i1, wide != 0)


def lacks_i1(op: type[Op], dtype: DType) -> bool:
    return is_basic(op, dtype) and not (op is ops.Cast and dtype is i1)


def test_conversions_of_conditions_become_choices() -> None:
    for target in (f32, bf16, f8e5m2, i32, i64):
        module = module_of_op(ops.Cast, [i1], target)
        ExpandMath(lacks_i1)(module)
        assert "cast" not in [o.mnemonic for o in module.walk()]
        assert (run(module, True), run(module, False)) == (1, 0)


def test_native_conversions_stay() -> None:
    def all_native(op: type[Op], dtype: DType) -> bool:
        return True

    pairs = {(s, t) for s in DTYPES.values() for t in DTYPES.values() if s is not t}
    for source, target in pairs:
        module = module_of_op(ops.Cast, [source], target)
        ExpandMath(all_native)(module)
        kept = [o for o in module.walk() if isinstance(o, ops.Cast)]
        floats = sorted((d for d in (source, target) if d.is_float), key=lambda d: d.bits)
        direct = len(kept) == 1 and len(list(module.walk())) == 2
        if not floats or floats[0].bits >= 32:
            assert direct
        elif len(floats) == 1:
            assert direct == (not floats[0].is_float8)
        elif floats[0].is_float8:
            assert direct == (floats[1] in (f16, f32))
        else:
            assert direct == (floats[1] is f32)


# ---------------------------------------------------------------- narrow floats


@pytest.mark.parametrize("dtype", [f8e4m3, f8e5m2, f16, bf16], ids=str)
@pytest.mark.parametrize("op", [ops.Add, ops.Multiply, ops.Divide, ops.Maximum, ops.Compare])
def test_narrow_operations_round_once(op: type[Op], dtype: DType) -> None:
    fields = {"predicate": "lt"} if op is ops.Compare else {}
    x, y = random_bits(dtype, COUNT), random_bits(dtype, COUNT)
    found = expanded(op, [dtype, dtype], None, COUNT, **fields)(x, y)
    wide = x.astype(numpy.float64), y.astype(numpy.float64)
    if op is ops.Compare:
        numpy.testing.assert_array_equal(found, wide[0] < wide[1])
        return
    exact = {"add": numpy.add, "mul": numpy.multiply, "div": numpy.divide,
             "maximum": numpy.fmax}[op.mnemonic](*wide)  # fmt: skip
    expected = exactly_rounded(exact, dtype, "rtne")
    if op is ops.Maximum:
        assert (found.astype(numpy.float64) == expected)[~numpy.isnan(expected)].all()
    else:
        numpy.testing.assert_array_equal(found.astype(numpy.float64), expected)


@pytest.mark.parametrize("dtype", [f8e4m3, f8e5m2, f16, bf16], ids=str)
def test_signs_of_narrow_floats_change_on_bits(dtype: DType) -> None:
    for op, function in ((ops.Negate, numpy.negative), (ops.Absolute, numpy.abs)):
        module = module_of_op(op, [dtype], size=1 << dtype.bits)
        ExpandMath(lambda op, dtype: is_basic(op, dtype) and dtype.bits >= 32)(module)
        assert not any(isinstance(o, ops.Cast | op) for o in module.walk())
        x = all_bits(dtype)
        assert_same_floats(run(module, x), function(x.astype(numpy.float64)))


def test_choices_and_bits_of_narrow_floats_stay() -> None:
    for dtype in (bf16, f8e4m3):
        module = module_of_op(ops.Select, [i1, dtype, dtype])
        before = str(module)
        ExpandMath()(module)
        assert str(module) == before


# ---------------------------------------------------------------- the pass


def test_every_new_op_has_the_location_of_the_old_one() -> None:
    for op in FORMULAS:
        count = len(op.fields_of("operand"))
        for dtype in (bf16, f32, f64):
            module = module_of_op(op, [dtype] * count, size=4)
            ExpandMath()(module)
            assert {o.loc for o in module.walk()} == {PLACE}
            assert not any(type(o) in FORMULAS for o in module.walk())


def test_scalars_stay_scalars() -> None:
    for op in FORMULAS:
        count = len(op.fields_of("operand"))
        module = module_of_op(op, [f16] * count)
        ExpandMath()(module)
        kinds = {type(v.type) for o in module.walk() for v in o.results}
        assert kinds == {DType}


def test_what_has_no_expansion_stays() -> None:
    module = module_of_op(ops.Floor, [f32])
    before = str(module)
    expand_math.ExpandMath(lambda op, dtype: False)(module)
    assert str(module) == before
