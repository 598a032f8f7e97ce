"""The command itself: help, colour, a process of its own; and `blc check`."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

import blocklang
from blocklang.cli import build, terminal
from blocklang.cli.arguments import COMMANDS, EXIT_CODES, ExitCode, parser_of
from tests.unit.cli.support import TWO


def test_help_and_version(blc):
    assert blc("--version").out == f"blc {blocklang.__version__}\n"
    for command in COMMANDS:
        text = blc(*[command.name][: bool(command.name)], "--help").out
        assert text.startswith(f"usage: {command.usage}")
        for code in EXIT_CODES:
            assert f"\n  {code:3d}  {EXIT_CODES[code]}" in text


def test_every_exit_code_has_a_meaning():
    assert list(EXIT_CODES) == list(ExitCode)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name or "compile")
def test_parsers_can_be_made(command):
    names = {name for _, options in command.groups for o in options for name in o.names}
    assert names <= set(parser_of(command).format_help().replace(",", " ").split()) | {
        "file", "files", "arguments"
    }  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_colour_on_terminals_only(blc, monkeypatch):
    text = "k.bl:1:2: error[BL201]: what\n    code\n     ^^\n  help: do"
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("COLORTERM", raising=False)
    stream = Terminal()
    terminal.say(text, stream)
    assert "\x1b[1;31merror[BL201]\x1b[0m: what" in stream.getvalue()
    assert "\x1b[1;31m^^\x1b[0m" in stream.getvalue()
    assert "\x1b[1;36mhelp\x1b[0m: do" in stream.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    for plain in (Terminal(), io.StringIO()):
        terminal.say(text, plain)
        assert plain.getvalue() == text + "\n"
        terminal.table("t [x]", ("a", "b"), [("[1]", "2")], file=plain)
        assert "\x1b" not in plain.getvalue()
        assert "[1]" in plain.getvalue()


def test_as_a_process(blc, cache_folder):
    command = [sys.executable, "-m", "blocklang", "softmax.bl", "--target", "sm_90a"]
    run = subprocess.run([*command, "-o", "k.ptx"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert blc.names() == {"k.ptx", "k.h", "k.json"}
    # The reader is gone before anything is written.
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        run = subprocess.run(
            [*command, "--emit", "ptx"], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False
        )
    if os.name == "posix":
        assert (run.returncode, run.stderr) == (ExitCode.BROKEN_PIPE, "")


# -- check -----------------------------------------------------------------------------------


def test_check_reports_every_kernel(blc):
    blc.write("two.bl", TWO)
    blc.write("wrong.bl", "kernel k(x: *f32)\n    pass\n")
    outcome = blc("check", "two.bl", "wrong.bl", "softmax.bl", "-D", "N=4", code=1)
    assert outcome.out == "3 kernels checked, 3 errors\n"
    for text in ("two.bl:2:29: error", "two.bl:5:33: error", "wrong.bl:1:17: error"):
        assert text in outcome.err
    assert blc("check", "two.bl", "-k", "second", code=1).out == "1 kernel checked, 1 error\n"


def test_check_says_what_it_leaves_out(blc):
    outcome = blc("check", "scale.py", "softmax.bl")
    assert outcome.out == "1 kernel checked, 1 not checked, no errors\n"
    assert outcome.err == "scale.py:8:1: note: scale is not checked: the type of 'x' is not known\n"


def test_check_for_a_target_compiles(blc, monkeypatch):
    compiled = []
    original = build.JitFunction.compile

    def compile(self, *args, **keywords):
        compiled.append(keywords["target"])
        return original(self, *args, **keywords)

    monkeypatch.setattr(build.JitFunction, "compile", compile)
    blc("check", "softmax.bl")
    assert compiled == []
    blc("check", "softmax.bl", "--target", "sm_80")
    assert compiled == ["sm_80"]
