"""Runs the cases in `.blir` files: IR text under a first line that says what to do with it.

See README.md. A case runs in this process; its CHECK lines are matched by `filecheck`. Locations
are given to all ops before a pass, and none may be lost by it.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import Options
from filecheck.parser import Parser, pattern_for_opts

from blocklang.codegen import llvm
from blocklang.codegen.nvptx import assembler
from blocklang.codegen.nvptx.kernel import emit_kernel
from blocklang.codegen.targets import gpu_target
from blocklang.ir import passes
from blocklang.ir.core import Module
from blocklang.ir.diagnostics import CompileError
from blocklang.ir.location import Location
from blocklang.ir.op import IRError
from blocklang.ir.parser import parse
from blocklang.ir.passes.manager import PASSES, Pass, PassManager
from blocklang.ir.printer import print_module
from blocklang.ir.rewrite import RULES
from blocklang.ir.verify import verify

for found in pkgutil.iter_modules(passes.__path__, f"{passes.__name__}."):
    importlib.import_module(found.name)

FOLDER = Path(__file__).parent
SEPARATOR = "// -----\n"


@dataclass(frozen=True)
class Case:
    """One case: where it stands, what to do, and the text below."""

    path: Path
    line: int
    command: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(FOLDER)}:{self.line}"


def cases_of(path: Path) -> list[Case]:
    """The cases of a file; a part without a command has that of the part before."""
    cases: list[Case] = []
    line, command = 1, ""
    for text in path.read_text(encoding="utf-8").split(SEPARATOR):
        found = re.match(r"// (pass|roundtrip|ptx|verify-error|parse-error)\b.*", text)
        command = found.group()[3:] if found else command
        cases.append(Case(path, line, command, text))
        line += text.count("\n") + 1
    return cases


CASES = [case for path in sorted(FOLDER.glob("**/*.blir")) for case in cases_of(path)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case: Case) -> None:
    action, _, rest = case.command.partition(" ")
    if action == "pass":
        run_pass(case, rest)
    elif action == "roundtrip":
        check_round_trip(case)
    elif action == "ptx":
        check_ptx(case, rest)
    else:
        assert action in ("verify-error:", "parse-error:"), f"{case}: no command in the first line"
        check_error(case, rest)


def run_pass(case: Case, names: str) -> None:
    """`pass NAME{option=value}; NAME ...`: run the passes, and check what they make."""
    module = parse(case.text)
    verify(module)
    locate(module, case.path.name)
    known = {op.loc for op in module.walk()}
    PassManager(check=2).run(module, [pass_of(text) for text in names.split(";")])
    for op in module.walk():
        assert op.loc.frames[-1].file == case.path.name, f"{op.mnemonic} has lost its location"
        assert {frame_without_caller(frame) for frame in op.loc.frames} <= known
    check(case, print_module(module, locations=False))


def pass_of(text: str) -> Pass:
    """The pass that `name{option=value, ...}` describes."""
    found = re.fullmatch(r"\s*([a-z0-9-]+)(?:\{(.*)\})?\s*", text)
    assert found, f"not a pass: {text}"
    options: dict[str, Any] = {}
    for option in filter(None, (found[2] or "").split(",")):
        name, _, value = option.partition("=")
        options[name.strip()] = ast.literal_eval(value.strip())
    return PASSES[found[1]](**options)


def locate(module: Module, file: str) -> None:
    """Give every op and argument a location of its own."""
    for number, op in enumerate(module.walk(), 1):
        op.loc = Location(file, number, 1, number, 2)


def frame_without_caller(frame: Location) -> Location:
    return Location(
        frame.file, frame.line, frame.column, frame.end_line, frame.end_column, frame.function
    )


def check_round_trip(case: Case) -> None:
    """`roundtrip`: what is printed reads back as the same; CHECK lines see the text."""
    module = parse(case.text)
    verify(module)
    text = print_module(module)
    assert print_module(parse(text)) == text
    if "CHECK" in case.text:
        check(case, text)


def check_ptx(case: Case, target: str) -> None:
    """`ptx TARGET`: the PTX of a kernel with explicit shared memory, which ptxas takes as it is."""
    module = parse(case.text)
    verify(module)
    text = emit_kernel(module, gpu_target(target), line_info=False)
    ptx, _ = llvm.ptx(text, gpu_target(target))
    check(case, ptx)
    tool = assembler.find_ptxas()
    if tool is not None:
        assembled = assembler.assemble(ptx, target, ptxas=tool)
        assert assembled.warnings == ()
        assert all(used.spill_stores == 0 for used in assembled.kernels.values())


def check_error(case: Case, expected: str) -> None:
    """`verify-error: text` and `parse-error: text`: the error that is reported."""
    if case.command.startswith("parse-error"):
        with pytest.raises(CompileError) as parsing:
            parse(case.text)
        assert expected in str(parsing.value)
        return
    module = parse(case.text)
    with pytest.raises(IRError) as verifying:
        verify(module)
    assert expected in str(verifying.value)


def check(case: Case, output: str) -> None:
    """Match the CHECK lines of a case against `output`."""
    options = Options(match_filename=str(case))
    checks = Parser(options, io.StringIO(case.text), *pattern_for_opts(options))
    matcher = Matcher(options, FInput(str(case), output), checks)
    messages = io.StringIO()
    matcher.stderr = messages
    with contextlib.redirect_stdout(messages):
        code = matcher.run()
    assert code == 0, f"{case}\n{messages.getvalue()}\n{output}"


def test_every_rewrite_rule_fires_in_some_case() -> None:
    before = {rule: rule.hits for rule in RULES}
    for case in CASES:
        if case.command == "pass canonicalize":
            PassManager().run(parse(case.text), [pass_of("canonicalize")])
    idle = [rule.name for rule in RULES if rule.hits == before[rule]]
    assert not idle, "write a case for each of these rules"
