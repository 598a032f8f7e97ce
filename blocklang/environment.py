"""Environment variables: the one module that reads them.

Each variable is a `Variable` in this file: name, meaning of its text, default, documentation.
`docs/environment.md` is generated from the same table. Values are read at every call of `get`,
never at import, so that a test or a program can change them. An empty value counts as unset, and
a value that cannot be understood is an `EnvironmentVariableError`, never a silent default.

This module decides nothing: what a value means is up to the code that asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

Value = TypeVar("Value")
Read = TypeVar("Read", covariant=True)

WORDS_FOR_TRUTH = {"1": True, "true": True, "yes": True, "on": True}
WORDS_FOR_FALSEHOOD = {"0": False, "false": False, "no": False, "off": False}
OPTIONAL_PASSES = ("specialize-warps", "overlap-dots")


class EnvironmentVariableError(ValueError):
    """An environment variable holds text that does not fit its meaning."""


@dataclass(frozen=True)
class Format(Generic[Read]):
    """How the text of a variable becomes a value.

    `expected` completes the sentence "expected ..."; `read` raises ValueError on bad text.
    """

    expected: str
    read: Callable[[str], Read]


@dataclass(frozen=True)
class Variable(Generic[Value]):
    """One environment variable; `get` reads it now."""

    name: str
    format: Format[Value]
    default: Value
    default_text: str
    documentation: str

    def get(self) -> Value:
        """Return the value, or the default where the variable is unset or empty."""
        text = os.environ.get(self.name, "").strip()
        if not text:
            return self.default
        try:
            return self.format.read(text)
        except ValueError:
            raise EnvironmentVariableError(
                f"environment variable {self.name} is {text!r}; expected {self.format.expected} "
                f"(unset it for the default: {self.default_text})"
            ) from None


def _read_flag(text: str) -> bool:
    try:
        return (WORDS_FOR_TRUTH | WORDS_FOR_FALSEHOOD)[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def _read_file(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        raise ValueError(text)
    return path


def _read_names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ValueError(text)
    return names


def _read_optional_passes(text: str) -> tuple[str, ...]:
    names = _read_names(text)
    if not set(names) <= set(OPTIONAL_PASSES):
        raise ValueError(text)
    return names


def _read_word(text: str) -> str:
    if len(text.split()) != 1:
        raise ValueError(text)
    return text


def _integer(lowest: int, highest: int) -> Format[int]:
    def read(text: str) -> int:
        value = int(text)
        if not lowest <= value <= highest:
            raise ValueError(text)
        return value

    return Format(f"an integer from {lowest} to {highest}", read)


FLAG = Format("1 or 0 (also true/false, yes/no, on/off)", _read_flag)
FILE = Format("the path of an existing file", _read_file)
FOLDER = Format("the path of a folder", lambda text: Path(text).expanduser())
NAMES = Format("names separated by commas", _read_names)
SOME_PASSES = Format(f"some of {', '.join(OPTIONAL_PASSES)}", _read_optional_passes)
PRESENCE = Format("anything: being set is what counts", bool)
WORD = Format("one word", _read_word)

CACHE_DIR: Variable[Path | None] = Variable(
    "BLOCKLANG_CACHE_DIR",
    FOLDER,
    default=None,
    default_text="the user's cache folder",
    documentation=(
        "Folder for compiled kernels. It is created for its owner alone; a folder that other "
        "users can write is not used."
    ),
)
DUMP: Variable[tuple[str, ...]] = Variable(
    "BLOCKLANG_DUMP",
    NAMES,
    default=(),
    default_text="nothing",
    documentation="Print the IR after these passes on standard error; `all` means every pass.",
)
DISABLE_PASSES: Variable[tuple[str, ...]] = Variable(
    "BLOCKLANG_DISABLE_PASSES",
    SOME_PASSES,
    default=(),
    default_text="nothing",
    documentation=(
        "Compile without these passes, separated by commas, which make kernels faster and change "
        "nothing else: `specialize-warps` (copies by warps of their own on sm_90a), `overlap-dots` "
        "(products that run beside other work)."
    ),
)
CHECK: Variable[int] = Variable(
    "BLOCKLANG_CHECK",
    _integer(0, 2),
    default=0,
    default_text="0",
    documentation=(
        "How much the compiler checks itself. 0: the IR is verified once, before code is made of "
        "it; 1: after every pass; 2: and it is also printed and parsed back after every pass."
    ),
)
DEBUG: Variable[bool] = Variable(
    "BLOCKLANG_DEBUG",
    FLAG,
    default=False,
    default_text="off",
    documentation=(
        "Compile kernels with their run-time checks, such as `device_assert`; and `blc` shows "
        "where in the compiler a defect is."
    ),
)
PTXAS: Variable[Path | None] = Variable(
    "BLOCKLANG_PTXAS",
    FILE,
    default=None,
    default_text="the first one found",
    documentation=(
        "The `ptxas` that assembles PTX. Without it: the one of the `nvidia-cuda-nvcc` package, "
        "of a CUDA toolkit or on the search path; without any, the GPU driver assembles."
    ),
)
CPU_THREADS: Variable[int | None] = Variable(
    "BLOCKLANG_CPU_THREADS",
    _integer(1, 4096),
    default=None,
    default_text="one for each core that the process may use",
    documentation="Number of threads that run the programs of a grid on the CPU.",
)
PRINT_AUTOTUNING: Variable[bool] = Variable(
    "BLOCKLANG_PRINT_AUTOTUNING",
    FLAG,
    default=False,
    default_text="off",
    documentation=(
        "Print on standard error, whenever `autotune` measures, a table of all configurations: "
        "what each uses, how long it takes, or why it was left out."
    ),
)
TARGET: Variable[str | None] = Variable(
    "BLOCKLANG_TARGET",
    WORD,
    default=None,
    default_text="what the outputs ask for; else the GPU of this machine, else `sm_80`",
    documentation="What `blc` compiles for, such as `sm_90a` or `cpu`, without `--target`.",
)
NO_COLOR: Variable[bool] = Variable(
    "NO_COLOR",
    PRESENCE,
    default=False,
    default_text="colour on terminals only",
    documentation="Print without colour everywhere (the convention of no-color.org).",
)

VARIABLES: tuple[Variable, ...] = (
    CACHE_DIR,
    DUMP,
    DISABLE_PASSES,
    CHECK,
    DEBUG,
    PTXAS,
    CPU_THREADS,
    PRINT_AUTOTUNING,
    TARGET,
    NO_COLOR,
)
