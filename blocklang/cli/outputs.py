"""What `blc` can write: kinds of files by suffix, and writing them all or none.

A stage of a compiled kernel is a text or bytes; the header and the manifest count as stages here.
Files are first written beside their places under temporary names; only when all are complete are
they renamed.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .arguments import EnvironmentProblem, UsageError

STANDARD_OUTPUT = "-"


@dataclass(frozen=True)
class Stage:
    """One thing that can be written. `backend` is that of the targets that have it, or empty for
    all; `sidecars` says that a header and a manifest belong to it.
    """

    name: str
    suffixes: tuple[str, ...]
    meaning: str
    backend: str = ""
    binary: bool = False
    sidecars: bool = False


STAGES = {
    stage.name: stage
    for stage in (
        Stage("source", (), "the kernel as it is in the source"),
        Stage("bl", (".bl",), "the kernel as a `.bl` file of its own, which gives the same IR"),
        Stage("ir", (".ir", ".blir"), "block IR, as the front end makes it"),
        Stage("layout", (".layout",), "IR with a layout on every block", "nvptx"),
        Stage("shared", (".shared",), "IR with shared memory and barriers", "nvptx"),
        Stage("schedule", (".schedule",), "what runs beside the threads", "nvptx"),
        Stage("plan", (".plan",), "the plan of a CPU's loops", "cpu"),
        Stage("llvm", (".ll",), "optimised LLVM IR"),
        Stage("ptx", (".ptx",), "PTX", "nvptx", sidecars=True),
        Stage("cubin", (".cubin",), "machine code of a GPU", "nvptx", True, True),
        Stage("host", (".s",), "assembly of a CPU", "cpu"),
        Stage("object", (".o", ".obj"), "an object file for a linker", "cpu", True, True),
        Stage("header", (".h", ".hpp", ".cuh"), "a C and C++ header for the caller"),
        Stage("manifest", (".json",), "all that the caller needs to know, as JSON"),
    )
}
_OF_SUFFIX = {suffix: stage for stage in STAGES.values() for suffix in stage.suffixes}


@dataclass(frozen=True)
class Output:
    """A stage and where it goes: a path, or `-`."""

    stage: Stage
    path: str


def stage_named(name: str) -> Stage:
    """The stage that --emit names. UsageError for others."""
    if name not in STAGES:
        raise UsageError(f"--emit {name}: there is no such stage", f"stages: {', '.join(STAGES)}")
    return STAGES[name]


def output_of(path: str) -> Output:
    """The output that -o names. UsageError where the suffix says nothing or the folder is none."""
    suffix = Path(path).suffix.lower()
    if suffix not in _OF_SUFFIX:
        raise UsageError(
            f"-o {path}: the suffix does not say what to write",
            f"suffixes: {' '.join(_OF_SUFFIX)}; or --emit STAGE for the standard output",
        )
    return checked(Output(_OF_SUFFIX[suffix], path))


def checked(output: Output) -> Output:
    """The output, if its folder exists. UsageError if not."""
    folder = os.path.dirname(output.path) or "."
    if not os.path.isdir(folder):
        raise UsageError(f"-o {output.path}: there is no folder {folder}")
    if os.path.isdir(output.path):
        raise UsageError(f"-o {output.path}: is a folder")
    return output


def sidecars(outputs: Sequence[Output]) -> list[Output]:
    """The header and the manifest that belong beside `outputs`, but for those already there."""
    found: dict[str, Output] = {}
    for output in outputs:
        if not output.stage.sidecars or output.path == STANDARD_OUTPUT:
            continue
        for stage in (STAGES["header"], STAGES["manifest"]):
            if all(o.stage is not stage for o in outputs):
                path = str(Path(output.path).with_suffix(stage.suffixes[0]))
                found[path] = Output(stage, path)
    return list(found.values())


def write(outputs: Iterable[tuple[Output, bytes]]) -> None:
    """Write every output, or none; what goes to the standard output comes last.

    EnvironmentProblem where the system refuses.
    """
    done = list(outputs)
    write_files((o.path, contents) for o, contents in done if o.path != STANDARD_OUTPUT)
    for output, contents in done:
        if output.path == STANDARD_OUTPUT:
            print_stage(output.stage, contents)


def write_files(files: Iterable[tuple[str, bytes]]) -> None:
    """Write every file, or none. EnvironmentProblem where the system refuses."""
    # Temporary file -> its place and the name that it has in messages.
    waiting: dict[str, tuple[str, str]] = {}
    path = ""
    try:
        for path, contents in files:
            if os.path.exists(path) and not os.path.isfile(path):
                # A device or a pipe is written to, not replaced.
                Path(path).write_bytes(contents)
                continue
            # A link stays, and the file that it leads to is replaced.
            place = os.path.realpath(path)
            temporary = f"{place}.{secrets.token_hex(4)}.tmp"
            with open(temporary, "xb") as file:
                waiting[temporary] = place, path
                file.write(contents)
        for temporary, (place, name) in list(waiting.items()):
            path = name
            os.replace(temporary, place)
            del waiting[temporary]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        for temporary in waiting:
            with suppress(OSError):
                os.unlink(temporary)


def print_stage(stage: Stage, contents: bytes) -> None:
    """Write a stage to the standard output. UsageError for machine code on a terminal."""
    if not stage.binary:
        text = contents.decode()
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        return
    if sys.stdout.isatty():
        raise UsageError(
            f"--emit {stage.name}: a terminal cannot show machine code",
            f"redirect it, or name a file: -o kernel{stage.suffixes[0]}",
        )
    sys.stdout.flush()
    sys.stdout.buffer.write(contents)
