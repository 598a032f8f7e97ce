"""Kernels on the CPU: sizes, shapes, overlapping and unaligned memory, special values, control."""

from __future__ import annotations

import ctypes
import pickle
import re
import threading
from collections.abc import Sequence
from typing import Any

import numpy
import pytest

from blocklang.codegen.cpu import cpu_target, host_target
from blocklang.codegen.cpu.host import assembly
from blocklang.codegen.errors import CodeNotLoadable, UnknownMachine
from blocklang.ir.evaluate import evaluate
from blocklang.runtime.errors import ProgramError
from tests.cpu_kernels import check, compile_module, guarded, launch, lower

SIZES = [1, 3, 64, 257, 1000]


def floats(*shape: int, seed: int = 0) -> numpy.ndarray:
    return numpy.random.default_rng(seed).standard_normal(shape).astype(numpy.float32)


def poison(*shape: int, dtype: Any = numpy.float32) -> numpy.ndarray:
    return numpy.full(shape, 123, dtype)


ADD = """
kernel add(x: *f32, y: *f32, out: *f32, n: i32, BLOCK: constexpr = 128):
    offsets = program_id(0) * BLOCK + arange(0, BLOCK)
    mask = offsets < n
    store(out + offsets, load(x + offsets, mask=mask) + load(y + offsets, mask=mask), mask=mask)
"""

SOFTMAX = """
kernel softmax(x: *f32, y: *f32, stride: i32, n: i32, BLOCK: constexpr):
    row = program_id(0)
    cols = arange(0, BLOCK)
    v = load(x + row * stride + cols, mask=cols < n, other=-inf)
    e = exp(v - max(v, axis=0))
    store(y + row * stride + cols, e / sum(e, axis=0), mask=cols < n)
"""

NORMALISE_ROWS = """
kernel normalise(
    x: *f32, y: *f32, stride: i32, rows: i32, n: i32, ROWS: constexpr, BLOCK: constexpr
):
    row = program_id(0) * ROWS + arange(0, ROWS)
    cols = arange(0, BLOCK)
    offsets = row[:, None] * stride + cols[None, :]
    mask = (row[:, None] < rows) & (cols < n)[None, :]
    v = load(x + offsets, mask=mask, other=0.0)
    centred = where(mask, v - (sum(v, axis=1) / n)[:, None], 0.0)
    scale = 1.0 / sqrt(sum(centred * centred, axis=1) / n + 0.001)
    store(y + offsets, centred * scale[:, None], mask=mask)
"""


@pytest.mark.parametrize("n", SIZES)
def test_vector_add(n: int) -> None:
    check(ADD, floats(n), floats(n, seed=1), poison(n), n, grid=(-(-n // 128),))


@pytest.mark.parametrize("n", SIZES)
def test_softmax(n: int) -> None:
    # Sums are made in another order than the evaluator's.
    check(SOFTMAX, floats(3, n), poison(3, n), n, n, grid=(3,), tolerance=3e-6, BLOCK=1024)


@pytest.mark.parametrize(("rows", "n"), [(1, 1), (7, 33), (4, 64)])
def test_rows_in_blocks_of_two_dimensions(rows: int, n: int) -> None:
    arguments = floats(rows, n), poison(rows, n), n, rows, n
    grid = (-(-rows // 4),)
    check(NORMALISE_ROWS, *arguments, grid=grid, tolerance=1e-5, absolute=1e-6, ROWS=4, BLOCK=64)


def test_three_dimensions_permuted() -> None:
    check(
        """
kernel k(x: *i32, y: *i32):
    i = arange(0, 4)[:, None, None]
    j = arange(0, 8)[None, :, None]
    k = arange(0, 16)[None, None, :]
    v = load(x + i * 128 + j * 16 + k)
    store(y + k * 32 + i * 8 + j, v * 3)
    w = permute(v, (2, 0, 1))
    store(y + 512 + arange(0, 512), reshape(w, (512,)))
""",
        numpy.arange(512, dtype=numpy.int32),
        poison(1024, dtype=numpy.int32),
    )


def test_programs_of_three_dimensions() -> None:
    check(
        """
kernel k(y: *i32):
    x, j, z = program_id(0), program_id(1), program_id(2)
    place = (z * num_programs(1) + j) * num_programs(0) + x
    store(y + place, x + 100 * j + 10000 * z + 1000000 * num_programs(2))
""",
        poison(3 * 4 * 5, dtype=numpy.int32),
        grid=(3, 4, 5),
    )


def test_strides_and_gathers() -> None:
    check(
        """
kernel k(x: *f32, at: *i32, y: *f32, n: i32):
    i = arange(0, 64)
    inside = i < n
    v = load(x + load(at + i, mask=inside, other=0), mask=inside, other=-1.0)
    store(y + i * 3, v + load(x + (63 - i)), mask=i * 3 < n * 3)
""",
        floats(64),
        numpy.random.default_rng(1).permutation(50).astype(numpy.int32),
        poison(150),
        50,
    )


@pytest.mark.parametrize("offset", [1, 2, 3])
def test_unaligned_pointers(offset: int) -> None:
    code = compile_module(lower(ADD))
    memory = numpy.zeros(3 * 4 * 300 + 64, numpy.uint8)
    parts = []
    for index in range(3):
        start = offset + index * 1200
        parts.append(memory[start : start + 1200].view(numpy.float32))
    parts[0][:], parts[1][:] = floats(300), floats(300, seed=1)
    launch(code, (3,), [*parts, 300])
    numpy.testing.assert_array_equal(parts[2], floats(300) + floats(300, seed=1))


@pytest.mark.parametrize("shift", [0, 1, 16, 64, 100, -1, -64])
def test_a_block_is_read_as_a_whole_before_it_is_written(shift: int) -> None:
    module = lower("""
kernel k(x: *f32, y: *f32):
    i = arange(0, 256)
    v = load(x + i)
    store(y + i, v + load(x + (255 - i)))
    store(x + i, v)
""")
    code = compile_module(module)
    memories = []
    for execute in (
        lambda arguments: evaluate(module, arguments),
        lambda arguments: launch(code, (1,), arguments),
    ):
        memory = floats(512)
        execute([memory[100:356], memory[100 + shift : 356 + shift]])
        memories.append(memory)
    numpy.testing.assert_array_equal(memories[1], memories[0])


def test_nothing_is_read_before_the_array() -> None:
    module = lower("""
kernel k(x: *f32, y: *f32):
    i = arange(0, 64)
    store(y + i, load(x + i - 5, mask=i >= 5, other=7.0))
""")
    y = poison(64)
    launch(compile_module(module), (1,), [guarded(floats(59), before=True), y])
    numpy.testing.assert_array_equal(y, numpy.r_[numpy.full(5, 7, numpy.float32), floats(59)])


SPECIAL = numpy.array(
    [numpy.nan, numpy.inf, -numpy.inf, 0.0, -0.0, 1.0, -2.5, 1e-45], numpy.float32
)


def test_special_values() -> None:
    x = numpy.tile(SPECIAL, 8)
    y = numpy.repeat(SPECIAL, 8)
    check(
        """
kernel k(x: *f32, y: *f32, out: *f32):
    i = arange(0, 64)
    a, b = load(x + i), load(y + i)
    store(out + i, a + b)
    store(out + 64 + i, minimum(a, b))
    store(out + 128 + i, maximum(a, b, propagate_nan=PropagateNan.ALL))
    store(out + 192 + i, where(a < b, a, b))
    store(out + 256 + i, (a != b).to(f32))
    store(out + 320 + i, a / b)
    store(out + 384, max(a, axis=0))
    store(out + 385, min(where(a != a, a, a / 0.0 * 0.0), axis=0))
""",
        x,
        y,
        poison(386),
    )


@pytest.mark.parametrize("kind", ["i8", "u8", "i32", "u32", "i64", "u64"])
def test_divisions_that_would_trap(kind: str) -> None:
    dtype = numpy.dtype({"i": "int", "u": "uint"}[kind[0]] + kind[1:])
    info = numpy.iinfo(dtype)
    last = -1 if kind[0] == "i" else 255
    x = [info.min, info.max, 7, 100, info.max - 1, info.min + 1, 0, 1]
    y = [0, info.max, 7, 3, info.min, info.max // 2, 1, last]
    x, y = numpy.array(x * 8, dtype), numpy.array(y, dtype).repeat(8)
    quotient, remainder = poison(64, dtype=dtype), poison(64, dtype=dtype)
    module = lower(f"""
kernel k(x: *{kind}, y: *{kind}, q: *{kind}, r: *{kind}, scalars: *{kind}, n: i32):
    i = arange(0, 64)
    a, b = load(x + i), load(y + i)
    store(q + i, a // b, mask=b != 0)
    store(r + i, a % b, mask=b != 0)
    store(scalars, load(x) // load(y + n))
    store(scalars + 1, load(x) // load(y + 63))
""")
    scalars = poison(2, dtype=dtype)
    launch(compile_module(module), (1,), [x, y, quotient, remainder, scalars, 0])
    wide = [int(a) for a in x], [int(b) for b in y]
    for index, (a, b) in enumerate(zip(*wide, strict=True)):
        if b == 0:
            assert quotient[index] == remainder[index] == 123
            continue
        exact = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        assert int(quotient[index]) == int(numpy.array(exact).astype(dtype)) or (
            exact > info.max and int(quotient[index]) == info.min
        )
        assert int(remainder[index]) == a - exact * b


def test_reductions_of_several_values_and_odd_lengths() -> None:
    check(
        """
function better(a, i, b, j):
    takes = (a > b) | ((a == b) & (i < j))
    return where(takes, a, b), where(takes, i, j)

kernel k(x: *f32, y: *f32, at: *i32, n: i32):
    i = arange(0, 32)
    v = load(x + i[:, None] * 16 + arange(0, 16)[None, :])
    index = broadcast_to(arange(0, 16)[None, :], (32, 16))
    top, place = reduce((v, index), 1, better)
    store(y + i, top)
    store(at + i, place)
    store(y + 32 + arange(0, 16), max(v, axis=0))
""",
        floats(512).round(1),
        poison(48),
        poison(32, dtype=numpy.int32),
        3,
    )


def test_branches_in_a_combination() -> None:
    check(
        """
function larger(a, b):
    if a > b:
        return a
    return b

kernel k(x: *f32, y: *f32):
    store(y, reduce(load(x + arange(0, 256)), 0, larger))
""",
        floats(256),
        poison(1),
    )


@pytest.mark.parametrize(
    "body",
    [
        "a, b = b, a",
        "a += b\n        b += a",
        "a, b = a + 1.0, b + a * sum(a, axis=0)",
        "a = a + ravel(trans(reshape(a, (8, 8))))",
        "a, b = b + max(a, axis=0), a",
        "if k == 1:\n            a = b * 2.0",
    ],
)
def test_carried_blocks(body: str) -> None:
    check(
        f"""
kernel k(x: *f32, y: *f32, n: i32):
    i = arange(0, 64)
    a = load(x + i)
    b = load(x + 64 + i)
    for k in range(n):
        {body}
    store(y + i, a)
    store(y + 64 + i, b)
""",
        floats(128).round(),
        poison(128),
        3,
    )


@pytest.mark.parametrize("n", [0, 1, 4])
def test_carried_pointers(n: int) -> None:
    check(
        """
kernel k(x: *f32, y: *f32, n: i32, stride: i32):
    i = arange(0, 64)
    p = x + i
    a = zeros((64,), f32)
    for k in range(n):
        a += load(p)
        p += stride
    store(y + i, a + load(p))
""",
        floats(400).round(),
        poison(64),
        n,
        65,
    )


@pytest.mark.parametrize("start", [0.0, 5.0, 1000.0])
def test_while_loops(start: float) -> None:
    check(
        """
kernel k(x: *f32, y: *f32, start: f32):
    i = arange(0, 64)
    v = load(x + i)
    s = start
    while s < 100.0:
        v = v * 2.0
        s = s + max(abs(v), axis=0)
    store(y + i, v)
    store(y + 64, s)
""",
        floats(64),
        poison(65),
        start,
    )


def test_atomics_of_parallel_programs() -> None:
    module = lower("""
kernel k(x: *i32, counts: *i32, total: *f32):
    v = load(x + program_id(0) * 64 + arange(0, 64))
    atomic_add(counts + v, 1, mask=v < 10)
    atomic_add(total, 1.0)
""")
    x = numpy.random.default_rng(0).integers(0, 12, 64 * 500).astype(numpy.int32)
    counts, total = numpy.zeros(10, numpy.int32), numpy.zeros(1, numpy.float32)
    launch(compile_module(module), (500,), [x, counts, total], threads=2)
    numpy.testing.assert_array_equal(counts, numpy.bincount(x, minlength=12)[:10])
    assert total[0] == 500


ASSERTED = """
kernel k(x: *i32, y: *i32, n: i32):
    i = arange(0, 64)
    v = load(x + i)
    device_assert(n > 3, "too few")
    device_assert(v >= 0, "negative")
    store(y + i, load(y + v))
"""


def test_assertions() -> None:
    code = compile_module(lower(ASSERTED))
    x, y = numpy.arange(64, dtype=numpy.int32)[::-1].copy(), numpy.arange(64, dtype=numpy.int32)
    launch(code, (1,), [x, y, 4])
    numpy.testing.assert_array_equal(y, x)
    with pytest.raises(ProgramError, match=r"kernel\.bl:5:5: too few"):
        launch(code, (1,), [x, y, 3])
    x[40] = -(2**30)  # were it read through, the process would die
    with pytest.raises(ProgramError, match=r"kernel\.bl:6:5: negative"):
        launch(code, (1,), [x, y, 4])
    numpy.testing.assert_array_equal(y, numpy.arange(64)[::-1])


def test_printing(capfd: pytest.CaptureFixture[str]) -> None:
    module = lower("""
kernel k(x: *f16, n: i32):
    device_print("100% of x: ", load(x + arange(0, 2)))
    device_print("n = ", n, hex=True)
    device_print("done")
""")
    x = numpy.array([1.5, -2], numpy.float16)
    launch(compile_module(module), (2,), [x, 255])
    ctypes.CDLL(None).fflush(None)
    assert capfd.readouterr().out.splitlines() == [
        f"pid ({program}, 0, 0) idx ({line}"
        for program in (0, 1)
        for line in (
            "0) 100% of x: 1.500000",
            "1) 100% of x: -2.000000",
            ") n = ff",
            ") done",
        )
    ]


def test_pointers_in_memory() -> None:
    module = lower("""
kernel k(rows: **f32, y: *f32):
    i = arange(0, 4)
    p = load(rows + i)
    store(y + i[:, None] * 8 + arange(0, 8)[None, :], load(p[:, None] + arange(0, 8)[None, :]))
""")
    rows = [floats(8, seed=s) for s in range(4)]
    pointers = numpy.array([r.ctypes.data for r in rows], numpy.int64)
    y = poison(32)
    launch(compile_module(module), (1,), [pointers, y])
    numpy.testing.assert_array_equal(y, numpy.concatenate(rows))


@pytest.mark.parametrize("kind", ["i1", "i8", "u16", "i64", "f16", "bf16", "f64", "f8e4m3"])
def test_element_types_in_memory(kind: str) -> None:
    import ml_dtypes  # noqa: F401

    from blocklang.ir.types import dtype

    x = numpy.arange(-30, 70).astype(dtype(kind).numpy)
    check(
        f"""
kernel k(x: *{kind}, y: *{kind}, n: i32):
    i = arange(0, 128)
    v = load(x + i, mask=i < n)
    store(y + i, v, mask=i < n)
    store(y + n + i, load(x + (n - 1 - i), mask=i < n), mask=i < n)
""",
        x,
        numpy.zeros(200, x.dtype),
        100,
    )


OTHERS = [
    ("x86_64-unknown-linux-gnu", "x86-64", ""),
    ("x86_64-unknown-linux-gnu", "haswell", "+avx,+avx2,+fma,+f16c"),
]


@pytest.mark.skipif(not host_target().triple.startswith("x86_64"), reason="for x86-64")
@pytest.mark.parametrize(("triple", "name", "features"), OTHERS)
def test_older_processors(triple: str, name: str, features: str) -> None:
    target = cpu_target(triple, name, features)
    if not set(target.features.split(",")) <= {"", *host_target().features.split(",")}:
        pytest.skip("this processor is older still")
    module = lower(SOFTMAX, BLOCK=512)
    y, expected = guarded(poison(3, 257)), poison(3, 257)
    launch(compile_module(module, target), (3,), [guarded(floats(3, 257)), y, 257, 257])
    evaluate(module, [floats(3, 257), expected, 257, 257], (3,))
    numpy.testing.assert_allclose(y, expected, rtol=3e-6)


@pytest.mark.parametrize("text", [ADD, SOFTMAX.replace("constexpr)", "constexpr = 256)"), ASSERTED])
def test_code_for_arm(text: str) -> None:
    target = cpu_target("aarch64-unknown-linux-gnu")
    code = compile_module(lower(text), target)
    assert code.code[:4] == b"\x7fELF"
    assert code.code[18] == 183  # EM_AARCH64
    assert re.search(r"\b(ldp|ldr)\s+q\d", assembly(code.llvm, target))
    with pytest.raises(CodeNotLoadable):
        _ = code.address


def test_a_machine_that_llvm_does_not_know() -> None:
    with pytest.raises(UnknownMachine):
        compile_module(lower(ADD), cpu_target("z80-unknown-cpm"))


def test_code_can_be_stored() -> None:
    code = pickle.loads(pickle.dumps(compile_module(lower(ADD))))
    y = poison(100)
    launch(code, (1,), [floats(100), floats(100), y, 100])
    numpy.testing.assert_array_equal(y, 2 * floats(100))


def test_compiling_in_several_threads() -> None:
    failures: list[BaseException] = []

    def work(sizes: Sequence[int]) -> None:
        try:
            for size in sizes:
                code = compile_module(lower(ADD, BLOCK=size))
                y = poison(size)
                launch(code, (1,), [floats(size), floats(size), y, size])
                numpy.testing.assert_array_equal(y, 2 * floats(size))
        except BaseException as problem:
            failures.append(problem)

    threads = [threading.Thread(target=work, args=([32 << k, 64 << k],)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
