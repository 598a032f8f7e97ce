"""`blc run`: arguments, grids, results on the CPU; and every error with its text."""

from __future__ import annotations

import numpy as np
import pytest

from blocklang.cli import run
from blocklang.cli.arguments import UsageError
from blocklang.cli.arrays import MAKERS
from blocklang.cli.values import grid
from blocklang.ir.types import bf16
from blocklang.runtime import cuda
from blocklang.runtime.errors import NoDriverError

SCALE = ("run", "scale.py", "x=random:1000", "y=zeros:x", "n=1000", "s=2")
SOFTMAX = ("run", "softmax.bl", "x=in.npy", "y=empty:x", "row_stride=1000", "n=1000")


@pytest.fixture
def rows(blc):
    array = np.random.default_rng(1).standard_normal((8, 1000)).astype(np.float32)
    np.save("in.npy", array)
    return array


def test_results_are_saved(blc, rows):
    outcome = blc(*SOFTMAX, "--grid", "8", "--save", "y=out.npy", "--save", "x")
    e = np.exp(rows - rows.max(1, keepdims=True))
    np.testing.assert_allclose(np.load("out.npy"), e / e.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(np.load("x.npy"), rows)
    assert outcome.err == ""
    assert "softmax: 8 programs on cpu\n" in outcome.out
    assert "\n  y          8x1000:f32       written   out.npy\n" in outcome.out
    assert "\n  x          8x1000:f32       read      x.npy\n" in outcome.out


def test_what_is_not_saved_is_said(blc):
    outcome = blc(*SCALE, "--grid", "cdiv(n, BLOCK)")
    assert outcome.err == "blc: note: not saved: y (--save y=FILE.npy)\n"
    assert "scale: 4 programs on cpu\n" in outcome.out
    assert blc.names() <= {"__pycache__"}


def test_arrays_are_printed(blc):
    words = ("run", "scale.py", "x=arange:4", "y=zeros:x", "n=4", "s=0.5")
    assert blc(*words, "--grid", "1", "--print", "y").out.endswith("y = [0.  0.5 1.  1.5]\n")


def test_repeated_runs_leave_the_first_result(blc):
    blc.write("count.bl", "kernel count(x: *i32):\n    store(x, load(x) + 1)\n")
    words = ("run", "count.bl", "x=zeros:1:i32", "--grid", "1", "--repeat", "5", "--save", "x")
    assert "\n  median of 5   " in blc(*words).out
    assert np.load("x.npy").tolist() == [1]


def test_options_may_stand_anywhere(blc):
    words = ("run", "--grid", "n // BLOCK", "scale.py", "x=ones:512", "-DBLOCK=128", "y=empty:x")
    assert "4 programs" in blc(*words, "--print", "y", "n=512", "s=3").out


def test_types_that_files_have_no_name_for(blc):
    words = ("run", "scale.py", "x=arange:100:bf16", "y=zeros:x", "n=100", "s=2", "--grid", "1")
    blc(*words, "--save", "y=b.npy")
    words = ("run", "scale.py", "x=b.npy:bf16", "y=zeros:100:f32", "n=100", "s=2", "--grid", "1")
    blc(*words, "--save", "y")
    np.testing.assert_array_equal(np.load("y.npy"), np.arange(100) * 4)
    error = blc("run", "scale.py", "x=b.npy", "y=zeros:x", "n=1", "s=1", "--grid", "1", code=2).err
    assert error == (
        "blc: error: argument x=b.npy: the file does not name the type of its elements\n"
        "  help: name it: x=b.npy:bf16\n"
    )
    error = blc("run", "scale.py", "x=b.npy:f64", "n=1", "--grid", "1", code=2).err
    assert "its elements have 2 bytes, those of f64 8" in error


@pytest.mark.parametrize("kind", ["f32", "bf16", "i8", "u16", "i1", "f64"])
@pytest.mark.parametrize("maker", MAKERS)
def test_made_arrays(maker, kind):
    found: dict[str, object] = {}
    assert run.argument_value("x", f"{maker}:2x3:{kind}", {"x": ""}, found)
    array = found["x"]
    assert array.shape == (2, 3)
    assert run.dtype_text(array) == kind
    again: dict[str, object] = {}
    run.argument_value("x", f"{maker}:2x3:{kind}", {"x": ""}, again)
    if maker != "empty":
        np.testing.assert_array_equal(array, again["x"])
    if maker == "arange" and kind != "i1":
        assert array.astype(float).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("512", (512,)),
        (" 8, 16 ", (8, 16)),
        ("cdiv(n, B), n // B, n*2 + 1 - B", (4, 3, 1701)),
        ("(n - 1) // B", (3,)),
    ],
)
def test_grids(text, sizes):
    assert grid(text, {"n": 1000, "B": 300}) == sizes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("8 +", "it is not an expression"),
        ("m", "'m' is not one of the integers given, which are: n"),
        ("s", "'s' is not one of the integers given"),
        ("n ** 2", "'n ** 2' cannot be part of it"),
        ("n / 2", "'n / 2' cannot be part of it"),
        ("__import__('os')", "cannot be part of it"),
        ("cdiv(n)", "cdiv takes two arguments"),
        ("n // 0", "integer division or modulo by zero"),
        ("1.5", "'1.5' cannot be part of it"),
        ("True", "'True' cannot be part of it"),
    ],
)
def test_wrong_grids(text, problem):
    with pytest.raises(UsageError) as caught:
        grid(text, {"n": 1000, "s": 0.5})
    assert str(caught.value).startswith(f"--grid {text}: ")
    assert problem in str(caught.value)


ERRORS = [
    (["x"], "argument x: expected NAME=VALUE\n  help: write for example x=in.npy or n=1000"),
    (["x=zeros:2", "x=zeros:3"], "argument x is given twice"),
    (["x=empty:y", "y=empty:x"], "arguments x, y are made like each other"),
    (["x=empty:n", "n=3"], "argument x=empty:n: n is not an array"),
    (
        ["x=zeros:2x"],
        "argument x=zeros:2x: '2x' is neither a shape nor an array argument\n  help: ",
    ),
    (["x=zeros:2:f99"], "argument x=zeros:2:f99: 'f99' is not a type of elements"),
    (["x=zeros:99999999999x9999999"], "argument x=zeros:99999999999x9999999: the array is too"),
    (["x=nope.npy"], "argument x=nope.npy: there is no file nope.npy"),
    (["x=scale.py"], "argument x=scale.py: it is neither a number nor a .npy file"),
    (["x=bad.npy"], "argument x=bad.npy: cannot be read as an array: "),
    (["x=zeros:2", "-Dn=3", "n=2"], "n is given twice: as an argument and with -D"),
    (["x=zeros:2", "--save", "y"], "--save y: not an array argument\n  help: arrays: x"),
    (["x=zeros:2", "--print", "n", "n=2"], "--print n: not an array argument\n  help: arrays: x"),
    (["x=zeros:2", "--save", "x=x.txt"], "--save x=x.txt: arrays are saved to .npy files"),
    (["x=zeros:2", "--save", "x=no/x.npy"], "--save x=no/x.npy: there is no folder no"),
    (["x=zeros:2", "--repeat", "-1"], "--repeat -1: expected 0 or more"),
    (["--device", "tpu"], "--device tpu: expected cpu, gpu or gpu:NUMBER"),
    (["--num-warps", "5"], "num_warps is 5\n  help: it is a power of two"),
]


@pytest.mark.parametrize(("words", "error"), ERRORS, ids=[" ".join(words) for words, _ in ERRORS])
def test_wrong_usage(blc, words, error):
    blc.write("bad.npy", "not an array")
    outcome = blc("run", "scale.py", *words, "--grid", "1", code=2)
    assert outcome.err.startswith(f"blc: error: {error}")
    assert outcome.out == ""


def test_launch_errors_keep_their_codes(blc):
    assert "error[BL504]: scale needs an argument for 'y'" in (
        blc("run", "scale.py", "x=zeros:2", "n=2", "s=1", "--grid", "1", code=2).err
    )
    assert "error[BL505]: scale has no parameter 'z'" in (
        blc(*SCALE, "z=1", "--grid", "1", code=2).err
    )
    assert "error[BL510]" in blc(*SCALE, "--grid", "1,2,3,4", code=2).err


def test_failed_assertions_are_failures_of_the_kernel(blc):
    blc.write("strict.bl", 'kernel strict(x: *i32):\n    device_assert(load(x) > 0, "small")\n')
    words = ("run", "strict.bl", "x=zeros:1:i32", "--grid", "1")
    error = blc(*words, "--debug", code=1).err
    assert "error[BL515]" in error
    assert "strict.bl:2:5: small" in error


def test_without_a_gpu(blc, monkeypatch):
    def none(ordinal):
        raise NoDriverError("this machine has no NVIDIA driver")

    monkeypatch.setattr(cuda, "device", none)
    error = blc(*SCALE, "--grid", "1", "--device", "gpu:1", code=3).err
    assert error.startswith("error[BL501]: this machine has no NVIDIA driver")


def test_bfloat16_is_what_numpy_calls_it():
    assert run.dtype_text(np.zeros(1, bf16.numpy)) == "bf16"


def test_arrays_for_tensor_descriptors(blc):
    blc.write(
        "double.bl",
        "kernel double(x: tensordesc<f32[64]>, y: tensordesc<f32[64]>):\n"
        "    i = program_id(0) * 64\n"
        "    y.store([i], x.load([i]) * 2)\n",
    )
    words = ("run", "double.bl", "x=arange:100", "y=zeros:x", "--grid", "2", "--save", "y=y.npy")
    outcome = blc(*words)
    np.testing.assert_array_equal(np.load("y.npy"), np.arange(100) * 2.0)
    assert [line.split()[2] for line in outcome.out.splitlines()[-2:]] == ["read", "written"]


def test_signatures_with_tensor_descriptors(blc):
    blc.write(
        "copy.py",
        "import blocklang\n\n\n@blocklang.jit\ndef copy(x, y, i):\n"
        "    y.store([i, 0], x.load([i, 0]))\n",
    )
    described = "tensordesc<fp32[16, 64]>"
    types = f"x={described}:16, y={described},i=i32"
    text = blc("copy.py", "--target", "sm_80", "--signature", types, "--emit", "header").out
    assert "int64_t x_stride_0; /* i64; divisible by 16 */" in text
    assert "int64_t y_stride_0; /* i64 */" in text
