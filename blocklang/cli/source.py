"""From the name of an input file to the kernels in it.

A Python file is executed, as an import would, under a name of its own: its folder is searched for
modules meanwhile, and what it prints goes to standard error. Whatever goes wrong in it is reported
at its line, like a mistake in a kernel.
"""

from __future__ import annotations

import difflib
import linecache
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from blocklang.errors import NotLoadable
from blocklang.frontend.errors.syntax import NotUtf8
from blocklang.frontend.text import FileScope, load_file, load_text
from blocklang.ir.diagnostics import CompileError
from blocklang.ir.location import Location
from blocklang.kernel import JitFunction
from blocklang.parser_tables import prepare_parser
from blocklang.tuning.decorator import KernelDecorator

from .arguments import UsageError

STANDARD_INPUT = "-"
_MODULE_PREFIX = "blocklang_input_"


def stem(path: str) -> str:
    """The name of an input file without folder and suffix."""
    return "kernel" if path == STANDARD_INPUT else Path(path).stem


def load_kernels(path: str) -> dict[str, JitFunction]:
    """The kernels that a file defines, in its order; of a Python file, every `@jit` function.

    Raises UsageError where there is no such file, CompileError where it is wrong.
    """
    if path == STANDARD_INPUT:
        prepare_parser()
        return _text_kernels(load_text(_standard_input(), "<stdin>"))
    suffix = Path(path).suffix
    if suffix not in (".bl", ".py"):
        raise UsageError(
            f"{path}: expected a .bl file or a Python file",
            "results are named with -o: blc softmax.bl -o softmax.ptx",
        )
    if not os.path.isfile(path):
        problem = "is a folder" if os.path.isdir(path) else "there is no such file"
        raise UsageError(f"{path}: {problem}")
    if suffix == ".py":
        return _python_kernels(path)
    prepare_parser()
    return _text_kernels(load_file(path))


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        value = f"0x{error.object[error.start]:02x}"
        raise NotUtf8(None, path="<stdin>", byte=error.start, value=value) from None


def choose(kernels: dict[str, JitFunction], name: str | None, path: str) -> JitFunction:
    """The kernel of that name, or the only one. UsageError where that is not one kernel."""
    known = ", ".join(kernels)
    if not kernels:
        what = "@blocklang.jit function" if path.endswith(".py") else "kernel"
        raise UsageError(f"{path} defines no {what}")
    if name is None:
        if len(kernels) > 1:
            raise UsageError(f"{path} has several kernels: {known}", "choose one with -k NAME")
        return next(iter(kernels.values()))
    if name not in kernels:
        close = difflib.get_close_matches(name, kernels, 1)
        raise UsageError(
            f"{path} has no kernel {name!r}",
            f"did you mean {close[0]!r}?" if close else f"it has: {known}",
        )
    return kernels[name]


def _text_kernels(scope: FileScope) -> dict[str, JitFunction]:
    return {name: JitFunction(None, tree) for name, tree in scope.kernels.items()}


def _python_kernels(path: str) -> dict[str, JitFunction]:
    module = _import(path)
    return {
        name: _undecorated(value)
        for name, value in vars(module).items()
        # Kernels that the file imports from elsewhere are its tools.
        if isinstance(value, JitFunction | KernelDecorator) and value.__module__ == module.__name__
    }


def _undecorated(value: JitFunction | KernelDecorator) -> JitFunction:
    """The kernel itself: what autotuning and heuristics would choose, -D and options give."""
    while isinstance(value, KernelDecorator):
        value = value.fn
    return value


def _import(path: str) -> ModuleType:
    full = os.path.abspath(path)
    module = ModuleType(_MODULE_PREFIX + stem(path))
    # The path as given: it is in every message, and in the line information of machine code.
    module.__file__ = path
    linecache.checkcache(path)
    # Dataclasses and the like look up their module while it is executed.
    sys.modules[module.__name__] = module
    try:
        with _search_path(os.path.dirname(full)), redirect_stdout(sys.stderr):
            # Not through Python's import system: no stale bytecode, and none left behind.
            exec(compile(Path(path).read_bytes(), path, "exec", dont_inherit=True), vars(module))
    except CompileError:
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise _import_error(path, error) from error
    return module


@contextmanager
def _search_path(folder: str) -> Iterator[None]:
    before = sys.path[:]
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path[:] = before


def _import_error(path: str, error: BaseException) -> NotLoadable:
    place = _place_in(path, error)
    what = "does not parse" if isinstance(error, SyntaxError) else "cannot be imported"
    reason = error.msg if isinstance(error, SyntaxError) else str(error)
    if isinstance(error, SystemExit):
        reason = "it ends the program"
    hint = 'keep what runs kernels under `if __name__ == "__main__":`'
    if isinstance(error, ImportError):
        hint = "install what it imports for this Python"
    elif isinstance(error, SyntaxError):
        hint = ""
    problem = f"{type(error).__name__}: {reason}"
    return NotLoadable(place, path=path, what=what, problem=problem, instead=hint)


def _place_in(path: str, error: BaseException) -> Location | None:
    """The last place in the file itself on the way to the error."""
    if isinstance(error, SyntaxError) and error.filename == path and error.lineno:
        column = error.offset or 1
        end = error.end_offset or 0
        end = end if error.end_lineno == error.lineno and end > column else column + 1
        return Location(path, error.lineno, column, error.lineno, end)
    frames: list[Any] = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    if not frames or not frames[-1].lineno:
        return None
    frame = frames[-1]
    return Location(
        path,
        frame.lineno,
        (frame.colno or 0) + 1,
        frame.end_lineno or frame.lineno,
        (frame.end_colno or 0) + 1,
    )
