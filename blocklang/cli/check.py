"""`blc check FILE...`: find all mistakes in kernels without compiling them further than needed.

A kernel is checked when the types of all its parameters are known, from the source or the command
line. The compiler ends at the first mistake of a kernel, so there is one error for each kernel.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

from blocklang.codegen.targets import Target
from blocklang.errors import Unbound
from blocklang.frontend.lower import lower_kernel
from blocklang.ir.diagnostics import CompileError
from blocklang.kernel import JitFunction
from blocklang.signature import bind_signature

from . import terminal
from .arguments import ExitCode, UsageError
from .build import choose_target, compile_kernel
from .source import load_kernels
from .values import definitions, signature


@dataclass
class _Count:
    """What has been found so far. `unused` are names that no kernel had a parameter for."""

    checked: int = 0
    unchecked: int = 0
    errors: int = 0
    unused: set[str] = field(default_factory=set)


def execute(arguments: Namespace) -> int:
    """Run the command. The exit code is that of success if there are no errors."""
    bound = definitions(arguments.define)
    types = signature(arguments.signature)
    target = choose_target(arguments.target, ()) if arguments.target else None
    count = _Count(unused={*bound, *types})
    found = False
    for path in arguments.files:
        try:
            kernels = load_kernels(path)
        except CompileError as error:
            _report(error, count)
            found = True
            continue
        for name, kernel in kernels.items():
            if arguments.kernel in (None, name):
                found = True
                _check(kernel, types, bound, target, count)
    if not found:
        which = f" {arguments.kernel!r}" if arguments.kernel else ""
        raise UsageError(f"there is no kernel{which} in {', '.join(arguments.files)}")
    if count.unused and not count.errors:
        names = ", ".join(sorted(count.unused))
        raise UsageError(f"no kernel has a parameter {names}", "look at -D and --signature")
    unchecked = f", {count.unchecked} not checked" if count.unchecked else ""
    print(f"{_kernels(count.checked)} checked{unchecked}, {_errors(count.errors)}")
    return ExitCode.KERNEL if count.errors else ExitCode.SUCCESS


def _check(
    kernel: JitFunction,
    types: dict[str, Any],
    bound: dict[str, Any],
    target: Target | None,
    count: _Count,
) -> None:
    try:
        tree = kernel.__blocklang_function__
        names = {parameter.name for parameter in tree.parameters}
        count.unused -= names
        types = {name: value for name, value in types.items() if name in names}
        bound = {name: value for name, value in bound.items() if name in names}
        given = bind_signature(tree, types, bound)
        if target is None:
            with redirect_stdout(sys.stderr):
                lower_kernel(tree, given.types, given.facts, given.constexprs)
        else:
            compile_kernel(kernel, types, bound, target, None, {})
        count.checked += 1
    except Unbound as error:
        count.unchecked += 1
        terminal.say(f"{tree.location}: note: {tree.name} is not checked: {error.message}")
    except CompileError as error:
        count.checked += 1
        _report(error, count)


def _report(error: CompileError, count: _Count) -> None:
    count.errors += 1
    terminal.say(str(error))


def _kernels(number: int) -> str:
    return f"{number} kernel{'' if number == 1 else 's'}"


def _errors(number: int) -> str:
    return f"{number or 'no'} error{'' if number == 1 else 's'}"
