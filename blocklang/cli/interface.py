"""What a C program must know to call a compiled kernel; the header and the manifest are made of it.

On GPUs the arguments form a C structure in its natural layout, which is also that of the kernel's
parameters in PTX. On CPUs every argument has a slot of 8 bytes. Names are made valid for C and C++
here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blocklang.codegen.targets import GpuTarget
from blocklang.compiled import CompiledKernel
from blocklang.ir.types import dtype

_SLOT = 8
_C_TYPES = {"i1": "uint8_t", "f32": "float", "f64": "double", "ptr": "uint64_t"}
# Names that C, C++, or headers of theirs have taken.
_RESERVED_WORDS = (
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl "
    "concept const consteval constexpr constinit const_cast continue co_await co_return co_yield "
    "decltype default delete do double dynamic_cast else enum errno explicit export extern false "
    "float for friend goto if inline int linux long main mutable namespace new noexcept not not_eq "
    "nullptr operator or or_eq private protected public register reinterpret_cast requires "
    "restrict return short signed sizeof static static_assert static_cast stderr stdin stdout "
    "struct switch template this thread_local throw true try typedef typeid typename typeof union "
    "unix unsigned using virtual void volatile wchar_t while xor xor_eq NULL"
)
_RESERVED = frozenset(_RESERVED_WORDS.split())


@dataclass(frozen=True)
class Argument:
    """A run-time argument: `type` in the language's spelling (`*f32`, `i32`), `member` its name in
    C; `divisible` is what its value, or address in bytes, must be divisible by.
    """

    name: str
    member: str
    type: str
    c_type: str
    size: int
    offset: int
    divisible: int
    written: bool


@dataclass(frozen=True)
class Interface:
    """All that a caller needs to know of `kernel`, besides its code. `source` is a file's name."""

    kernel: CompiledKernel
    source: str

    @property
    def is_gpu(self) -> bool:
        """Whether the kernel runs on GPUs."""
        return isinstance(self.kernel.target, GpuTarget)

    @property
    def symbol(self) -> str:
        """The name of the machine code's entry."""
        return str(self.kernel.metadata["symbol"])

    @property
    def prefix(self) -> str:
        """What the names in the header begin with."""
        return identifier(self.kernel.name)

    @property
    def arguments(self) -> list[Argument]:
        """The run-time arguments in order."""
        found: list[Argument] = []
        offset = 0
        taken: set[str] = set()
        for entry in self.kernel.metadata["arguments"]:
            kind = entry["type"]
            is_pointer = kind == "ptr"
            size = 8 if is_pointer else dtype(kind).bytes
            step = size if self.is_gpu else _SLOT
            offset = -(-offset // step) * step
            member = unique(identifier(entry["name"]), taken)
            element = re.sub(r"ptr<([^<>]*)>", r"*\1", entry["element"])
            found.append(
                Argument(
                    entry["name"],
                    member,
                    f"*{element}" if is_pointer else kind,
                    self._c_type(entry),
                    size,
                    offset,
                    entry["divisible"],
                    entry["written"],
                )
            )
            offset += step
        return found

    def _c_type(self, entry: Mapping[str, Any]) -> str:
        """The C type of an argument: on CPUs, a pointer to what is there."""
        if self.is_gpu or entry["type"] != "ptr":
            return c_type(entry["type"])
        is_plain = not entry["element"].startswith("ptr")
        element = c_type(entry["element"]) if is_plain else "void"
        return f"{element} *" if entry["written"] else f"const {element} *"

    @property
    def size(self) -> int:
        """Bytes of the structure of the arguments."""
        arguments = self.arguments
        if not arguments:
            return 0
        step = max(a.size for a in arguments) if self.is_gpu else _SLOT
        return -(-(arguments[-1].offset + arguments[-1].size) // step) * step

    @property
    def constants(self) -> Mapping[str, Any]:
        """The values that are compiled in: compile-time parameters, and arguments fixed by the
        signature.
        """
        return self.kernel.constants

    @property
    def tensor_maps(self) -> list[dict[str, Any]]:
        """The recipes of the tensor maps that the machine code takes behind its arguments."""
        return list(self.kernel.metadata.get("tensor_maps", ()))

    @property
    def ptx_version(self) -> str:
        """The PTX version that a driver must understand, such as `8.7`."""
        found = re.search(r"^\.version (\S+)", self.kernel.asm["ptx"], re.M)
        return found[1] if found else ""

    @property
    def scratch_bytes(self) -> int:
        """Bytes of memory that each thread of a CPU must lend to the kernel."""
        return int(self.kernel.metadata.get("scratch_bytes", 0))


def source_name(path: str) -> str:
    """The name of an input file as results show it: without its folder, which says nothing
    elsewhere.
    """
    return "standard input" if path == "-" else os.path.basename(path)


def c_type(kind: str) -> str:
    """The C type of an argument by its IR type; narrow floats are passed as their bits."""
    if kind in _C_TYPES:
        return _C_TYPES[kind]
    found = dtype(kind)
    return f"{'int' if found.kind == 'int' else 'uint'}{found.bits}_t"


def identifier(name: str) -> str:
    """A name that C and C++ accept, close to `name`."""
    ascii_name = re.sub(r"[^A-Za-z0-9_]", lambda found: f"u{ord(found[0]):04x}", name)
    # Names with leading or double underscores belong to the compiler in C++.
    plain = re.sub(r"__+", "_", ascii_name).lstrip("_") or "argument"
    return plain + "_" if plain in _RESERVED or plain[0].isdigit() else plain


def unique(name: str, taken: set[str]) -> str:
    """`name`, with underscore and number where it is taken; it is taken then."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name.rstrip('_')}_{number}"
    taken.add(candidate)
    return candidate
