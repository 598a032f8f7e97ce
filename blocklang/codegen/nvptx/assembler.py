"""PTX to machine code with ptxas, whole-program, and what ptxas says about the result.

ptxas runs as a process of its own, so that threads assemble in parallel, and whoever has started it
can do something else meanwhile. Where there is none, the GPU's driver assembles when the kernel is
loaded; that is not this module's business.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

_EXECUTABLE = "ptxas.exe" if os.name == "nt" else "ptxas"
# Where the nvidia-cuda-nvcc wheels put it, under the `nvidia` folder: CUDA 13 and later, 12.
_WHEEL_FOLDERS = ("cu*/bin", "cuda_nvcc/bin")


class AssemblerError(Exception):
    """ptxas refused the PTX, or could not be run; `ptx` and `log` show what and why.

    PTX comes from the code generator, so this is a defect of blocklang or a target that the
    installed ptxas does not know, and never a mistake in a kernel's source.
    """

    def __init__(self, message: str, ptx: str, log: str) -> None:
        super().__init__(f"{message}\n{log}" if log else message)
        self.ptx = ptx
        self.log = log


@dataclass(frozen=True)
class KernelResources:
    """What one kernel uses: registers, stack and spills per thread, shared bytes per block."""

    registers: int
    stack_bytes: int
    spill_stores: int
    spill_loads: int
    shared_bytes: int


@dataclass(frozen=True)
class Assembled:
    """Machine code, the resources of each kernel by name, and the warnings of ptxas.

    `warnings` holds warning lines and the advisories `C75xx`, which tell that an instruction has
    been ignored or serialised.
    """

    cubin: bytes
    kernels: dict[str, KernelResources]
    warnings: tuple[str, ...]
    log: str


def find_ptxas(explicit: Path | None = None, toolkit: Path | None = None) -> Path | None:
    """Find ptxas: `explicit`, the nvidia-cuda-nvcc wheel, the CUDA folder `toolkit`, then PATH.

    None where there is none. `explicit` is returned as it is.
    """
    if explicit is not None:
        return explicit
    candidates = [*_ptxas_of_wheels()]
    if toolkit is not None:
        candidates.append(toolkit / "bin" / _EXECUTABLE)
    on_path = shutil.which(_EXECUTABLE)
    if on_path is not None:
        candidates.append(Path(on_path))
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def _ptxas_of_wheels() -> Iterator[Path]:
    # `nvidia` is a namespace package that several wheels share.
    specification = importlib.util.find_spec("nvidia")
    for folder in (specification.submodule_search_locations or ()) if specification else ():
        for pattern in _WHEEL_FOLDERS:
            # The newest toolkit first.
            yield from sorted(Path(folder).glob(f"{pattern}/{_EXECUTABLE}"), reverse=True)


def version(ptxas: Path) -> str:
    """The release and build of a ptxas, such as `V13.0.88`, for the keys of caches.

    Kept for each file until it changes. AssemblerError if it cannot be run.
    """
    status = ptxas.stat()
    return _version(ptxas, status.st_mtime_ns, status.st_size)


@functools.cache
def _version(ptxas: Path, _modified: int, _size: int) -> str:
    output = _finish(_start([str(ptxas), "--version"]))
    found = re.search(r"\bV\d+(?:\.\d+)+", output)
    return found[0] if found else output.strip()


def assemble(ptx: str, target: str, **settings: Any) -> Assembled:
    """Assemble `ptx` for `target`, such as `sm_90a`; `settings` are those of `assembling`.
    AssemblerError if ptxas refuses.
    """
    with assembling(ptx, target, **settings) as running:
        return running.result()


@dataclass(frozen=True)
class Assembly:
    """ptxas at work on `ptx`."""

    ptx: str
    source: Path
    cubin: Path
    process: subprocess.Popen[str]

    def result(self) -> Assembled:
        """What it has made, when it is done; AssemblerError if it refuses."""
        log = _finish(self.process, self.ptx)
        # The folder's name says nothing and would differ from run to run.
        log = log.replace(str(self.source), "<ptx>")
        return Assembled(self.cubin.read_bytes(), _parse_resources(log), _parse_warnings(log), log)


@contextmanager
def assembling(
    ptx: str, target: str, *, ptxas: Path, line_info: bool = False,
    optimization_level: int = 3, flags: Sequence[str] = (),
) -> Iterator[Assembly]:  # fmt: skip
    """Have ptxas assemble `ptx` while the body of a `with` statement runs; what has not been asked
    for its result then is ended. `flags` are further arguments of ptxas, as they stand.
    AssemblerError if it cannot be run.
    """
    with tempfile.TemporaryDirectory(prefix="blocklang-") as folder:
        source, cubin = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx, encoding="utf-8")
        command = [str(ptxas), "-v", f"-arch={target}", f"-O{optimization_level}", *flags]
        if line_info:
            command.append("-lineinfo")
        with _start([*command, str(source), "-o", str(cubin)], ptx) as process:
            try:
                yield Assembly(ptx, source, cubin, process)
            finally:
                process.kill()  # nothing, if it is done


def _start(command: Sequence[str], ptx: str = "") -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
        )
    except OSError as error:
        raise AssemblerError(f"cannot run {command[0]}: {error}", ptx, "") from error


def _finish(process: subprocess.Popen[str], ptx: str = "") -> str:
    """What a process has written; AssemblerError if it has failed."""
    log = "".join(process.communicate())
    if process.returncode:
        how = "died of a signal" if process.returncode < 0 else "does not accept the PTX"
        name = cast("Sequence[str]", process.args)[0]
        raise AssemblerError(f"{name} {how} (status {process.returncode})", ptx, log.strip())
    return log


_KERNEL = re.compile(r"Compiling entry function '([^']+)'")
_NUMBERS = {
    "registers": re.compile(r"Used (\d+) registers"),
    "stack_bytes": re.compile(r"(\d+) bytes stack frame"),
    "spill_stores": re.compile(r"(\d+) bytes spill stores"),
    "spill_loads": re.compile(r"(\d+) bytes spill loads"),
    "shared_bytes": re.compile(r"(\d+) bytes smem"),
}


def _parse_resources(log: str) -> dict[str, KernelResources]:
    # The text before the first kernel, then by turns a kernel's name and what is said about it.
    _, *parts = _KERNEL.split(log)
    kernels = {}
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        found = {field: pattern.search(text) for field, pattern in _NUMBERS.items()}
        kernels[name] = KernelResources(**{f: int(m[1]) if m else 0 for f, m in found.items()})
    return kernels


def _parse_warnings(log: str) -> tuple[str, ...]:
    pattern = re.compile(r"^ptxas(?: <ptx>, line \d+;)? (?:warning\s*|info\s*:\s*\(C75).*$", re.M)
    return tuple(match[0] for match in pattern.finditer(log))
