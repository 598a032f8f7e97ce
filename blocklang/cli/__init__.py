"""`blc`, the command line of blocklang: compile, run and check kernels without writing Python.

`main` is the entry point. `arguments` has the commands and options as data, one module has each
command (`build`, `run`, `check`), `failures` turns every exception into an exit code and a text,
and `terminal` prints. Results go to files or to the standard output, everything else to standard
error.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from . import failures, terminal
from .arguments import ExitCode, parse

__all__ = ["main"]

_MODULES = {"": "build", "run": "run", "check": "check"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the result is the exit code (see `arguments.EXIT_CODES`)."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = _run(sys.argv[1:] if arguments is None else arguments)
            sys.stdout.flush()
            return code
    except SystemExit as exit:
        # argparse has printed help, a version or an error of its own.
        return exit.code if isinstance(exit.code, int) else ExitCode.USAGE
    except BaseException as error:
        return _fail(error)


def _run(words: Sequence[str]) -> int:
    command, arguments = parse(words)
    # The compiler is loaded when there is something to compile.
    module = import_module(f"{__name__}.{_MODULES[command.name]}")
    return int(module.execute(arguments))


def _fail(error: BaseException) -> int:
    code, text = failures.describe(error)
    if code == ExitCode.BROKEN_PIPE:
        # Python would complain once more when it flushes at exit.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if text:
        with suppress(BrokenPipeError):
            terminal.say(text)
    return code


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    terminal.say(f"blc: warning: {message}")
