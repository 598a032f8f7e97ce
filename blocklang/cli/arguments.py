"""The command line as data: commands, their options and exit codes; and parsers made from it.

`docs/cli.md` is made from the same tables. Nothing here looks at files or loads the compiler, so
that help is quick.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from blocklang import __version__


class ExitCode(IntEnum):
    """What the exit code of `blc` says."""

    SUCCESS = 0
    KERNEL = 1
    USAGE = 2
    ENVIRONMENT = 3
    INTERNAL = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141


EXIT_CODES = {
    ExitCode.SUCCESS: "everything was done",
    ExitCode.KERNEL: "a mistake in a kernel, or its run failed",
    ExitCode.USAGE: "wrong arguments of `blc`",
    ExitCode.ENVIRONMENT: "something is missing here: ptxas, a GPU, room on the disk",
    ExitCode.INTERNAL: "a defect of blocklang; please report it",
    ExitCode.INTERRUPTED: "interrupted from the keyboard",
    ExitCode.BROKEN_PIPE: "the reader of the output went away",
}


class UsageError(Exception):
    """Wrong arguments: what is wrong, and `help` on what to write instead."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.help = help


class EnvironmentProblem(Exception):
    """Something that the machine lacks: what, and `help` on how to get it."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.help = help


@dataclass(frozen=True)
class Option:
    """One option or operand: its spellings, the placeholder of its value, what it does.

    `settings` go to argparse as they are.
    """

    names: tuple[str, ...]
    metavar: str
    help: str
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """A command: `name` is empty for compilation, which needs no word."""

    name: str
    usage: str
    summary: str
    groups: tuple[tuple[str, tuple[Option, ...]], ...]


def _flag(*names: str, help: str) -> Option:
    return Option(names, "", help, {"action": "store_true"})


def _list(*names: str, metavar: str, help: str, **settings: Any) -> Option:
    return Option(names, metavar, help, {"action": "append", "default": [], **settings})


_KERNEL = Option(
    ("-k", "--kernel"), "KERNEL", "the kernel to take; may be left out where there is only one"
)
_DEFINE = _list(
    "-D",
    "--define",
    metavar="NAME=VALUE",
    help="give a compile-time parameter its value: a number, true, false, none, a dtype (`f32`) or "
    "a string; in quotes of its own always a string",
)
_SIGNATURE = _list(
    "--signature",
    metavar="NAME=TYPE",
    help="give a parameter its type where the source does not, in Triton's spelling: `i32`, "
    "`*fp32`, `*fp32:16` where it is divisible by 16, `tensordesc<fp16[64, 64]>`; a number instead "
    "of a type is compiled in. Several are separated by commas",
)
_WARPS = Option(
    ("--num-warps",), "N", "warps of 32 threads that execute a program on a GPU", {"type": int}
)
_STAGES = Option(("--num-stages",), "N", "depth of software pipelines", {"type": int})
_CTAS = Option(
    ("--num-ctas",),
    "N",
    "blocks of threads (1, 2 or 4) that share a program as one cluster, where the target has "
    "clusters and a product can be split",
    {"type": int},
)
_NO_FUSION = _flag(
    "--no-fp-fusion", help="keep multiplication and addition apart, each rounded for itself"
)
_DEBUG = _flag("--debug", help="compile `device_assert`; the default is what BLOCKLANG_DEBUG says")
_TARGET = Option(
    ("--target",),
    "TARGET",
    "what to compile for: `cpu` or a GPU's architecture such as `sm_90a`. The default is "
    "BLOCKLANG_TARGET, then what the outputs ask for: `cpu` for .o and .s, else the GPU of this "
    "machine, and sm_80 where there is none",
)
_VERBOSE = _flag(
    "-v", "--verbose", help="say what the kernel uses: registers, spills, shared memory, occupancy"
)
_FILE = Option(
    ("file",), "FILE", "a `.bl` file, or a Python file, which is imported; `-` reads .bl text"
)

COMPILE = Command(
    "",
    "blc FILE [-k KERNEL] [-o OUTPUT]... [option]...",
    "Compile a kernel and write what is asked for. Without an output it is only compiled, and "
    "what it uses is reported.",
    (
        (
            "What to compile",
            (
                _FILE,
                _KERNEL,
                _DEFINE,
                _SIGNATURE,
                _TARGET,
                _WARPS,
                _STAGES,
                _CTAS,
                _NO_FUSION,
                _DEBUG,
            ),
        ),
        (
            "What to write",
            (
                _list(
                    "-o",
                    "--output",
                    metavar="OUTPUT",
                    help="write this file; its suffix says what. May be given several times; `-` "
                    "is the standard output, for what --emit names",
                ),
                Option(("--emit",), "STAGE", "write this stage to the standard output"),
                _list("--header", metavar="FILE", help="write the C header to this file"),
                _list("--manifest", metavar="FILE", help="write the JSON manifest to this file"),
                _flag(
                    "--no-sidecars",
                    help="write no header and manifest beside PTX, machine code and objects",
                ),
                _flag("--no-line-info", help="leave source positions out of the machine code"),
            ),
        ),
        (
            "What to look at",
            (
                _VERBOSE,
                Option(
                    ("--dump-passes",),
                    "PASS",
                    "print the IR on standard error after these passes (comma-separated), or "
                    "after every one",
                    {"nargs": "?", "const": "all"},
                ),
                _flag("--time-passes", help="print the time of every step on standard error"),
                Option(
                    ("--stop-after",),
                    "PASS",
                    "end after this pass (`NAME:2`: after its second run) and write the IR to "
                    "the standard output, or to the .ir file of -o",
                ),
            ),
        ),
    ),
)

RUN = Command(
    "run",
    "blc run FILE [-k KERNEL] ARGUMENT=VALUE... --grid GRID [option]...",
    "Run a kernel on arrays in .npy files, on the CPU or a GPU.",
    (
        (
            "What to run",
            (
                _FILE,
                Option(
                    ("arguments",),
                    "ARGUMENT=VALUE",
                    "an argument of the kernel: a number, an array from a file (`x=in.npy`, "
                    "`x=in.npy:bf16`), a new one (`y=zeros:512x1000:f32`; also ones, empty, "
                    "random, arange), or one like another (`y=empty:x`)",
                    {"nargs": "*"},
                ),
                _KERNEL,
                Option(
                    ("--grid",),
                    "GRID",
                    "the number of programs: one to three expressions separated by commas, of "
                    "numbers, arguments, compile-time parameters, `+ - * //` and `cdiv(a, b)`",
                    {"required": True},
                ),
                _DEFINE,
                _WARPS,
                _STAGES,
                _CTAS,
                _NO_FUSION,
                _DEBUG,
                Option(
                    ("--device",),
                    "DEVICE",
                    "`cpu`, `gpu`, or `gpu:1` for the second GPU",
                    {"default": "cpu"},
                ),
            ),
        ),
        (
            "What to do with the result",
            (
                _list(
                    "--save",
                    metavar="ARGUMENT[=FILE]",
                    help="save an array after the run, by default to ARGUMENT.npy",
                ),
                _list("--print", metavar="ARGUMENT", help="print an array after the run"),
                Option(
                    ("--repeat",),
                    "N",
                    "run it N more times after the first, for the time; results are those of "
                    "the first run",
                    {"type": int, "default": 0},
                ),
            ),
        ),
    ),
)

CHECK = Command(
    "check",
    "blc check FILE... [option]...",
    "Check every kernel whose parameters have types, and report all mistakes.",
    (
        (
            "What to check",
            (
                Option(("files",), "FILE", "`.bl` and Python files", {"nargs": "+"}),
                Option(("-k", "--kernel"), "KERNEL", "check only kernels of this name", {}),
                _DEFINE,
                _SIGNATURE,
                Option(
                    ("--target",),
                    "TARGET",
                    "also compile for this target; without it, names and types are checked",
                ),
            ),
        ),
    ),
)

COMMANDS = (COMPILE, RUN, CHECK)
_PASS_NAMES = re.compile(r"[a-z][a-z0-9-]*(,[a-z][a-z0-9-]*)*")


def parse(arguments: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    """The command and its arguments. SystemExit after help, version and argparse's own errors."""
    command = next((c for c in COMMANDS if c.name and [c.name] == list(arguments[:1])), COMPILE)
    words = list(arguments[1:] if command.name else arguments)
    # Intermixed, so that options may stand among a list of operands.
    return command, parser_of(command).parse_intermixed_args(_with_value(words))


def _with_value(words: list[str]) -> list[str]:
    """Join --dump-passes to its value, so that a file after it is not taken for one."""
    done = []
    for position, word in enumerate(words):
        if word == "--dump-passes":
            following = words[position + 1] if position + 1 < len(words) else ""
            word = f"{word}={following if _PASS_NAMES.fullmatch(following) else 'all'}"
        elif position and words[position - 1] == "--dump-passes" and _PASS_NAMES.fullmatch(word):
            continue
        done.append(word)
    return done


def parser_of(command: Command) -> argparse.ArgumentParser:
    """The parser of a command."""
    others = "".join(f"\n  {c.usage}\n      {c.summary}" for c in COMMANDS if c is not command)
    codes = "".join(f"\n  {code:3d}  {text}" for code, text in EXIT_CODES.items())
    parser = argparse.ArgumentParser(
        prog=f"blc {command.name}".strip(),
        # Without the part that argparse writes itself.
        usage=command.usage,
        description=command.summary,
        epilog=f"other commands:{others}\n\nexit codes:{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"blc {__version__}")
    for title, options in command.groups:
        group = parser.add_argument_group(title)
        for option in options:
            settings = dict(option.settings)
            if option.metavar:
                settings["metavar"] = option.metavar
            group.add_argument(*option.names, help=option.help.replace("%", "%%"), **settings)
    return parser
