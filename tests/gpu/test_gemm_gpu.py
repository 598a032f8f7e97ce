"""The matrix products of examples/ on a real GPU: every kernel, dtype and end against float64, for
shapes that the accelerators move and for odd ones, in many configurations.

Matrices and exact results are made once a process; nobody writes to them.
"""

from __future__ import annotations

import functools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import blocklang
from blocklang.runtime import cuda, device_array
from examples import gemm, harness
from examples.rounding import Rounded
from tests.ptx_machine import round_tf32
from tests.unit.test_gemm import ACTIVATIONS, FLOAT8, close, matrix

pytestmark = pytest.mark.gpu

BF16 = ml_dtypes.bfloat16
DTYPES = pytest.mark.parametrize("dtype", [np.float16, BF16, np.float32, FLOAT8, np.int8])
# Whole tiles, parts of tiles, rows that are not aligned, few rows, one element.
SHAPES = pytest.mark.parametrize(
    "shape",
    [(256, 512, 512), (208, 336, 304), (130, 257, 33), (16, 512, 1024), (1, 1, 1)],
    ids=lambda shape: "x".join(map(str, shape)),
)


def tile(dtype: Any, m: int = 64, n: int = 128, line: int = 128) -> dict[str, int]:
    """The sizes of a tile whose steps have `line` bytes."""
    return {"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": line // np.dtype(dtype).itemsize, "GROUP": 8}


@functools.cache
def operands(shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
    """a and the transposed b, on the host; behind a batch, m, n and k."""
    *batch, m, n, k = shape
    return matrix(*batch, m, k, dtype=dtype), matrix(*batch, n, k, dtype=dtype, seed=1)


@functools.cache
def exact(shape: tuple[int, ...], dtype: Any) -> Any:
    """a @ b.T, with bounds but for integers, which are exact as float64, too."""
    a, b = operands(shape, dtype)
    if dtype == np.int8:
        found = a.astype(np.float64) @ b.swapaxes(-1, -2).astype(np.float64)
        return found.astype(np.int32)
    return gemm.product(Rounded(a), Rounded(b), dtype)


def result(shape: tuple[int, ...], dtype: Any) -> Any:
    """An array on the GPU for the product of matrices of a dtype."""
    kind = {FLOAT8: BF16, np.int8: np.int32}.get(dtype, dtype)
    return device_array(np.full(shape, 7, kind))


def right(c: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Hold an array on the GPU to be a @ b.T."""
    if dtype == np.int8:
        np.testing.assert_array_equal(c.to_host(), exact(shape, dtype))
    else:
        close(c.to_host(), exact(shape, dtype))


@DTYPES
@SHAPES
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("programs", [3, 1000])
def test_persistent(shape: Any, dtype: Any, transposed: bool, programs: int) -> None:
    a, b = operands(shape, dtype)
    c = result(shape[:2], dtype)
    given = b if transposed else np.ascontiguousarray(b.T)
    (count,) = gemm.tiles({**tile(dtype), "m": shape[0], "n": shape[1]})
    grid = (min(programs, count),)
    arguments = (device_array(a), device_array(given), c, *shape)
    gemm.gemm[grid](*arguments, TRANSPOSED=transposed, **tile(dtype))
    right(c, shape, dtype)


@DTYPES
@SHAPES
@pytest.mark.parametrize("transposed", [True, False])
def test_pointers(shape: Any, dtype: Any, transposed: bool) -> None:
    a, b = operands(shape, dtype)
    c = result(shape[:2], dtype)
    given = b if transposed else np.ascontiguousarray(b.T)
    gemm.launch_pointers(device_array(a), device_array(given), c, transposed)
    right(c, shape, dtype)


@DTYPES
@SHAPES
def test_descriptors_of_the_host(shape: Any, dtype: Any) -> None:
    a, b = operands(shape, dtype)
    c = result(shape[:2], dtype)
    gemm.launch_described(device_array(a), device_array(b), c)
    right(c, shape, dtype)


@DTYPES
@SHAPES
def test_batches(shape: Any, dtype: Any) -> None:
    m, n, k = shape
    a, b = operands((3, *shape), dtype)
    c = result((3, m, n), dtype)
    gemm.gemm_batched[(5,)](device_array(a), device_array(b), c, 3, m, n, k, **tile(dtype))
    right(c, (3, *shape), dtype)


@DTYPES
@SHAPES
@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("add", [False, True])
def test_shared_sums(shape: Any, dtype: Any, splits: int, add: bool) -> None:
    m, n, k = shape
    a, b = operands(shape, dtype)
    kind = np.int32 if dtype == np.int8 else np.float32
    parts = device_array(np.zeros((m, n) if add else (splits, m, n), kind))
    gemm.gemm_split[(7,)](
        device_array(a), device_array(b), parts, m, n, k, splits,
        TRANSPOSED=True, ADD=add, **tile(dtype),
    )  # fmt: skip
    c = parts
    if not add:
        c = result((m, n), dtype)
        gemm.add_parts[(blocklang.cdiv(m * n, 1024),)](parts, c, splits, m * n, BLOCK=1024)
    right(c, shape, dtype)


@pytest.mark.parametrize("dtype", [BF16, np.float32])
@pytest.mark.parametrize("shape", [(512, 512, 512), (560, 816, 1040)], ids=["even", "odd"])
def test_sums_that_are_added_in_pieces(shape: Any, dtype: Any) -> None:
    """A tile of float32 fits beside four stages in pieces only."""
    m, n, k = shape
    a, b = operands(shape, dtype)
    parts = device_array(np.zeros((m, n), np.float32))
    sizes = tile(dtype, 128, 256)
    gemm.gemm_split[(5,)](
        device_array(a), device_array(b), parts, m, n, k, 2,
        TRANSPOSED=True, ADD=True, **sizes, num_warps=8, num_stages=4,
    )  # fmt: skip
    right(parts, shape, dtype)


def test_copies_round_to_tf32() -> None:
    """What the tensor memory accelerator brings is rounded to nearest, not cut off."""
    if cuda.device(0).capability[0] != 9:
        pytest.skip("only these GPUs multiply what copies have brought")
    a, b = matrix(256, 512, dtype=np.float32), matrix(384, 512, dtype=np.float32, seed=1)
    # Nothing lies in the middle between two numbers: where that goes, nobody has written down.
    a, b = ((each.view(np.uint32) | 1).view(np.float32) for each in (a, b))
    a[0, 0], a[1, 0] = np.inf, np.nan
    c = device_array(np.full((256, 384), np.nan, np.float32))
    gemm.gemm[(4,)](
        device_array(a), device_array(b), c, 256, 384, 512, TRANSPOSED=True, **tile(np.float32)
    )
    infinite, nothing, *others = c.to_host()
    np.testing.assert_array_equal(infinite, np.where(b[:, 0] > 0, np.inf, -np.inf))
    assert np.isnan(nothing).all()
    x, y = (round_tf32(each).astype(np.float64) for each in (a[2:], b))
    size = np.abs(x) @ np.abs(y.T)
    assert (np.abs(others - x @ y.T) <= 1e-5 * size).all()


@SHAPES
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_ends(shape: Any, activation: str | None) -> None:
    m, n, k = shape
    a, b = operands(shape, BF16)
    extras = {
        "bias": matrix(n, dtype=np.float32), "residual": matrix(m, n, dtype=BF16, seed=2),
        "row_scale": matrix(m, dtype=np.float32) / 2,
        "column_scale": matrix(n, dtype=np.float32) / 2,
    }  # fmt: skip
    c, scale = result((m, n), BF16), 0.5 / k**0.5
    arrays = [device_array(extras[name]) for name in extras]
    gemm.gemm_fused[(3,)](
        device_array(a), device_array(b), c, *arrays, m, n, k, scale,
        TRANSPOSED=True, ACTIVATION=activation, **tile(BF16),
    )  # fmt: skip
    r = {name: Rounded(array) for name, array in extras.items()}
    v = exact(shape, BF16) * scale
    v = v * r["row_scale"][:, None] * r["column_scale"][None, :] + r["bias"]
    close(c.to_host(), ACTIVATIONS[activation](v) + r["residual"])


@pytest.mark.parametrize("part", range(6))
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("itemsize", [1, 2, 4])
def test_every_configuration(itemsize: int, transposed: bool, part: int) -> None:
    """All that is tried for large matrices, on one that has parts of tiles and several turns; a
    part of it in each test, so that processes share the work.
    """
    dtype = {1: FLOAT8, 2: BF16, 4: np.float32}[itemsize]
    shape = (560, 816, 1040)
    a, b = operands(shape, dtype)
    given = b if transposed else np.ascontiguousarray(b.T)
    arguments = {"a": device_array(a), "b": device_array(given), "c": result(shape[:2], dtype)}
    arguments |= dict(zip("mnk", shape, strict=True))
    tried = gemm.suitable(gemm.configurations(), arguments)
    assert len(tried) > 15
    for config in tried[part::6]:
        arguments["c"] = result(shape[:2], dtype)
        gemm.gemm[(2,)](*arguments.values(), TRANSPOSED=transposed, **config.keywords)
        right(arguments["c"], shape, dtype)


@pytest.mark.parametrize("form", gemm.EXAMPLES)
def test_programs_check_themselves(form: Any, tmp_path: Any, monkeypatch: Any) -> None:
    """Tuned, on arrays as the programs have them; among the smallest tiles, since to compile all
    takes long and `test_every_configuration` does it.
    """
    monkeypatch.setenv("BLOCKLANG_CACHE_DIR", str(tmp_path))
    for tuned in (gemm.tuned_gemm, gemm.tuned_fused, gemm.tuned_batched, gemm.tuned_split):
        smallest = [c for c in tuned.configs if c.kwargs["BLOCK_M"] == c.kwargs["BLOCK_N"] == 64]
        monkeypatch.setattr(tuned, "configs", smallest)
    example, device = form(), harness.Gpu()
    inputs = example.inputs(matrix(400, 352, dtype=BF16))
    results = example.results(**inputs)
    placed = {name: device.put(array) for name, array in {**inputs, **results}.items()}
    example.run(**placed)
    found = {name: np.array(device.get(placed[name])) for name in results}
    for _, share in harness.check(example, inputs, found).values():
        assert share <= 1
