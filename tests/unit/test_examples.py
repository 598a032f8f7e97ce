"""The kernels of examples/: every one on the CPU against float64, odd sizes, dtypes and strides;
the same kernels in the text language; and the programs themselves.
"""

import re
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from blocklang import cdiv, next_power_of_2
from blocklang.compile import ptxas
from blocklang.frontend.lower import lower_kernel
from blocklang.ir.printer import print_module
from blocklang.ir.types import bf16
from blocklang.kernel import JitFunction, load
from blocklang.signature import bind_signature
from examples import harness, layernorm, resident, softmax, vector_add
from examples.rounding import Rounded

FOLDER = Path(vector_add.__file__).parent
MODULES = {"vector_add": vector_add, "softmax": softmax, "layernorm": layernorm}
SIZES = (1, 3, 257, 1000, 12345)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
EPSILON = layernorm.EPSILON
ROWS = 5
LAYERNORMS = [name for name in vars(layernorm) if re.match("layernorm(?!_backward)", name)]


def strided(rows, n, dtype, extra=0, fill=None):
    """A matrix whose rows lie n + extra elements apart: random, or full of one value."""
    generator = np.random.default_rng(rows * n)
    whole = generator.standard_normal((rows, n + extra), np.float32).astype(dtype)
    if fill is not None:
        whole[:] = fill
    return whole[:, :n]


def close(found, exact):
    """Hold a result to what float32 arithmetic and its own dtype allow."""
    expected = exact.stored(found.dtype)
    difference = np.abs(found.astype(np.float64) - expected.value)
    assert (difference <= expected.error).all(), (difference / expected.error).max()


def softmax_launches(x, y, stride):
    """A launch of each kernel, by name."""
    rows, n = x.shape
    block, piece = next_power_of_2(n), 16 // x.itemsize
    return {
        "softmax": lambda: softmax.softmax[(rows,)](x, y, stride, n, BLOCK=block),
        "softmax_short": lambda: softmax.softmax_short[(cdiv(rows, 2),)](
            x, y, stride, rows, n, ROWS=2, BLOCK=block
        ),
        "softmax_resident": lambda: softmax.softmax_resident[(piece,)](
            x, y, stride, rows, n, PIECES=resident.pieces(n, x.itemsize, 4)
        ),
        "softmax_long": lambda: softmax.softmax_long[(rows,)](x, y, stride, n, BLOCK=256),
    }


def layernorm_launches(arrays, stride):
    """A launch of each forward kernel, by name."""
    rows, n = arrays[0].shape
    block, piece = next_power_of_2(n), 16 // arrays[0].itemsize
    wide = next_power_of_2(n + piece)
    tail = (n, EPSILON)
    return {
        "layernorm": lambda: layernorm.layernorm[(rows,)](*arrays, stride, *tail, BLOCK=block),
        "layernorm_short": lambda: layernorm.layernorm_short[(cdiv(rows, 2),)](
            *arrays, stride, rows, *tail, ROWS=2, BLOCK=block
        ),
        "layernorm_unaligned": lambda: layernorm.layernorm_unaligned[(rows,)](
            *arrays, stride, *tail, BLOCK=wide, PIECE=piece
        ),
        "layernorm_resident": lambda: layernorm.layernorm_resident[(piece,)](
            *arrays, stride, rows, *tail, PIECES=resident.pieces(n, arrays[0].itemsize, 4)
        ),
        "layernorm_long": lambda: layernorm.layernorm_long[(rows,)](
            *arrays, stride, *tail, BLOCK=256
        ),
    }


@DTYPES
@pytest.mark.parametrize("n", SIZES)
def test_vector_add(n, dtype):
    x, y = strided(2, n, dtype)
    whole = np.full(n + 8, 7, dtype)
    vector_add.launch(x, y, whole[:n])
    close(whole[:n], Rounded(x) + Rounded(y))
    assert (whole[n:] == 7).all()


@DTYPES
@pytest.mark.parametrize("extra", [0, 3])
@pytest.mark.parametrize("n", SIZES)
def test_softmax(n, extra, dtype):
    x = strided(ROWS, n, dtype, extra)
    exact = softmax.Softmax().formula(Rounded(x))["y"]
    for name in softmax_launches(x, x, n):
        y = strided(ROWS, n, dtype, extra, fill=7)
        softmax_launches(x, y, n + extra)[name]()
        close(y, exact)
        assert (y.base[:, n:] == 7).all(), name


@DTYPES
@pytest.mark.parametrize("extra", [0, 3])
@pytest.mark.parametrize("n", SIZES)
def test_layernorm(n, extra, dtype):
    x = strided(ROWS, n, dtype, extra)
    w, b = layernorm.weights(x)
    exact = layernorm.LayerNorm().formula(*map(Rounded, (x, w, b)))
    for name in LAYERNORMS:
        y = strided(ROWS, n, dtype, extra, fill=7)
        mean, rstd = np.full((2, ROWS), np.nan, np.float32)
        layernorm_launches((x, y, w, b, mean, rstd), n + extra)[name]()
        assert (y.base[:, n:] == 7).all(), name
        # For a row of one element rstd is 1 / sqrt(eps), and what it magnifies is exactly zero.
        close(y, exact["y"])
        close(mean, exact["mean"])
        close(rstd, exact["rstd"])


@DTYPES
@pytest.mark.parametrize("align", [0, 32])
@pytest.mark.parametrize("n", [1, 31, 300, 777])
def test_resident_softmax_of_several_rows_a_program(n, align, dtype):
    rows, stride = 70, n + 3
    x, y = strided(rows, n, dtype, 3), strided(rows, n, dtype, 3, fill=7)
    sizes = resident.pieces(n, x.itemsize, 1, align)
    softmax.softmax_resident[(sizes[0],)](x, y, stride, rows, n, PIECES=sizes)
    close(y, softmax.Softmax().formula(Rounded(x))["y"])
    assert (y.base[:, n:] == 7).all()


@DTYPES
@pytest.mark.parametrize("align", [0, 32])
@pytest.mark.parametrize("n", [1, 31, 300, 777])
def test_resident_layernorm_of_several_rows_a_program(n, align, dtype):
    rows, stride = 70, n + 3
    x, y = strided(rows, n, dtype, 3), strided(rows, n, dtype, 3, fill=7)
    w, b = layernorm.weights(x)
    mean, rstd = np.full((2, rows), np.nan, np.float32)
    sizes = resident.pieces(n, x.itemsize, 1, align)
    run = layernorm.layernorm_resident[(sizes[0],)]
    run(x, y, w, b, mean, rstd, stride, rows, n, EPSILON, PIECES=sizes)
    exact = layernorm.LayerNorm().formula(*map(Rounded, (x, w, b)))
    for name, found in {"y": y, "mean": mean, "rstd": rstd}.items():
        close(found, exact[name])
    assert (y.base[:, n:] == 7).all()


@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("align", [0, 32])
@pytest.mark.parametrize("warps", [1, 8, 32])
def test_pieces_cover_a_row_however_it_is_aligned(itemsize, align, warps):
    for n in (1, 40, 257, 4096, 4127, 12345, 16384, 20000):
        chosen, block, count, edge, threads = resident.pieces(n, itemsize, warps, align)
        inner = count * block
        assert chosen == (align or 16 // itemsize)
        assert inner == 0 or chosen - 1 + inner <= n
        assert 0 <= n - inner <= edge
        assert edge % threads == block % threads == 0
        # No block more would fit.
        assert n - inner < block + chosen - 1


@pytest.mark.parametrize(
    ("example", "rows", "n", "dtype", "kernel"),
    [
        (layernorm.LayerNorm(), 256, 12345, np.float32, "resident"),
        (layernorm.LayerNorm(), 256, 12345, ml_dtypes.bfloat16, "resident"),
        (layernorm.LayerNorm(), 255, 12345, np.float32, ""),  # few rows
        (layernorm.LayerNorm(), 255, 12345, ml_dtypes.bfloat16, "unaligned"),
        (layernorm.LayerNorm(), 256, 12348, np.float32, ""),  # aligned rows
        (layernorm.LayerNorm(), 256, 1001, np.float32, ""),  # little for each thread
        (layernorm.LayerNorm(), 256, 16001, np.float32, ""),  # much for each thread
        # Much outside of the blocks.
        (layernorm.LayerNorm(), 256, 11001, ml_dtypes.bfloat16, "unaligned"),
        (softmax.Softmax(), 256, 12345, np.float32, "resident"),
        (softmax.Softmax(), 256, 12345, ml_dtypes.bfloat16, "resident"),
        (softmax.Softmax(), 256, 17001, np.float32, "resident"),  # no weights, so more fits
        (softmax.Softmax(), 255, 12345, ml_dtypes.bfloat16, ""),
        (softmax.Softmax(), 256, 12344, ml_dtypes.bfloat16, ""),
        (softmax.Softmax(), 256, 22001, np.float32, ""),
    ],
)
def test_resident_kernels_are_chosen_for_many_unaligned_rows(
    example, rows, n, dtype, kernel, monkeypatch
):
    module = sys.modules[type(example).__module__]
    monkeypatch.setattr(module, "multiprocessors", lambda x: 40)
    inputs = example.inputs(strided(rows, n, dtype))
    results = example.results(**inputs)
    (launched,) = example.run(**inputs, **results)
    assert launched.name == "_".join([module.__name__.split(".")[-1], kernel]).rstrip("_")
    for _, share in harness.check(example, inputs, results).values():
        assert share <= 1


def test_resident_programs_share_the_alignment_of_their_rows():
    sizes = resident.pieces(12345, 2, 16, 32)
    # As many as multiprocessors, but a multiple of 32; none on a small GPU or a CPU.
    for multiprocessors, programs in ((132, 128), (128, 128), (63, 32), (31, 0), (0, 0)):
        assert resident.resident_programs(4096, sizes, multiprocessors, 26) == programs
    assert resident.resident_programs(4096, sizes, 132, 23) == 0
    assert resident.multiprocessors(np.zeros((2, 2), np.float32)) == 0


def compile_resident(kernel, name, sizes):
    """The kernel for sm_90a, for matrices and weights of the dtype of that name."""
    types = {
        parameter: kind.replace("fp32:", f"{name}:") if parameter in "xywb" else kind
        for parameter, kind in signature(kernel).items()
    }
    warps = sizes[-1] // 32
    return kernel.compile(types, {"PIECES": sizes}, target="sm_90a", num_warps=warps)


def accesses(compiled, kind):
    """The instructions of PTX that access global memory, and those that move 16 bytes."""
    found = re.findall(rf"{kind}\.global\S* ", compiled.asm["ptx"])
    wide = [access for access in found if re.search(r"\.v4\.[bfsu]32 |\.v2\.[bfsu]64 ", access)]
    return found, wide


@pytest.mark.parametrize(("name", "itemsize"), [("fp32", 4), ("bf16", 2)])
def test_resident_layernorm_moves_16_bytes_at_a_time(name, itemsize):
    sizes = resident.pieces(12345, itemsize, 16)
    compiled = compile_resident(layernorm.layernorm_resident, name, sizes)
    _, _, count, edge, threads = sizes
    assert edge == threads
    loads, wide_loads = accesses(compiled, "ld")
    stores, wide_stores = accesses(compiled, "st")
    # Both the first row and the next one: the blocks, and one edge. Mean and rstd are stored too.
    assert len(wide_loads) == 2 * count
    assert len(wide_stores) == count
    assert len(stores) == count + 3
    # The weights, element by element, are read before the loop.
    assert len(loads) == 2 * (count + 1) + 2 * (count * 16 // itemsize + 1)


@pytest.mark.parametrize("align", [0, 32])
@pytest.mark.parametrize("warps", [8, 16])
@pytest.mark.parametrize(("name", "itemsize"), [("fp32", 4), ("bf16", 2)])
def test_resident_softmax_moves_16_bytes_at_a_time(name, itemsize, warps, align):
    sizes = resident.pieces(12345, itemsize, warps, align)
    compiled = compile_resident(softmax.softmax_resident, name, sizes)
    _, _, count, edge, threads = sizes
    assert edge == threads
    loads, wide_loads = accesses(compiled, "ld")
    stores, wide_stores = accesses(compiled, "st")
    assert len(wide_loads) == 2 * count
    assert len(loads) == 2 * (count + 1)
    assert len(wide_stores) == count
    assert len(stores) == count + 1


@pytest.mark.skipif(ptxas() is None, reason="there is no ptxas")
@pytest.mark.parametrize(("name", "itemsize"), [("fp32", 4), ("bf16", 2)])
def test_resident_softmax_keeps_rows_in_registers(name, itemsize):
    def sizes_that_are_chosen():
        for n in range(1, 32768):
            sizes = resident.pieces(n, itemsize, 16, 32)
            if resident.resident_programs(32768, sizes, 132, softmax.MOST):
                yield sizes

    *_, longest = sizes_that_are_chosen()
    for sizes in (longest, *(resident.pieces(12345, itemsize, warps, 32) for warps in (8, 16))):
        compiled = compile_resident(softmax.softmax_resident, name, sizes)
        assert compiled.resources.spill_stores == compiled.resources.spill_loads == 0
        assert accesses(compiled, "ld")[1]


@DTYPES
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("form", [layernorm.BackwardByAtomics, layernorm.BackwardInTwoStages])
def test_layernorm_backward(form, n, dtype):
    example = form()
    example.parts = 3
    inputs = example.inputs(strided(7, n, dtype).copy())
    results = example.results(**inputs)
    example.run(**inputs, **results)
    for _, share in harness.check(example, inputs, results).values():
        assert share <= 1


def test_backward_in_two_stages_is_reproducible():
    example = layernorm.BackwardInTwoStages()
    inputs = example.inputs(strided(300, 257, np.float32).copy())
    runs = [example.results(**inputs) for _ in range(2)]
    for results in runs:
        example.run(**inputs, **results)
    for name in ("dx", "dw", "db"):
        np.testing.assert_array_equal(runs[0][name], runs[1][name])


def test_backward_formula_is_the_derivative():
    """The formula against central differences of the forward formula, both in float64."""
    generator = np.random.default_rng(0)
    x, dy = generator.standard_normal((2, 3, 7))
    w, b = generator.standard_normal((2, 7))
    forward = layernorm.LayerNorm().formula(x, w, b)
    found = layernorm.BackwardByAtomics().formula(x, dy, w, forward["mean"], forward["rstd"])
    variables = {"dx": x, "dw": w, "db": b}
    for name, variable in variables.items():
        slope = np.empty_like(variable)
        for index in np.ndindex(variable.shape):
            outputs = []
            for step in (1e-6, -1e-6):
                variable[index] += step
                outputs.append(layernorm.LayerNorm().formula(x, w, b)["y"])
                variable[index] -= step
            slope[index] = (dy * (outputs[0] - outputs[1])).sum() / 2e-6
        np.testing.assert_allclose(found[name], slope, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kernel", list(softmax_launches(np.zeros((1, 1), np.float32), None, 1)))
@pytest.mark.parametrize("n", [3, 300])
def test_softmax_of_extreme_rows(kernel, n):
    x = np.full((4, n), -np.inf, np.float32)
    x[0] = 3e38
    x[1] = np.linspace(-3e38, 3e38, n)
    x[2, n - 1] = 5
    x[3] = np.arange(n)
    y = np.full_like(x, np.nan)
    softmax_launches(x, y, n)[kernel]()
    np.testing.assert_allclose(y[0], 1 / n, rtol=1e-5)
    for row in (1, 2):
        np.testing.assert_array_equal(y[row], np.eye(n)[n - 1])
    exact = softmax.Softmax().formula(Rounded(x[3:]))["y"]
    close(y[3:], exact)


@pytest.mark.parametrize("name", LAYERNORMS)
def test_layernorm_of_rows_with_a_large_mean(name):
    generator = np.random.default_rng(0)
    x = (1000 + generator.standard_normal((3, 777))).astype(np.float32)
    y = np.full_like(x, np.nan)
    w, b = np.ones(777, np.float32), np.zeros(777, np.float32)
    mean, rstd = np.empty((2, 3), np.float32)
    layernorm_launches((x, y, w, b, mean, rstd), 777)[name]()
    expected = layernorm.LayerNorm().formula(*(a.astype(np.float64) for a in (x, w, b)))
    # The rounding of the mean, half a unit in the last place of 1000, moves all of a row.
    np.testing.assert_allclose(y, expected["y"], atol=3e-4)


def kernels(module):
    """The kernels of a namespace, by name."""
    return {name: item for name, item in vars(module).items() if isinstance(item, JitFunction)}


def signature(kernel):
    """A signature for a kernel of the examples."""
    integers, floats = ("row_stride", "rows", "n", "parts"), ("eps",)
    names = [parameter.name for parameter in kernel.parameters if not parameter.constexpr]
    return {
        name: "i32" if name in integers else "fp32" if name in floats else "*fp32:16"
        for name in names
    }


def block_ir(kernel, types, constexprs):
    """What a front end makes of a kernel, without source positions."""
    tree = kernel.__blocklang_function__
    bound = bind_signature(tree, types, constexprs)
    module = lower_kernel(tree, bound.types, bound.facts, bound.constexprs, {"debug": False})
    return print_module(module, locations=False)


@pytest.mark.parametrize("name", MODULES)
def test_both_front_ends_give_the_same_ir(name):
    ours, texts = kernels(MODULES[name]), kernels(load(FOLDER / f"{name}.bl"))
    assert ours
    assert list(ours) == list(texts)
    for kernel in ours:
        sizes = {"BLOCK": 128, "ROWS": 8, "COLUMNS": 32, "PIECE": 4}
        sizes["PIECES"] = (4, 128, 2, 64, 32)
        parameters = {p.name for p in ours[kernel].parameters if p.constexpr}
        chosen = {size: value for size, value in sizes.items() if size in parameters}
        assert chosen.keys() == parameters
        # The text declares the types; in Python they are given.
        assert block_ir(texts[kernel], {}, chosen) == block_ir(
            ours[kernel], signature(ours[kernel]), chosen
        )


def test_text_kernels_take_other_dtypes():
    kernel = load(FOLDER / "vector_add.bl").add
    x = np.arange(5).astype(ml_dtypes.bfloat16)
    z = np.zeros_like(x)
    kernel[(1,)](x, x, z, 5)
    np.testing.assert_array_equal(z.astype(np.float32), np.arange(5) * 2)
    assert "ptr<bf16>" in block_ir(kernel, {}, {"T": bf16})


@pytest.mark.parametrize("name", MODULES)
def test_program_reports(name):
    command = [sys.executable, FOLDER / f"{name}.py", "--rows", "3", "--columns", "50"]
    run = subprocess.run(
        [*command, "--device", "cpu", "--dtype", "float16"],
        capture_output=True, text=True, check=False, cwd=FOLDER.parent.parent,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    assert re.search(r"^input    3 x 50 float16, random normal numbers$", run.stdout, re.M)
    assert "correct" in run.stdout
    assert re.search(r"^NumPy    [\d.]+ ms on the CPU, [\d.]+ times as long$", run.stdout, re.M)


class Wrong(vector_add.VectorAdd):
    """An example whose last result stays what it was."""

    def run(self, x, y, z):
        return [vector_add.launch(x[:-1], y[:-1], z[:-1])]


def test_wrong_results_fail_the_program(capsys):
    arguments = ["--columns", "40", "--device", "cpu"]
    assert harness.main([vector_add.VectorAdd()], 1, 1, arguments) == 0
    assert harness.main([Wrong()], 1, 1, arguments) == 1
    assert "WRONG" in capsys.readouterr().out


def test_program_takes_a_matrix(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.arange(12.0).reshape(3, 4))
    arguments = ["--input", str(tmp_path / "x.npy"), "--device", "cpu"]
    assert harness.main([softmax.Softmax()], 1, 1, arguments) == 0
    assert "3 x 4 float32, " in capsys.readouterr().out
    np.save(tmp_path / "x.npy", np.arange(12.0))
    with pytest.raises(SystemExit):
        harness.main([softmax.Softmax()], 1, 1, arguments)
    assert "expected a matrix" in capsys.readouterr().err


def test_importing_examples_runs_nothing():
    program = (
        "import sys\nfrom examples import harness, layernorm, rounding, softmax, vector_add\n"
        "print(*{'torch', 'llvmlite', 'lark', 'cuda'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        cwd=FOLDER.parent,
    )  # fmt: skip
    assert run.stdout == "\n"


class TestRounded:
    """The bounds hold for float32 arithmetic, and are not vacuous."""

    def test_bounds_hold_and_bind(self):
        generator = np.random.default_rng(0)
        x, y = (generator.standard_normal((2, 40, 50)) + 3).astype(np.float32)

        def formula(a, b):
            return np.exp((a - b) / (1 + np.sqrt(a * a).mean(axis=1)[:, None])) * b

        exact = formula(Rounded(x), Rounded(y))
        np.testing.assert_array_equal(exact.value, formula(x.astype(float), y.astype(float)))
        errors = np.abs(formula(x, y) - exact.value)
        assert (errors <= exact.error).all()
        assert (errors / exact.error).max() > 0.02

    def test_storing_allows_half_a_unit(self):
        stored = Rounded([1.0, 3e-8]).stored(np.float16)
        np.testing.assert_allclose(stored.error, [2**-11, 2**-25], rtol=1e-3)

    def test_other_functions_are_refused(self):
        with pytest.raises(TypeError):
            np.cosh(Rounded([1.0]))
