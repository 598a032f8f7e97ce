"""The text of every user error, pinned: one wrong kernel a file, see README.md."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from blocklang import errors as request_errors
from blocklang.codegen import errors as target_errors
from blocklang.frontend import errors
from blocklang.frontend.lower import lower_kernel
from blocklang.frontend.python import parse_python
from blocklang.frontend.text import load_file
from blocklang.ir import errors as ir_errors
from blocklang.ir.diagnostics import CompileError, UserError, catalogue
from blocklang.ir.parser import parse as parse_ir
from blocklang.ir.types import Type
from blocklang.runtime.errors import LaunchError
from blocklang.signature import bind_signature
from tests.unit.sample_gpu import NoLibrary, SampleGpu, sample_machine

FOLDER = Path(__file__).parent / "errors"
MARK = "# expected:"
GROUPS = (*errors.GROUPS, target_errors, request_errors, ir_errors)
"""The modules of the catalogue whose errors a case can give on every machine."""


def parse(path: Path) -> None:
    """Parse a case."""
    if path.suffix == ".bl":
        load_file(path)
    else:
        parse_python(runpy.run_path(str(path))["kernel"])


def lower(path: Path) -> None:
    """Compile the last kernel of a case; a Python case also gives the `types` of its arguments."""
    if path.suffix == ".bl":
        *_, kernel = load_file(path).kernels.values()
        lower_kernel(kernel, bind_signature(kernel, {}, {}).types)
    else:
        case = runpy.run_path(str(path))
        types = {name: read_type(text) for name, text in case["types"].items()}
        lower_kernel(parse_python(case["kernel"]), types)


def read_type(text: str) -> Type:
    """The type of an argument as IR text writes it."""
    (argument,) = parse_ir(f"kernel @k(%x: {text}) {{\n return\n}}").kernel.arguments
    return argument.type


def act(path: Path) -> None:
    """Call the function `act` of a case."""
    runpy.run_path(str(path))["act"]()


ACTIONS: dict[str, Callable[[Path], None]] = {
    "syntax": parse,
    "names": lower,
    "types": lower,
    "operations": lower,
    "target": act,
    "request": act,
    "launch": act,
    "gpu": act,
}
"""What is done with the cases of a folder."""

DRIVERS: dict[str, Callable[[], Any]] = {
    "cuda_error": lambda: SampleGpu(outcome="CUDA_ERROR_ILLEGAL_ADDRESS"),
    "cuda_error_at_launch": lambda: SampleGpu(
        refused={"cuLaunchKernel": "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"}
    ),
    "cuda_error_memory": lambda: SampleGpu(refused={"cuMemAlloc": "CUDA_ERROR_OUT_OF_MEMORY"}),
    "no_driver_started": lambda: SampleGpu(refused={"cuInit": "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"}),
    "module_load": lambda: SampleGpu(
        refused={"cuModuleLoadDataEx": "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"},
        log="ptxas application ptx input, line 5; fatal : Unsupported .version 7.4",
    ),
    "without_cuda_python": lambda: None,
    "no_driver": NoLibrary,
    "no_gpu": lambda: SampleGpu(refused={"cuInit": "CUDA_ERROR_NO_DEVICE"}),
}
"""The driver of the machine for a case of `gpu`, by name; the others have a GPU that works."""

CASES = sorted(path for group in ACTIONS for path in (FOLDER / group).glob("*.*"))


def split_case(path: Path) -> tuple[str, str]:
    """The source of a case, and the error that it expects."""
    source, _, comment = path.read_text(encoding="utf-8").partition(f"\n{MARK}\n")
    return source, "\n".join(line.removeprefix("#")[1:] for line in comment.splitlines())


def machine(path: Path) -> AbstractContextManager[object]:
    """The machine that a case runs on: for `gpu` one with a driver made for it."""
    if path.parent.name != "gpu":
        return nullcontext()
    return sample_machine(DRIVERS.get(path.stem, SampleGpu)())


def actual_error(path: Path) -> str:
    """The error that a case gives, with file names relative to its folder."""
    with pytest.raises((CompileError, LaunchError)) as caught:
        ACTIONS[path.parent.name](path)
    is_known = isinstance(caught.value, UserError | LaunchError)
    assert is_known, "not an error of the catalogue"
    return str(caught.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_error_text(path: Path, bless: bool) -> None:
    source, expected = split_case(path)
    with machine(path):
        actual = actual_error(path)
    if bless and actual != expected:
        comment = "\n".join(f"# {line}".rstrip() for line in actual.splitlines())
        path.write_text(f"{source.rstrip()}\n\n{MARK}\n{comment}\n", encoding="utf-8")
    else:
        assert actual == expected


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__.split(".")[-1])
def test_every_error_has_a_case(group: ModuleType) -> None:
    pinned = "".join(split_case(path)[1] for path in CASES)
    missing = [
        f"{error.code} {error.__name__}"
        for error in catalogue()
        if error.__module__ == group.__name__ and f"error[{error.code}]" not in pinned
    ]
    assert not missing, "write a case for each, see README.md"


def test_every_launch_error_has_a_case() -> None:
    pinned = "".join(split_case(path)[1] for path in CASES)
    pending, missing = LaunchError.__subclasses__(), []
    while pending:
        error = pending.pop()
        pending += error.__subclasses__()
        if f"error[{error.code}]" not in pinned:
            missing.append(f"{error.code} {error.__name__}")
    assert not missing, "write a case for each, see README.md"
