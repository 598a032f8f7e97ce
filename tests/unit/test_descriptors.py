"""Tensor descriptors and block pointers on the CPU, against NumPy, in both languages."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import blocklang
import blocklang.language as bl
from blocklang import TensorDescriptor
from blocklang.frontend.lower import lower_kernel
from blocklang.frontend.text import load_text
from blocklang.ir.evaluate import evaluate
from blocklang.ir.printer import print_module
from blocklang.kernel import JitFunction
from blocklang.runtime.errors import (
    ArgumentTypeError,
    DescriptorError,
    ReadOnlyArrayError,
)
from blocklang.signature import bind_signature

SIZES = (1, 17, 100, 129)


def kernels(text: str) -> dict[str, JitFunction]:
    """The kernels of a `.bl` text."""
    return {name: JitFunction(None, tree) for name, tree in load_text(text, "tensor.bl").items()}


def array(*shape: int, dtype: Any = np.float32) -> Any:
    """Different numbers, all of them exact in 16 bits of float."""
    return (np.arange(np.prod(shape)) % 251 - 100).reshape(shape).astype(dtype)


@blocklang.jit
def scale(x, y, m, n, factor, ROWS: bl.constexpr, COLS: bl.constexpr):
    source = bl.make_tensor_descriptor(x, [m, n], [n, 1], [ROWS, COLS])
    target = bl.make_tensor_descriptor(y, [m, n], [n, 1], [ROWS, COLS])
    i = bl.program_id(0) * ROWS
    for j in range(0, n, COLS):
        target.store([i, j], source.load([i, j]) * factor)


SCALE = """
kernel scale(x: *f32, y: *f32, m: i32, n: i32, factor: f32, ROWS: constexpr, COLS: constexpr):
    source = make_tensor_descriptor(x, [m, n], [n, 1], [ROWS, COLS])
    target = make_tensor_descriptor(y, [m, n], [n, 1], [ROWS, COLS])
    i = program_id(0) * ROWS
    for j in range(0, n, COLS):
        target.store([i, j], source.load([i, j]) * factor)
"""


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("m", SIZES)
def test_odd_shapes(m: int, n: int) -> None:
    x = array(m, n)
    for kernel in (scale, kernels(SCALE)["scale"]):
        y = np.zeros_like(x)
        kernel[(blocklang.cdiv(m, 16),)](x, y, m, n, 2.0, ROWS=16, COLS=32)
        np.testing.assert_array_equal(y, x * 2)


def test_both_languages_mean_the_same() -> None:
    types = {"x": "*fp32", "y": "*fp32", "m": "i32", "n": "i32", "factor": "fp32"}
    texts = []
    for tree in (scale.__blocklang_function__, load_text(SCALE, "tensor.bl")["scale"]):
        bound = bind_signature(tree, types, {"ROWS": 16, "COLS": 32})
        module = lower_kernel(tree, bound.types, bound.facts, bound.constexprs)
        texts.append(print_module(module, locations=False))
    assert texts[0] == texts[1]


@blocklang.jit
def window(x, y, m, n, i, j, PADDING: bl.constexpr):
    rows = bl.make_tensor_descriptor(x, [m, n], [n, 1], [4, 8], padding_option=PADDING)
    out = bl.make_tensor_descriptor(y, [4, 8], [8, 1], [4, 8])
    out.store([0, 0], rows.load([i, j]))


def padded(x: Any, i: int, j: int, padding: float) -> Any:
    """The window of 4 x 8 at (i, j), by the definition."""
    expected = np.full((4, 8), padding, x.dtype)
    for a in range(4):
        for b in range(8):
            if 0 <= i + a < x.shape[0] and 0 <= j + b < x.shape[1]:
                expected[a, b] = x[i + a, j + b]
    return expected


@pytest.mark.parametrize("padding", ["zero", "nan"])
@pytest.mark.parametrize("i", [-(2**31), -5, -3, 0, 4, 6, 7, 2**31 - 1])
@pytest.mark.parametrize("j", [-9, -7, 0, 5, 9, 10, 2**31 - 7])
def test_padding_on_all_sides(i: int, j: int, padding: str) -> None:
    x = array(7, 10, dtype=ml_dtypes.bfloat16)
    y = np.ones((4, 8), x.dtype)
    window[(1,)](x, y, 7, 10, i, j, PADDING=padding)
    expected = padded(x, i, j, float("nan") if padding == "nan" else 0)
    np.testing.assert_array_equal(y.astype(np.float32), expected.astype(np.float32))


@blocklang.jit
def put(y, m, n, i, j):
    tensor = bl.make_tensor_descriptor(y, [m, n], [n, 1], [4, 8])
    tensor.store([i, j], 1)


@pytest.mark.parametrize("i", [-5, -3, 0, 6, 7])
@pytest.mark.parametrize("j", [-9, -7, 9, 10])
def test_nothing_outside_is_written(i: int, j: int) -> None:
    whole = np.zeros((9, 10), np.int16)
    put[(1,)](whole[1:8], 7, 10, i, j)
    expected = np.zeros_like(whole)
    expected[1:8][max(i, 0) : max(i + 4, 0), max(j, 0) : max(j + 8, 0)] = 1
    np.testing.assert_array_equal(whole, expected)


@blocklang.jit
def transpose(x, y, m, n, ORDER: bl.constexpr):
    i, j = bl.program_id(0) * 8, bl.program_id(1) * 16
    source = bl.make_block_ptr(x, [n, m], [1, n], [j, i], [16, 8], order=ORDER)
    target = bl.make_block_ptr(y, [n, m], [m, 1], [j, i], [16, 8], order=[1, 0])
    block = bl.load(source, boundary_check=(0, 1), padding_option="zero")
    bl.store(target, block, boundary_check=(0, 1))


TRANSPOSE = """
kernel transpose(x: *f32, y: *f32, m: i32, n: i32, ORDER: constexpr):
    i, j = program_id(0) * 8, program_id(1) * 16
    source = make_block_ptr(x, [n, m], [1, n], [j, i], [16, 8], order=ORDER)
    target = make_block_ptr(y, [n, m], [m, 1], [j, i], [16, 8], order=[1, 0])
    block = load(source, boundary_check=(0, 1), padding_option="zero")
    store(target, block, boundary_check=(0, 1))
"""


@pytest.mark.parametrize(("m", "n"), [(1, 129), (17, 17), (100, 1), (129, 100)])
def test_strides_of_block_pointers(m: int, n: int) -> None:
    x = array(m, n)
    for kernel in (transpose, kernels(TRANSPOSE)["transpose"]):
        y = np.zeros((n, m), np.float32)
        kernel[blocklang.cdiv(m, 8), blocklang.cdiv(n, 16)](x, y, m, n, ORDER=(0, 1))
        np.testing.assert_array_equal(y, x.T)


@blocklang.jit
def row_sums(x, y, m, n, BACKWARDS: bl.constexpr):
    i = bl.program_id(0) * 4
    blocks = bl.cdiv(n, 16)
    start = (blocks - 1) * 16 if BACKWARDS else 0
    step = -16 if BACKWARDS else 16
    pointer = bl.make_block_ptr(x, [m, n], [n, 1], [i, start], [4, 16], order=[1, 0])
    total = bl.zeros([4, 16], bl.float32)
    for _ in range(blocks):
        total += bl.load(pointer, boundary_check=[0, 1])
        pointer = bl.advance(pointer, [0, step])
    out = bl.make_block_ptr(y, [m], [1], [i], [4], order=[0])
    bl.store(out, bl.sum(total, axis=1), boundary_check=[0])


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("n", SIZES)
def test_advance_in_a_loop(n: int, backwards: bool) -> None:
    x, y = array(17, n), np.zeros(17, np.float32)
    row_sums[(5,)](x, y, 17, n, BACKWARDS=backwards)
    np.testing.assert_array_equal(y, x.sum(axis=1))


@blocklang.jit
def choose(x, y, out, n, first, by_pointer):
    a = bl.make_tensor_descriptor(x, [n], [1], [32])
    b = bl.make_tensor_descriptor(y, [n], [1], [32])
    p = bl.make_block_ptr(x, [n], [1], [0], [32], order=[0])
    if first > 0:
        chosen = a
    else:
        chosen = b
        p = bl.advance(p, [4])
    value = bl.load(p, boundary_check=[0]) if by_pointer > 0 else chosen.load([0])
    bl.make_tensor_descriptor(out, [n], [1], [32]).store([0], value)


def test_branches_merge_descriptors() -> None:
    x, y, out = array(20), array(20) * 3, np.zeros(20, np.float32)
    for first, by_pointer, expected in (
        (1, 0, x),
        (0, 0, y),
        (1, 1, x),
        (0, 1, np.append(x[4:], np.zeros(4))),
    ):
        choose[(1,)](x, y, out, 20, first, by_pointer)
        np.testing.assert_array_equal(out, expected)


@blocklang.jit
def halves(descriptor, i):
    return descriptor.load([i]), descriptor


@blocklang.jit
def by_function(x, y, n):
    values, same = halves(bl.make_tensor_descriptor(x, [n], [1], [16]), bl.program_id(0) * 16)
    out = bl.make_tensor_descriptor(y, same.shape, [same.strides[0]], same.block_shape)
    bl.store_tensor_descriptor(
        out, [bl.program_id(0) * 16], values + bl.load_tensor_descriptor(same, [0]).to(same.dtype)
    )


@blocklang.jit
def described(value, n):
    """As kernels are written that take descriptors and pointers alike."""
    if isinstance(value, bl.tensor_descriptor):
        return value
    return bl.make_tensor_descriptor(value, [n], [1], [16])


@blocklang.jit
def either(x, y, n):
    bl.static_assert(not isinstance(described(x, n), bl.constexpr))
    described(y, n).store([0], described(x, n).load([0]))


def test_descriptors_have_a_type() -> None:
    x = array(20)
    for wrap in (lambda a: a, lambda a: TensorDescriptor.from_tensor(a, [16])):
        y = np.zeros(20, np.float32)
        either[(1,)](wrap(x), wrap(y), 20)
        np.testing.assert_array_equal(y[:16], x[:16])
    text = """
kernel k(x: tensordesc<f32[16]>):
    if isinstance(x, tensor_descriptor):
        x.store([0], 1)
"""
    kernels(text)["k"][(1,)](x)
    assert (x[:16] == 1).all()


def test_functions_take_and_return_descriptors() -> None:
    x, y = array(40), np.zeros(40, np.float32)
    by_function[(3,)](x, y, 40)
    np.testing.assert_array_equal(y, x + np.tile(x[:16], 3)[:40])


@blocklang.jit
def add_rows(x, sums, m, n):
    rows = bl.make_tensor_descriptor(x, [m, n], [n, 1], [1, 16])
    total = bl.make_tensor_descriptor(sums, [1, n], [n, 1], [1, 16])
    total.atomic_add([0, -3], rows.load([bl.program_id(0), -3]))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float16])
def test_atomic_add(dtype: Any) -> None:
    x, sums = array(20, 9, dtype=dtype), np.zeros(9, dtype)
    add_rows[(20,)](x, sums, 20, 9)
    np.testing.assert_array_equal(sums, x.sum(axis=0))


@blocklang.jit
def invert(x, y, n):
    source = bl.make_tensor_descriptor(x, [n], [1], [16])
    target = bl.make_tensor_descriptor(y, [n], [1], [16])
    target.store([0], ~source.load([0]))


def test_booleans() -> None:
    x, y = array(11) > 0, np.zeros(11, bool)
    invert[(1,)](x, y, 11)
    np.testing.assert_array_equal(y, ~x)


RANKS = {
    rank: f"""
kernel k(
    x: tensordesc<f32[{", ".join(["2"] * rank)}]>,
    y: tensordesc<f32[{", ".join(["2"] * rank)}]>,
    i: i32,
):
    y.store([{", ".join(["i"] * rank)}], x.load([{", ".join(["i"] * rank)}]) + 1)
"""
    for rank in range(1, 6)
}


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("i", [-1, 0, 2])
def test_ranks(rank: int, i: int) -> None:
    x = array(*[3] * rank)
    y = np.zeros_like(x)
    kernels(RANKS[rank])["k"][(1,)](x, y, i)
    place = (slice(max(i, 0), i + 2),) * rank
    expected = np.zeros_like(x)
    expected[place] = x[place] + 1
    np.testing.assert_array_equal(y, expected)


MULTIPLY = """
kernel multiply(
    a: tensordesc<f16[16, 32]>, b: *f16, c: tensordesc<f32[16, 16]>, n: i32, k: i32, stride: i32
):
    i, j = program_id(0) * 16, program_id(1) * 16
    columns = make_block_ptr(b, [k, n], [1, stride], [0, j], [32, 16], order=[0, 1])
    total = zeros([16, 16], f32)
    for l in range(0, k, 32):
        total = dot(a.load([i, l]), load(columns, boundary_check=[0, 1]), total)
        columns = advance(columns, [32, 0])
    c.store([i, j], total)
"""


@pytest.mark.parametrize(("m", "n", "k"), [(16, 16, 32), (17, 33, 100), (1, 5, 0)])
def test_matrix_product(m: int, n: int, k: int) -> None:
    a, b = array(m, k, dtype=np.float16), array(n, k, dtype=np.float16)
    c = np.ones((m, n), np.float32)
    grid = blocklang.cdiv(m, 16), blocklang.cdiv(n, 16)
    kernels(MULTIPLY)["multiply"][grid](a, b, c, n, k, k)
    np.testing.assert_allclose(c, a.astype(np.float32) @ b.T.astype(np.float32), rtol=1e-5)


@blocklang.jit
def product(
    a, b, c, m, n, k,
    BM: bl.constexpr, BN: bl.constexpr, BK: bl.constexpr, FLATTEN: bl.constexpr,
):  # fmt: skip
    across = bl.cdiv(n, BN)
    count = bl.cdiv(m, BM) * across
    for tile in bl.range(bl.program_id(0), count, bl.num_programs(0), flatten=FLATTEN):
        i, j = tile // across * BM, tile % across * BN
        rows = bl.make_block_ptr(a, [m, k], [k, 1], [i, 0], [BM, BK], order=[1, 0])
        columns = bl.make_block_ptr(b, [k, n], [n, 1], [0, j], [BK, BN], order=[1, 0])
        total = bl.zeros((BM, BN), bl.float32)
        for _ in range(0, k, BK):
            x = bl.load(rows, boundary_check=(0, 1))
            total = bl.dot(x, bl.load(columns, boundary_check=(0, 1)), total)
            rows, columns = bl.advance(rows, [0, BK]), bl.advance(columns, [BK, 0])
        out = bl.make_block_ptr(c, [m, n], [n, 1], [i, j], [BM, BN], order=[1, 0])
        bl.store(out, total, boundary_check=(0, 1))


PRODUCT = """
kernel product(
    a: *f16 divisible 16, b: *f16 divisible 16, c: *f32 divisible 16, m: i32, n: i32, k: i32,
    BM: constexpr, BN: constexpr, BK: constexpr, FLATTEN: constexpr
):
    across = cdiv(n, BN)
    count = cdiv(m, BM) * across
    for tile in range(program_id(0), count, num_programs(0), flatten=FLATTEN):
        i, j = tile // across * BM, tile % across * BN
        rows = make_block_ptr(a, [m, k], [k, 1], [i, 0], [BM, BK], order=[1, 0])
        columns = make_block_ptr(b, [k, n], [n, 1], [0, j], [BK, BN], order=[1, 0])
        total = zeros((BM, BN), f32)
        for _ in range(0, k, BK):
            x = load(rows, boundary_check=(0, 1))
            total = dot(x, load(columns, boundary_check=(0, 1)), total)
            rows, columns = advance(rows, [0, BK]), advance(columns, [BK, 0])
        out = make_block_ptr(c, [m, n], [n, 1], [i, j], [BM, BN], order=[1, 0])
        store(out, total, boundary_check=(0, 1))
"""
SIZES_OF_PRODUCTS = [(128, 128, 128), (200, 264, 136), (65, 33, 100), (1, 1, 1)]


@pytest.mark.parametrize(("m", "n", "k"), SIZES_OF_PRODUCTS)
def test_product_by_block_pointers(m: int, n: int, k: int) -> None:
    a, b = array(m, k, dtype=np.float16), array(k, n, dtype=np.float16)
    for kernel in (product, kernels(PRODUCT)["product"]):
        c = np.full((m, n), np.nan, np.float32)
        kernel[(3,)](a, b, c, m, n, k, BM=64, BN=64, BK=64, FLATTEN=False)
        np.testing.assert_allclose(c, a.astype(np.float32) @ b.astype(np.float32), rtol=1e-5)


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_products_by_block_pointers_are_overlapped(target: str) -> None:
    """With copies by what the target has for them, whether or not `flatten` asks for it."""
    types = {**dict.fromkeys("ab", "*fp16:16"), "c": "*fp32:16", **dict.fromkeys("mnk", "i32:16")}
    sizes = {"BM": 64, "BN": 64, "BK": 64}
    plain, asked = (
        product.compile(types, {**sizes, "FLATTEN": flatten}, target).asm["ptx"]
        for flatten in (False, True)
    )
    assert ("cp.async.bulk.tensor" if target == "sm_90a" else "cp.async.cg") in plain
    assert plain == asked


def test_numbers_that_do_not_fit() -> None:
    source = """
kernel k(x: *f32, n: i32):
    d = make_tensor_descriptor(x, [2147483648], [1], [16])
"""
    with pytest.raises(blocklang.CompileError, match="2147483648 does not fit"):
        kernels(source)["k"].compile()


# ---------------------------------------------------------------- descriptors of the host


@blocklang.jit
def copy(source, target, factor):
    i = bl.program_id(0) * source.block_shape[0]
    for j in range(0, source.shape[1], source.block_shape[1]):
        target.store([i, j], source.load([i, j]) * factor)


def test_descriptors_of_the_host() -> None:
    x = array(33, 77)
    wide = np.zeros((33, 100), np.float32)
    target = TensorDescriptor(
        wide, [33, 70], wide.strides[0] // 4 * np.array([1, 0]) + [0, 1], [16, 32]
    )
    kernel = copy[(3,)](TensorDescriptor.from_tensor(x, [16, 32]), target, 2.0)
    np.testing.assert_array_equal(wide[:, :70], x[:, :70] * 2)
    assert not wide[:, 70:].any()
    assert [a["name"] for a in kernel.metadata["arguments"]] == [
        "source", "source_shape_0", "source_shape_1", "source_stride_0",
        "target", "target_shape_0", "target_shape_1", "target_stride_0",
        "factor",
    ]  # fmt: skip


def test_specialisation() -> None:
    """Kernels differ by block shape and padding, and by what divides pointer and strides."""
    x, y = array(16, 32), np.zeros((16, 32), np.float32)
    target = TensorDescriptor.from_tensor(y, [8, 8])
    source = TensorDescriptor.from_tensor(x, [8, 8])
    first = copy[(2,)](source, target, 2.0)
    assert copy[(2,)](TensorDescriptor.from_tensor(x, [8, 8]), target, 3.0) is first
    arguments = {a["name"]: a["divisible"] for a in first.metadata["arguments"]}
    assert arguments["source_stride_0"] == 16
    narrow = TensorDescriptor(x, [16, 20], [20, 1], [8, 8])
    assert copy[(2,)](narrow, target, 2.0) is not first
    source.block_shape = [16, 16]
    target.block_shape = [16, 16]
    assert copy[(1,)](source, target, 2.0) is not first
    np.testing.assert_array_equal(y, x * 2)
    source.padding = "nan"
    target.shape = [16, 40]
    target.base = np.zeros(16 * 40, np.float32)
    target.strides = [40, 1]
    source.block_shape = target.block_shape = [16, 64]
    copy[(1,)](source, target, 1.0)
    result = target.base.reshape(16, 40)
    np.testing.assert_array_equal(result[:, :32], x)
    assert np.isnan(result[:, 32:]).all()


def test_sizes_of_one_are_compiled_in() -> None:
    x, y = array(1, 32), np.zeros((1, 32), np.float32)
    kernel = copy[(1,)](
        TensorDescriptor.from_tensor(x, [1, 32]), TensorDescriptor.from_tensor(y, [1, 32]), 2.0
    )
    assert "source_shape_0" not in [a["name"] for a in kernel.metadata["arguments"]]
    np.testing.assert_array_equal(y, x * 2)


def test_a_parameter_may_have_the_name_of_a_part() -> None:
    source = """
kernel k(x: tensordesc<f32[16]>, x_shape_0: i32):
    x.store([0], x_shape_0)
"""
    x = np.zeros(20, np.float32)
    kernel = kernels(source)["k"][(1,)](x, 7)
    assert [a["name"] for a in kernel.metadata["arguments"]] == ["x", "x__shape_0", "x_shape_0"]
    np.testing.assert_array_equal(x, [7] * 16 + [0] * 4)


DECLARED = """
kernel copy(source: tensordesc<f16[16, N], nan> divisible 16, target: tensordesc<f16[16, N]>,
            N: constexpr):
    target.store([0, 0], source.load([-1, 0]))
"""


def test_declared_descriptors_take_arrays() -> None:
    x, y = array(20, 32, dtype=np.float16), np.zeros((16, 32), np.float16)
    kernels(DECLARED)["copy"][(1,)](x, y, N=32)
    assert np.isnan(y[0]).all()
    np.testing.assert_array_equal(y[1:], x[:15])
    x = array(20, 33, dtype=np.float16)
    with pytest.raises(blocklang.CompileError, match="'source_stride_0' is not divisible by 16"):
        kernels(DECLARED)["copy"][(1,)](x, y, N=32)


def test_compilation_ahead_of_time() -> None:
    kernel = kernels(DECLARED)["copy"].compile(constexprs={"N": 64}, target="sm_80")
    divisible = {a["name"]: a["divisible"] for a in kernel.metadata["arguments"]}
    assert divisible["source"] == divisible["source_stride_0"] == 16
    assert divisible["source_shape_1"] == divisible["target"] == 1
    described = "tensordesc<fp32[32, 64]>:16"
    kernel = copy.compile(
        {"source": described, "target": described, "factor": "fp32"}, target="sm_80"
    )
    assert kernel.metadata["arguments"][0]["divisible"] == 16
    assert kernel.asm["bl"].count("tensordesc<f32[32, 64]> divisible 16") == 2


@pytest.mark.parametrize(
    "text", ["tensordesc<f32>", "tensordesc<f32[3]>", "tensordesc<i32[4], nan>"]
)
def test_types_that_are_none(text: str) -> None:
    with pytest.raises(blocklang.CompileError, match="is not a type"):
        copy.compile({"source": text, "target": text, "factor": "fp32"})


def test_wrong_descriptors() -> None:
    x = array(4, 8)
    for arguments, text in (
        ((x, [4, 8], [8], [4, 4]), "strides \\[8\\]"),
        ((x, [4, 8], [8, 2], [4, 4]), "the last stride of a tensor descriptor is 2"),
        ((x, [4, -8], [8, 1], [4, 4]), "the shape \\[4, -8\\]"),
        ((x, [4, 8], [8, 1], [4, 3]), "3 is no power of two"),
        ((x, [4, 8], [8, 1], [4, 4], "one"), "'one' is no padding"),
        ((x, [4, 8.5], [8, 1], [4, 4]), "the shape of a tensor descriptor is"),
    ):
        with pytest.raises(DescriptorError, match=text):
            TensorDescriptor(*arguments)  # type: ignore[arg-type]
    descriptor = TensorDescriptor.from_tensor(x, [4, 4])
    descriptor.block_shape = [4]
    with pytest.raises(DescriptorError, match="'source' of copy"):
        copy[(1,)](descriptor, TensorDescriptor.from_tensor(x, [4, 4]), 2.0)
    with pytest.raises(DescriptorError, match="the base of a tensor descriptor is 3"):
        copy[(1,)](TensorDescriptor(3, [4], [1], [4]), 1, 2.0)


def test_read_only_arrays() -> None:
    x, y = array(4, 8), array(4, 8)
    y.flags.writeable = False
    with pytest.raises(ReadOnlyArrayError, match="copy writes to 'target'"):
        copy[(1,)](
            TensorDescriptor.from_tensor(x, [4, 8]), TensorDescriptor.from_tensor(y, [4, 8]), 2
        )


def test_a_descriptor_for_a_pointer() -> None:
    kernel = kernels("kernel k(x: *f32):\n    store(x, 1)\n")["k"]
    with pytest.raises(ArgumentTypeError, match="must be an array of f32, not a tensor descriptor"):
        kernel[(1,)](TensorDescriptor.from_tensor(array(4), [4]))


class Exported:
    """An array that offers DLPack alone."""

    def __init__(self, array: Any) -> None:
        self.array, self.shape = array, array.shape

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def test_arrays_of_other_libraries() -> None:
    x, y = array(8, 16), np.zeros((8, 8), np.float32)
    source = TensorDescriptor.from_tensor(Exported(x[:, 8:]), [8, 8])
    assert source.strides == (16, 1)
    copy[(1,)](source, TensorDescriptor.from_tensor(Exported(y), [8, 8]), 1.0)
    np.testing.assert_array_equal(y, x[:, 8:])


def test_the_evaluator_agrees() -> None:
    tree = window.__blocklang_function__
    types = {"x": "*i8", "y": "*i8", "m": "i32", "n": "i32", "i": "i32", "j": "i32"}
    bound = bind_signature(tree, types, {"PADDING": "zero"})
    module = lower_kernel(tree, bound.types, bound.facts, bound.constexprs)
    x, y = array(7, 10, dtype=np.int8), np.ones((4, 8), np.int8)
    evaluate(module, [x, y, 7, 10, -1, 4])
    np.testing.assert_array_equal(y, padded(x, -1, 4, 0))
