"""Every error of the command line with its text and exit code."""

from __future__ import annotations

import io
import sys
import warnings

import pytest

from blocklang import compile as pipeline
from blocklang.cli import build, main
from blocklang.cli.arguments import ExitCode
from blocklang.codegen.nvptx.assembler import AssemblerError
from blocklang.ir.passes.manager import PASSES
from tests.unit.cli.support import TWO

NO_PASS = f"there is no such pass\n  help: passes: {', '.join(sorted(PASSES))}"
NAME_VALUE = "expected NAME=VALUE\n  help: write for example -D BLOCK=1024"
UNKNOWN_TARGET = "unknown target 'sm_9'\n  help: known targets: cpu, sm_75, sm_80, sm_86"

USAGE_ERRORS = [
    (["nope.bl"], "nope.bl: there is no such file"),
    (["folder.bl"], "folder.bl: is a folder"),
    (
        ["softmax.txt"],
        "softmax.txt: expected a .bl file or a Python file\n"
        "  help: results are named with -o: blc softmax.bl -o softmax.ptx",
    ),
    (["empty.bl"], "empty.bl defines no kernel"),
    (["two.bl"], "two.bl has several kernels: first, second\n  help: choose one with -k NAME"),
    (["two.bl", "-k", "secnod"], "two.bl has no kernel 'secnod'\n  help: did you mean 'second'?"),
    (["two.bl", "-k", "x"], "two.bl has no kernel 'x'\n  help: it has: first, second"),
    (["softmax.bl", "--target", "sm_9"], UNKNOWN_TARGET),
    (
        ["softmax.bl", "-o", "k.txt"],
        "-o k.txt: the suffix does not say what to write\n  help: suffixes: .bl .ir",
    ),
    (["softmax.bl", "-o", "no/k.ptx"], "-o no/k.ptx: there is no folder no"),
    (["softmax.bl", "-o", "folder.bl"], "-o folder.bl: is a folder"),
    (["softmax.bl", "--emit", "x"], "--emit x: there is no such stage\n  help: stages: source, bl"),
    (
        ["softmax.bl", "-o", "softmax.bl"],
        "softmax.bl would overwrite the input softmax.bl\n  help: name another file",
    ),
    (
        ["softmax.bl", "-o", "k.h", "--manifest", "k.h"],
        "k.h would overwrite another output, the header\n  help: name another file",
    ),
    (
        ["softmax.bl", "-o", "k.ptx", "-o", "k.o"],
        "-o k.ptx and -o k.o: these are for different targets\n  help: run blc for each",
    ),
    (
        ["softmax.bl", "-o", "k.ptx", "--target", "cpu"],
        "-o k.ptx: only GPUs have the stage ptx, and the target is cpu\n"
        "  help: compile for another target, such as --target sm_90a",
    ),
    (
        ["softmax.bl", "--emit", "plan", "--target", "sm_80"],
        "--emit plan: only CPUs have the stage plan, and the target is sm_80\n"
        "  help: compile for another target, such as --target cpu",
    ),
    (["softmax.bl", "-D", "BLOCK"], f"-D BLOCK: {NAME_VALUE}"),
    (["softmax.bl", "-D", "=3"], f"-D =3: {NAME_VALUE}"),
    (["softmax.bl", "-DN=1", "-DN=2"], "-D N is given twice"),
    (
        ["softmax.bl", "--signature", "*fp32"],
        "--signature *fp32: expected NAME=VALUE\n  help: write for example --signature x=*fp32:16",
    ),
    (["softmax.bl", "--signature", "n=i32,n=i32"], "--signature n is given twice"),
    (
        ["softmax.bl", "--num-warps", "3"],
        "num_warps is 3\n  help: it is a power of two: 1, 2, 4, 8, ...",
    ),
    (["softmax.bl", "--stop-after", "x"], f"--stop-after x: {NO_PASS}"),
    (["softmax.bl", "--dump-passes=x"], f"--dump-passes x: {NO_PASS}"),
    (
        ["softmax.bl", "--stop-after", "cse:0"],
        "--stop-after cse:0: '0' is not the number of a run\n"
        "  help: write cse, or cse:2 for its second run",
    ),
    (
        ["softmax.bl", "--stop-after", "cse", "-o", "k.ptx"],
        "--stop-after writes IR only\n  help: name a file such as -o kernel.ir, or none",
    ),
    (
        ["softmax.bl", "--stop-after", "coalesce", "--target", "cpu"],
        "--stop-after coalesce: the pass did not run so often for cpu\n  help: what ran: inline, ",
    ),
    (["check", "two.bl", "-k", "x"], "there is no kernel 'x' in two.bl"),
    (
        ["check", "softmax.bl", "-DBLOC=1"],
        "no kernel has a parameter BLOC\n  help: look at -D and --signature",
    ),
]


@pytest.mark.parametrize(
    ("words", "error"), USAGE_ERRORS, ids=[" ".join(words) for words, _ in USAGE_ERRORS]
)
def test_wrong_usage(blc, words, error):
    blc.write("two.bl", TWO)
    blc.write("empty.bl", "const N = 1\n")
    (blc.folder / "folder.bl").mkdir()
    before = blc.names()
    outcome = blc(*words, code=2)
    message = outcome.err.removeprefix(
        "blc: note: compiling for sm_80: no --target, and no GPU in this machine\n"
    )
    assert message.startswith(f"blc: error: {error}")
    assert outcome.out == ""
    assert blc.names() == before


def test_wrong_usage_that_argparse_finds(blc):
    assert "the following arguments are required: FILE" in blc(code=2).err
    error = blc("softmax.bl", "--num-warps", "x", code=2).err
    assert "argument --num-warps: invalid int value: 'x'" in error
    assert "unrecognized arguments: --bogus" in blc("softmax.bl", "--bogus", code=2).err


def test_mistakes_in_kernels(blc):
    blc.write("two.bl", TWO)
    assert blc("two.bl", "-k", "second", "--target", "cpu", code=1).err == (
        "two.bl:5:33: error[BL201]: 'nothing' is not defined\n"
        "        store(x + arange(0, 4), n + nothing)\n"
        "                                    ^^^^^^^\n"
        "  help: assign it first, make it a parameter, or define it outside of the kernel\n"
    )
    error = blc("two.bl", "-k", "first", "--target", "cpu", code=1).err
    assert "the compile-time parameter 'N' of first has no value" in error
    error = blc("softmax.bl", "-D", "BLOC=1", "--target", "cpu", code=1).err
    assert "softmax has no parameter 'BLOC'" in error
    assert "help: did you mean 'BLOCK'?" in error
    error = blc("scale.py", "--signature", "x=*fp33", "--target", "cpu", code=1).err
    assert "'*fp33' is not a type" in error


def test_what_the_machine_lacks(blc, monkeypatch):
    monkeypatch.setattr(pipeline, "ptxas", lambda: None)
    assert blc("softmax.bl", "--target", "sm_80", "-o", "k.cubin", code=3).err == (
        "blc: error: there is no ptxas, which makes machine code of PTX\n"
        "  help: pip install nvidia-cuda-nvcc, or set BLOCKLANG_PTXAS; PTX needs none of it, and "
        "the driver assembles it when it is loaded\n"
    )
    monkeypatch.setenv("BLOCKLANG_CHECK", "9")
    error = blc("softmax.bl", "--target", "sm_80", code=3).err
    assert error.startswith("blc: error: environment variable BLOCKLANG_CHECK is '9'; expected")


def test_an_old_assembler_is_the_machines_problem(blc, monkeypatch):
    def old(*_, **__):
        log = "ptxas fatal: Value 'sm_121' is not defined for option 'gpu-name'"
        raise AssemblerError("ptxas", "", log)

    monkeypatch.setattr(build.JitFunction, "compile", old)
    error = blc("softmax.bl", "--target", "sm_121", code=3).err
    assert error.startswith("blc: error: the installed ptxas does not know sm_121: ptxas fatal")
    assert "pip install --upgrade nvidia-cuda-nvcc" in error


def test_defects_ask_for_a_report(blc, monkeypatch, capsys):
    def fail(*_, **__):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(build.JitFunction, "compile", fail)
    assert blc("softmax.bl", "--target", "cpu", code=70).err == (
        "blc: internal error: ZeroDivisionError: by zero\n"
        "  This is a defect of blocklang, not of your kernel. Please report it with the kernel, the"
        "\n  command, and the output with BLOCKLANG_DEBUG=1.\n"
    )
    monkeypatch.setenv("BLOCKLANG_DEBUG", "1")
    assert main(["softmax.bl", "--target", "cpu"]) == 70
    error = capsys.readouterr().err
    assert "Traceback (most recent call last)" in error
    assert error.endswith("ZeroDivisionError: by zero\n")


def test_a_reader_that_goes_away_is_no_error(blc, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    assert main(["softmax.bl", "--target", "cpu", "--emit", "ir"]) == ExitCode.BROKEN_PIPE
    assert blc.capture.readouterr().err == ""


def test_machine_code_is_not_shown_on_terminals(blc, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    error = blc("softmax.bl", "--target", "cpu", "--emit", "object", code=2).err
    assert error == (
        "blc: error: --emit object: a terminal cannot show machine code\n"
        "  help: redirect it, or name a file: -o kernel.o\n"
    )


def test_warnings_are_lines(blc, monkeypatch):
    def warn(*_):
        warnings.warn("look out", UserWarning, stacklevel=2)
        return 0

    monkeypatch.setattr(build, "execute", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert blc("softmax.bl").err == "blc: warning: look out\n"


def test_warnings_of_the_assembler_are_shown(blc, monkeypatch):
    original = build.JitFunction.compile

    def compile(self, *args, **keywords):
        kernel = original(self, *args, **keywords)
        kernel.metadata["warnings"] = ["ptxas info : (C7504) ignored"]
        return kernel

    monkeypatch.setattr(build.JitFunction, "compile", compile)
    error = blc("softmax.bl", "--target", "sm_90a", "--emit", "ptx").err
    assert error == "blc: warning: ptxas info : (C7504) ignored\n"
