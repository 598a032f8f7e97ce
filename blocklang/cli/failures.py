"""From any exception to an exit code and a text for people: the one place that decides both.

Mistakes of users never show a traceback. Defects of blocklang show one when BLOCKLANG_DEBUG is
set, and otherwise say how to get it.
"""

from __future__ import annotations

import traceback

from blocklang import environment
from blocklang.environment import EnvironmentVariableError
from blocklang.ir.diagnostics import CompileError
from blocklang.runtime.errors import (
    CudaError,
    LaunchError,
    ModuleLoadError,
    NoDeviceError,
    NoDriverError,
    ProgramError,
)

from .arguments import EnvironmentProblem, ExitCode, UsageError

# Launches that failed although they were asked for in the right way.
_KERNEL_FAILURES = (CudaError, ModuleLoadError, ProgramError)


def describe(error: BaseException) -> tuple[ExitCode, str]:
    """The exit code for an exception, and what to print on standard error (may be empty)."""
    if isinstance(error, CompileError):
        return ExitCode.KERNEL, str(error)
    if isinstance(error, UsageError):
        return ExitCode.USAGE, _with_help(f"blc: error: {error}", error.help)
    if isinstance(error, EnvironmentProblem):
        return ExitCode.ENVIRONMENT, _with_help(f"blc: error: {error}", error.help)
    if isinstance(error, EnvironmentVariableError):
        return ExitCode.ENVIRONMENT, f"blc: error: {error}"
    if isinstance(error, LaunchError):
        if isinstance(error, NoDriverError | NoDeviceError):
            return ExitCode.ENVIRONMENT, str(error)
        failed = isinstance(error, _KERNEL_FAILURES)
        return ExitCode.KERNEL if failed else ExitCode.USAGE, str(error)
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED, ""
    if isinstance(error, BrokenPipeError):
        return ExitCode.BROKEN_PIPE, ""
    return ExitCode.INTERNAL, _defect(error)


def _with_help(message: str, help: str) -> str:
    return f"{message}\n  help: {help}" if help else message


def _defect(error: BaseException) -> str:
    what = f"{type(error).__name__}: {error}"
    message = f"blc: internal error: {what}\n  This is a defect of blocklang, not of your kernel."
    if not wants_traceback():
        return (
            f"{message} Please report it with the kernel, the\n  command, and the output with "
            f"{environment.DEBUG.name}=1."
        )
    before = getattr(error, "before", "")
    ir = f"\n\nThe IR before it:\n{before}" if before else ""
    lines = "".join(traceback.format_exception(error)).rstrip()
    return f"{message} Please report it.\n\n{lines}{ir}"


def wants_traceback() -> bool:
    """Whether defects are shown with their traceback; a wrong BLOCKLANG_DEBUG counts as set."""
    try:
        return environment.DEBUG.get()
    except EnvironmentVariableError:
        return True
