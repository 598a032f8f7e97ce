"""Matrix products: the evaluator against float64, and CPU code against the evaluator."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from blocklang.codegen.cpu import cpu_target, host_target
from blocklang.codegen.cpu.host import assembly
from blocklang.ir.parser import parse
from blocklang.ir.products import matrix_product, round_to_tf32
from blocklang.ir.types import DTYPES
from tests.cpu_kernels import check, compile_module, launch, lower


def sample(shape: tuple[int, ...], name: str, seed: int = 0) -> Any:
    """Numbers of a dtype that need all its bits."""
    dtype = DTYPES[name]
    rng = numpy.random.default_rng(seed)
    if dtype.is_integer:
        return rng.integers(dtype.minimum, int(dtype.maximum) + 1, shape, dtype.numpy)
    return rng.standard_normal(shape).astype(dtype.numpy)


def exact(a: Any, b: Any) -> tuple[Any, Any]:
    """The product in float64 and the size of its terms."""
    a, b = a.astype(numpy.float64), b.astype(numpy.float64)
    return a @ b, numpy.abs(a) @ numpy.abs(b)


# ---------------------------------------------------------------- the evaluator


# precision, how far each factor may be rounded
@pytest.mark.parametrize(
    ("precision", "rounding"), [("tf32", 2.0**-11), ("tf32x3", 2.0**-21), ("ieee", 0.0)]
)
def test_the_evaluator_rounds_factors_of_float32(precision: str, rounding: float) -> None:
    a, b, acc = sample((5, 33), "f32"), sample((33, 7), "f32", 1), sample((5, 7), "f32", 2)
    found = matrix_product(a, b, acc, DTYPES["f32"], precision)
    product, size = exact(a, b)
    error = numpy.abs(found - (product + acc))
    assert found.dtype == numpy.float32
    assert (error <= 2.1 * rounding * size + 2.0**-24 * (size + numpy.abs(acc))).all()
    # Less rounding than promised would be another function.
    assert not rounding or error.max() > rounding * size.max() / 100


@pytest.mark.parametrize("left", ["f16", "bf16", "f64", "f8e4m3", "f8e5m2"])
def test_the_evaluator_rounds_no_other_floats(left: str) -> None:
    right = "f8e5m2" if left == "f8e4m3" else left
    target = DTYPES["f64" if left == "f64" else "f32"]
    a, b = sample((2, 4, 16), left), sample((2, 16, 3), right, 1)
    found = matrix_product(a, b, numpy.zeros((2, 4, 3), target.numpy), target, "tf32")
    product, size = exact(a, b)
    assert found.dtype == target.numpy
    numpy.testing.assert_allclose(found, product, rtol=0, atol=size.max() * 2.0**-24)


@pytest.mark.parametrize("name", ["i8", "u8"])
def test_the_evaluator_sums_integers_modulo_2_to_the_32(name: str) -> None:
    a, b = sample((4, 64), name), sample((64, 4), name, 1)
    acc = numpy.full((4, 4), 2**31 - 1, numpy.int32)
    found = matrix_product(a, b, acc, DTYPES["i32"], "tf32")
    right = a.astype(object) @ b.astype(object) + 2**31 - 1
    assert (found == (right + 2**31) % 2**32 - 2**31).all()


def test_float16_sums_are_rounded_once() -> None:
    a, b = numpy.full((1, 2), 1, numpy.float16), numpy.array([[2048], [1.0]], numpy.float16)
    acc = numpy.array([[1]], numpy.float16)
    assert matrix_product(a, b, acc, DTYPES["f16"], "tf32") == 2050


def test_tf32_rounds_to_nearest_and_ties_away_from_zero() -> None:
    one = 2.0**-10
    given = [1 + one / 2, -1 - one / 2, 1 + 0.49 * one, 3.4e38, numpy.inf, numpy.nan, 1e-45]
    right = [1 + one, -1 - one, 1.0, 3.4e38, numpy.inf, numpy.nan, 0.0]
    found = round_to_tf32(numpy.array(given, numpy.float32))
    numpy.testing.assert_allclose(found, right, rtol=2.0**-12)
    payload = numpy.array([0x7FFFFFFF], numpy.uint32).view(numpy.float32)
    assert numpy.isnan(round_to_tf32(payload)).all()


def test_tf32x3_keeps_infinities() -> None:
    a = numpy.array([[numpy.inf, 1.0]], numpy.float32)
    b = numpy.array([[1.0], [1.0]], numpy.float32)
    assert matrix_product(a, b, numpy.zeros((1, 1), numpy.float32), DTYPES["f32"], "tf32x3") == (
        numpy.inf
    )


# ---------------------------------------------------------------- CPUs against the evaluator

PRODUCT = """
kernel product(
    a: *{left}, b: *{right}, c: *{sum}, out: *{sum},
    M: constexpr, N: constexpr, K: constexpr, ADDS: constexpr
):
    m, n, k = arange(0, M), arange(0, N), arange(0, K)
    x, y = load(a + m[:, None] * K + k[None, :]), load(b + k[:, None] * N + n[None, :])
    at = m[:, None] * N + n[None, :]
    if ADDS:
        total = dot(x, y, load(c + at), input_precision="{precision}")
    else:
        total = dot(x, y, input_precision="{precision}", out_dtype={sum})
    store(out + at, total)
"""
DTYPE_CASES = [
    ("f16", "f16", "f32", "tf32"), ("f16", "f16", "f16", "tf32"), ("bf16", "bf16", "f32", "tf32"),
    ("f32", "f32", "f32", "tf32"), ("f32", "f32", "f32", "tf32x3"), ("f32", "f32", "f32", "ieee"),
    ("f64", "f64", "f64", "tf32"), ("i8", "i8", "i32", "tf32"), ("u8", "u8", "i32", "tf32"),
    ("f8e4m3", "f8e4m3", "f32", "tf32"), ("f8e4m3", "f8e5m2", "f16", "tf32"),
]  # fmt: skip
SHAPES = [
    (1, 1, 1), (1, 128, 64), (2, 4, 8), (4, 1, 128), (16, 16, 16), (8, 64, 2), (64, 2, 32),
    (128, 32, 1), (32, 128, 128),
]  # fmt: skip


def bound(a: Any, b: Any, acc: Any, sum: str, precision: str) -> float:
    """How far an element may be from the evaluator's, which rounds once."""
    if DTYPES[sum].is_integer:
        return 0.0
    size = float((exact(a, b)[1] + numpy.abs(acc.astype(numpy.float64))).max())
    wide = 2.0**-53 if sum == "f64" else 2.0**-24
    last = 2.0**-10 if sum == "f16" else 2.0**-24
    by_splitting = 2.0**-20 if precision == "tf32x3" else 0.0
    return size * ((a.shape[-1] + 1) * wide + by_splitting + (last if sum != "f64" else 0))


def check_product(
    shape: tuple[int, int, int], left: str, right: str, sum: str, precision: str, adds: bool
) -> None:
    m, n, k = shape
    a, b, c = sample((m, k), left), sample((k, n), right, 1), sample((m, n), sum, 2)
    text = PRODUCT.format(left=left, right=right, sum=sum, precision=precision)
    most = bound(a, b, c, sum, precision)
    check(text, a, b, c, numpy.zeros_like(c), absolute=most, M=m, N=n, K=k, ADDS=adds)


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("case", DTYPE_CASES, ids="-".join)
def test_cpus_multiply_all_dtypes(case: tuple[str, str, str, str], adds: bool) -> None:
    check_product((16, 32, 64), *case, adds)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cpus_multiply_blocks_of_all_sizes(shape: tuple[int, int, int]) -> None:
    check_product(shape, "f32", "f32", "f32", "ieee", shape[0] % 4 == 0)
    check_product(shape, "f16", "f16", "f32", "tf32", shape[0] % 4 > 0)


# A matrix product as everybody writes it; strides in elements.
MATMUL = """
kernel matmul(
    a: *f32, b: *f32, c: *f32, M: i32, N: i32, K: i32, am: i32, ak: i32, bk: i32, bn: i32,
    BM: constexpr, BN: constexpr, BK: constexpr
):
    m = program_id(0) * BM + arange(0, BM)
    n = program_id(1) * BN + arange(0, BN)
    k = arange(0, BK)
    left = a + m[:, None] * am + k[None, :] * ak
    right = b + k[:, None] * bk + n[None, :] * bn
    total = zeros((BM, BN), f32)
    for at in range(0, K, BK):
        x = load(left, mask=(m[:, None] < M) & (k[None, :] < K - at), other=0.0)
        y = load(right, mask=(k[:, None] < K - at) & (n[None, :] < N), other=0.0)
        total += dot(x, y)
        left += BK * ak
        right += BK * bk
    store(c + m[:, None] * N + n[None, :], total, mask=(m[:, None] < M) & (n[None, :] < N))
"""


@pytest.mark.parametrize("depth", [17, 100, 129, 1000])
@pytest.mark.parametrize("turned", ["", "a", "b", "ab"])
def test_matrices_of_any_size_and_order(depth: int, turned: str) -> None:
    m, n = 21, 70
    a, b = sample((m, depth), "f32"), sample((depth, n), "f32", 1)
    strides = [
        *((1, m) if "a" in turned else (depth, 1)),
        *((1, depth) if "b" in turned else (n, 1)),
    ]
    given = [numpy.ascontiguousarray(x.T if w in turned else x) for w, x in (("a", a), ("b", b))]
    c = numpy.zeros((m, n), numpy.float32)
    most = bound(a, b, c, "f32", "tf32")
    arguments = *given, c, m, n, depth, *strides
    check(MATMUL, *arguments, grid=(2, 3), absolute=most, BM=16, BN=32, BK=32)


def test_strides_that_are_known_make_accesses_contiguous() -> None:
    text = MATMUL.replace("ak: i32, bk", "ak: i32 is 1, bk").replace("bn: i32,", "bn: i32 is 1,")
    a, b = sample((16, 64), "f32"), sample((64, 32), "f32", 1)
    c = numpy.zeros((16, 32), numpy.float32)
    most = bound(a, b, c, "f32", "tf32")
    code = check(
        text, a, b, c, 16, 32, 64, 64, 32, absolute=most, BM=16, BN=32, BK=32
    )  # fmt: skip
    assert "gather" not in code.llvm
    # The sum stays where it is: one copy of zeros before the loop, and none inside.
    body = code.plan[code.plan.index("body:") : code.plan.rindex("nest over")]
    assert body.count("keeps") == 2, code.plan


@pytest.mark.parametrize("n", [70, 96])
def test_indices_modulo_the_size(n: int) -> None:
    """As in Triton's tutorial: what lies outside is read again from the start."""
    wrapped = MATMUL.replace("left = a + m[:, None]", "left = a + (m % M)[:, None]")
    wrapped = wrapped.replace("n[None, :] * bn", "(n % N)[None, :] * bn")
    wrapped = wrapped.replace("(m[:, None] < M) & (k[None, :] < K - at)", "k[None, :] < K - at")
    wrapped = wrapped.replace("(k[:, None] < K - at) & (n[None, :] < N)", "k[:, None] < K - at")
    a, b = sample((21, 100), "f32"), sample((100, n), "f32", 1)
    c = numpy.zeros((21, n), numpy.float32)
    most = bound(a, b, c, "f32", "tf32")
    code = check(
        wrapped, a, b, c, 21, n, 100, 100, 1, n, 1, grid=(2, 3), absolute=most,
        BM=16, BN=32, BK=32,
    )  # fmt: skip
    # The loop carries two distances, not blocks of pointers.
    body = code.plan[code.plan.index("body:") : code.plan.rindex("nest over")]
    assert body.count("keeps") == 2, code.plan


VARIANTS = {
    "batches": """
kernel k(a: *f32, b: *f32, out: *f32):
    i, j, l = arange(0, 4)[:, None, None], arange(0, 8)[None, :, None], arange(0, 16)[None, None, :]
    x = load(a + i * 128 + j * 16 + l)
    y = load(b + i * 128 + j * 16 + l)
    at = i * 64 + j * 8 + arange(0, 8)[None, None, :]
    store(out + at, dot(x, permute(y, 0, 2, 1), input_precision="ieee"))
""",
    "transposed": """
kernel k(a: *f32, b: *f32, out: *f32):
    i, j = arange(0, 16), arange(0, 32)
    x, y = load(a + i[:, None] * 32 + j[None, :]), load(b + i[:, None] * 32 + j[None, :])
    p = dot(x, trans(y), input_precision="ieee")
    q = dot(trans(p), trans(p), p, input_precision="ieee")
    q = dot(q, trans(q) * 0.25 + trans(p), input_precision="ieee")
    store(out + i[:, None] * 16 + i[None, :], q)
""",
    "computed_and_transposed": """
kernel k(a: *f32, b: *f32, out: *f32):
    i, j = arange(0, 16), arange(0, 8)
    x = exp(load(a + j[:, None] * 16 + i[None, :]))
    y = exp(load(b + j[:, None] * 16 + i[None, :]))
    p = dot(trans(x), x, input_precision="ieee")
    q = dot(y, trans(y), input_precision="ieee")
    store(out + i[:, None] * 16 + i[None, :], p)
    store(out + 256 + j[:, None] * 8 + j[None, :], q)
""",
    "sums_used_twice": """
kernel k(a: *f32, b: *f32, out: *f32):
    i = arange(0, 16)
    at = i[:, None] * 16 + i[None, :]
    x, y = load(a + at), load(b + at)
    p = dot(x, y, input_precision="ieee")
    q = dot(y, x, p, input_precision="ieee")
    r = dot(q, p, q, input_precision="ieee")
    store(out + at, p + q * r)
""",
    "carried_sums_change_places": """
kernel k(a: *f32, b: *f32, out: *f32):
    i = arange(0, 16)
    at = i[:, None] * 16 + i[None, :]
    x, y = load(a + at), load(b + at)
    p, q = x * 0.25, zeros((16, 16), f32)
    for step in range(3):
        p, q = dot(x, y, q, input_precision="ieee"), p * 0.5
    store(out + at, p - q)
""",
    "a_sum_that_is_read_while_it_grows": """
kernel k(a: *f32, b: *f32, out: *f32):
    i = arange(0, 16)
    at = i[:, None] * 16 + i[None, :]
    x, y = load(a + at) * 0.25, load(b + at) * 0.25
    p, last = zeros((16, 16), f32), zeros((16, 16), f32)
    for step in range(5):
        last = last + p
        p = dot(x, y, p * 0.5, input_precision="ieee")
        if step > 2:
            p = dot(last, y, p, input_precision="ieee")
    store(out + at, p - last)
""",
    "loops_that_end_early": """
kernel k(a: *f32, b: *f32, out: *f32):
    i = arange(0, 16)
    at = i[:, None] * 16 + i[None, :]
    x, y = load(a + at) * 0.25, load(b + at) * 0.25
    p, q = x, y
    while max(max(p, axis=0), axis=0) < 3.0:
        p = dot(x, y, p, input_precision="ieee")
        q = dot(p, q, input_precision="ieee")
        if q.shape[0] > 0:
            q = dot(p, p, q, input_precision="ieee")
        p += 0.5
    store(out + at, p + q)
""",
    "reshaped_factors": """
kernel k(a: *f32, b: *f32, out: *f32):
    i, j = arange(0, 16), arange(0, 32)
    x = load(a + i[:, None] * 32 + j[None, :])
    y = load(b + j[:, None] * 16 + i[None, :]) + 1.0
    p = dot(x, y, input_precision="ieee")
    z = reshape(x, (32, 16)) + reshape(reshape(y, (8, 64)), (32, 16))
    w = reshape(p, (8, 32))
    q = dot(w, z, input_precision="ieee") + dot(w, y, input_precision="ieee")
    store(out + arange(0, 8)[:, None] * 16 + i[None, :], q)
""",
}


@pytest.mark.parametrize("name", VARIANTS)
def test_sums_and_factors_from_anywhere(name: str) -> None:
    a, b = sample((4, 8, 16), "f32"), sample((4, 8, 16), "f32", 1)
    check(VARIANTS[name], a, b, numpy.zeros(512, numpy.float32), tolerance=1e-4, absolute=1e-3)


ATTENTION = """
kernel attention(
    q: *f16, k: *f16, v: *f16, out: *f32, S: i32, D: constexpr, BM: constexpr, BN: constexpr
):
    m, n, d = program_id(0) * BM + arange(0, BM), arange(0, BN), arange(0, D)
    query = load(q + m[:, None] * D + d[None, :], mask=m[:, None] < S, other=0.0)
    high, total = full((BM,), -inf, f32), zeros((BM,), f32)
    acc = zeros((BM, D), f32)
    for at in range(0, S, BN):
        here = at + n
        key = load(k + here[None, :] * D + d[:, None], mask=here[None, :] < S, other=0.0)
        score = where(here[None, :] < S, dot(query, key) * 0.125, -inf)
        new = maximum(high, max(score, axis=1))
        p, scale = exp(score - new[:, None]), exp(high - new)
        total = total * scale + sum(p, axis=1)
        value = load(v + here[:, None] * D + d[None, :], mask=here[:, None] < S, other=0.0)
        acc = dot(p.to(f16), value, acc * scale[:, None])
        high = new
    store(out + m[:, None] * D + d[None, :], acc / total[:, None], mask=m[:, None] < S)
"""


def test_attention() -> None:
    size, depth = 100, 64
    q, k, v = (sample((size, depth), "f16", seed) for seed in range(3))
    out = numpy.zeros((size, depth), numpy.float32)
    check(ATTENTION, q, k, v, out, size, grid=(4,), absolute=1e-3, D=depth, BM=32, BN=16)


SEVEN = """
kernel @seven(%a: ptr<f32>, %b: ptr<f32>, %out: ptr<f32>) {
  %x = arange {start = 0, end = 15} : block<15xi32>
  %y = arange {start = 0, end = 245} : block<245xi32>
  %z = arange {start = 0, end = 147} : block<147xi32>
  %ax = splat %a : block<15xptr<f32>>
  %by = splat %b : block<245xptr<f32>>
  %oz = splat %out : block<147xptr<f32>>
  %ap = add_pointer %ax, %x : block<15xptr<f32>>
  %bp = add_pointer %by, %y : block<245xptr<f32>>
  %op = add_pointer %oz, %z : block<147xptr<f32>>
  %av = load %ap : block<15xf32>
  %bv = load %bp : block<245xf32>
  %am = reshape %av : block<3x5xf32>
  %bt = reshape %bv : block<49x5xf32>
  %bm = permute %bt {order = [1, 0]} : block<5x49xf32>
  %zero = constant {value = 0.0} : block<3x49xf32>
  %p = dot %am, %bm, %zero {precision = "ieee"} : block<3x49xf32>
  %flat = reshape %p : block<147xf32>
  store %op, %flat
  return
}
"""


def test_sizes_that_are_no_powers_of_two() -> None:
    out = numpy.zeros(147, numpy.float32)
    check(parse(SEVEN), sample((15,), "f32"), sample((245,), "f32", 1), out, absolute=1e-5)


def test_code_for_arm() -> None:
    module = lower(PRODUCT.format(left="bf16", right="bf16", sum="f32", precision="tf32"),
                   M=32, N=64, K=16, ADDS=False)  # fmt: skip
    target = cpu_target("aarch64-unknown-linux-gnu")
    assert "fmla" in assembly(compile_module(module, target).llvm, target)


@pytest.mark.skipif(not host_target().triple.startswith("x86_64"), reason="options of x86-64")
@pytest.mark.parametrize("features", ["", "+avx2,+fma,+f16c"])
def test_older_machines(features: str) -> None:
    target = cpu_target(host_target().triple, "x86-64", features)
    module = lower(PRODUCT.format(left="f16", right="f16", sum="f32", precision="tf32"),
                   M=32, N=64, K=16, ADDS=True)  # fmt: skip
    a, b, c = sample((32, 16), "f16"), sample((16, 64), "f16", 1), sample((32, 64), "f32", 2)
    out = numpy.zeros_like(c)
    launch(compile_module(module, target), (1,), [a, b, c, out])
    numpy.testing.assert_allclose(out, exact(a, b)[0] + c, atol=bound(a, b, c, "f32", "tf32"))
