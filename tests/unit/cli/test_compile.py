"""`blc FILE`: reports, passes, targets, values on the command line, sources."""

from __future__ import annotations

import io
import sys

import pytest

from blocklang import compile as pipeline
from blocklang.cli.values import constexpr_value
from blocklang.ir.parser import parse
from blocklang.ir.types import f32
from blocklang.runtime import cuda
from tests.unit.cli.support import needs_ptxas


@needs_ptxas
def test_without_outputs_the_use_of_resources_is_reported(blc):
    outcome = blc("softmax.bl", "--target", "sm_90a")
    assert outcome.out == ""
    for text in (
        "softmax for sm_90a\n",
        "threads                128 (4 warps)\n",
        " of 255\n",
        "spills per thread      none\n",
        "bytes for softmax.bl:13:17\n",
        "programs at a time on each multiprocessor\n",
        "softmax.bl:12:9   load    1 x f32   4 bytes\n",
    ):
        assert text in outcome.err
    assert blc("softmax.bl", "--target", "sm_90a", "-v", "-o", "k.ptx").err == outcome.err


def test_vector_widths_follow_divisibility(blc):
    text = (blc.folder / "softmax.bl").read_text().replace("i32", "i32 divisible 16")
    blc.write("aligned.bl", text)
    assert "load    4 x f32   16 bytes" in blc("aligned.bl", "--target", "sm_90a").err


def test_report_without_an_assembler(blc, monkeypatch):
    monkeypatch.setattr(pipeline, "ptxas", lambda: None)
    error = blc("softmax.bl", "--target", "sm_90a").err
    assert "registers       not known without ptxas\n" in error
    assert "occupancy" not in error


def test_report_for_the_cpu(blc):
    error = blc("softmax.bl", "--target", "cpu").err
    assert error.startswith("softmax for cpu\n")
    assert "scratch memory per thread" in error


def test_times_name_every_step(blc):
    error = blc("softmax.bl", "--target", "sm_90a", "--time-passes", "-o", "k.ptx").err
    for step in ("parse", "types and IR", "coalesce", "vectorize", "LLVM", "total"):
        assert f"\n  {step} " in error
    assert ("\n  ptxas " in error) == (pipeline.ptxas() is not None)


def test_dumps_after_named_passes(blc):
    words = ("softmax.bl", "--target", "sm_90a", "-o", "k.ptx")
    error = blc("--dump-passes", "coalesce,dce", *words).err
    assert error.count("// after ") == 5
    assert error.count("// after dce\n") == 4
    # The file is not taken for the value.
    everything = blc("--dump-passes", *words).err
    assert "// after inline\n" in everything
    assert blc("--dump-passes=all", *words).err == everything


def test_stop_after_a_pass(blc):
    words = ("softmax.bl", "--target", "sm_90a", "--stop-after")
    first, second = blc(*words, "cse").out, blc(*words, "cse:2").out
    assert first != second
    assert parse(second).kernel.name == "softmax"
    assert "layout" not in second
    assert "#layout0" in blc(*words, "assign-layouts").out
    assert blc(*words, "cse", "-o", "k.ir").out == ""
    assert (blc.folder / "k.ir").read_text() == first
    assert blc.names() == {"k.ir"}


def test_compile_time_prints_do_not_mix_with_results(blc):
    blc.write("talk.bl", 'kernel talk(x: *f32):\n    static_print("here")\n    store(x, 1.0)\n')
    outcome = blc("talk.bl", "--target", "cpu", "--emit", "bl")
    assert outcome.out.startswith("kernel talk(")
    assert outcome.err == "here\n"


# -- targets and values ----------------------------------------------------------------------


def test_target_without_any_hint_is_a_gpu_with_a_note(blc):
    outcome = blc("softmax.bl", "-o", "k.ptx")
    assert outcome.err == (
        "blc: note: compiling for sm_80: no --target, and no GPU in this machine\n"
    )
    assert ".target sm_80" in (blc.folder / "k.ptx").read_text()


def test_target_of_the_environment(blc, monkeypatch):
    monkeypatch.setenv("BLOCKLANG_TARGET", "sm_75")
    assert ".target sm_75" in blc("softmax.bl", "--emit", "ptx").out
    assert ".target sm_90a" in blc("softmax.bl", "--emit", "ptx", "--target", "sm_90a").out


def test_target_of_this_machine(blc, monkeypatch):
    class Device:
        target = "sm_86"
        capability = (8, 6)

    monkeypatch.setattr(cuda, "available", lambda: True)
    monkeypatch.setattr(cuda, "current_device", lambda: 0)
    monkeypatch.setattr(cuda, "device", lambda ordinal: Device)
    assert ".target sm_86" in blc("softmax.bl", "--emit", "ptx").out
    # A GPU that is newer than this blocklang runs what its predecessors run.
    Device.target, Device.capability = "sm_129a", (12, 9)
    assert ".target sm_121\n" in blc("softmax.bl", "--emit", "ptx").out


def test_options_reach_the_compiler(blc):
    words = ("softmax.bl", "--target", "sm_90a", "--emit")
    assert ".reqntid 256" in blc(*words, "ptx", "--num-warps", "8").out
    assert ".loc" not in blc(*words, "ptx", "--no-line-info").out
    blc.write("fma.bl", "kernel k(x: *f32):\n    v = load(x)\n    store(x, v * v + 1.0)\n")
    words = ("fma.bl", "--target", "sm_90a", "--emit", "ptx")
    assert "fma.rn.f32" in blc(*words).out
    assert "fma.rn.f32" not in blc(*words, "--no-fp-fusion").out
    text = blc(*words[:-1], "manifest", "--num-stages", "2", "--num-ctas", "4", "--debug").out
    assert '"num_stages": 2' in text
    assert '"num_ctas": 4' in text
    assert '"debug": true' in text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1024", 1024),
        ("-0x10", -16),
        ("007", 7),
        ("1e-3", 0.001),
        ("-inf", -float("inf")),
        ("True", True),
        ("false", False),
        ("none", None),
        ("f32", f32),
        ("fp32", f32),
        ("bl.float32", f32),
        ('"f32"', "f32"),
        ("'1'", "1"),
        ("tf32x3", "tf32x3"),
        ("(1, 2)", (1, 2)),
        ("[1, 2]", (1, 2)),
        ("{1}", "{1}"),
        ("a b", "a b"),
    ],
)
def test_values_of_compile_time_parameters(text, value):
    found = constexpr_value(text)
    assert found == value
    assert type(found) is type(value)


def test_parameters_and_types_from_the_command_line(blc):
    text = blc("softmax.bl", "--target", "sm_90a", "--emit", "ir", "-DBLOCK=64").out
    assert "block<64xf32>" in text
    text = blc("softmax.bl", "--target", "sm_90a", "--emit", "ir", "--signature", "n=1000").out
    assert "%n:" not in text
    words = ("scale.py", "--target", "sm_90a", "--emit", "ir")
    types = "x=*bf16:16,y=*fp32", "--signature", "n=i64", "--signature", "s=fp32"
    text = blc(*words, "--signature", *types).out
    assert "%x: ptr<bf16> {divisible = 16}" in text
    assert "%n: i64" in text


def test_the_text_of_a_python_kernel_compiles_to_the_same(blc):
    target = ("--target", "sm_90a", "--no-line-info", "--num-warps", "2")
    words = ("scale.py", "--signature", "x=*bf16:16,y=*fp32,n=i64,s=fp32", *target)
    text = blc(*words, "--emit", "bl").out
    assert text.startswith("kernel scale(x: *bf16 divisible 16, y: *f32, n: i64, s: f32")
    blc.write("again.bl", text)
    ptx = blc("again.bl", *target, "--emit", "ptx").out
    assert ptx == blc(*words, "--emit", "ptx").out
    assert "st.global" in ptx


# -- sources ---------------------------------------------------------------------------------


def test_standard_input(blc, monkeypatch):
    text = (blc.folder / "softmax.bl").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert '"source": "standard input"' in blc("-", "--target", "cpu", "--emit", "manifest").out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"kernel \xff")))
    assert "0xff" in blc("-", "--target", "cpu", code=1).err


def test_python_files(blc):
    blc.write("helpers.py", "import blocklang\n@blocklang.jit\ndef help_(x):\n    return x\n")
    text = (blc.folder / "scale.py").read_text()
    imports = "from __future__ import annotations\nfrom helpers import help_\nprint('imported')\n"
    blc.write("mine.py", text.replace("import blocklang\n", imports + "import blocklang\n", 1))
    path = sys.path[:]
    outcome = blc("check", "mine.py", "--signature", "x=*fp32,y=*fp32,n=i32,s=fp32")
    assert outcome.out == "1 kernel checked, no errors\n"
    assert outcome.err == "imported\n"
    assert sys.path == path
    assert not (blc.folder / "__pycache__" / "mine.pyc").exists()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "import not_there\n",
            "k.py:1:1: error[BL711]: k.py cannot be imported: ModuleNotFoundError: No module named "
            "'not_there'\n    import not_there\n    ^^^^^^^^^^^^^^^^\n"
            "  help: install what it imports for this Python\n",
        ),
        (
            "x = 1\ny = (2,\n",
            "k.py:2:5: error[BL711]: k.py does not parse: SyntaxError: '(' was never closed\n"
            "    y = (2,\n        ^\n",
        ),
        (
            "def f():\n    return [][1]\nf()\n",
            "k.py:2:12: error[BL711]: k.py cannot be imported: "
            "IndexError: list index out of range\n"
            "        return [][1]\n               ^^^^^\n"
            '  help: keep what runs kernels under `if __name__ == "__main__":`\n',
        ),
        (
            "import sys\nsys.exit(4)\n",
            "k.py:2:1: error[BL711]: k.py cannot be imported: SystemExit: it ends the program\n"
            "    sys.exit(4)\n    ^^^^^^^^^^^\n"
            '  help: keep what runs kernels under `if __name__ == "__main__":`\n',
        ),
        ("x = 1\n", None),
    ],
)
def test_python_files_that_cannot_be_imported(blc, text, error):
    blc.write("k.py", text)
    if error is None:
        message = blc("k.py", "--target", "cpu", code=2).err
        assert message == "blc: error: k.py defines no @blocklang.jit function\n"
    else:
        assert blc("k.py", "--target", "cpu", code=1).err == error
