"""`blc run`: call a kernel on arrays from files.

Arrays are NumPy's; on a GPU they are copied there and back. A first run gives the results; further
runs, which `--repeat` asks for, give times only.
"""

from __future__ import annotations

import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from blocklang.kernel import JitFunction
from blocklang.runtime import cuda
from blocklang.runtime.errors import UnexpectedArgumentError
from blocklang.runtime.memory import device_array
from blocklang.runtime.timing import time_runs

from . import terminal
from .arguments import ExitCode, UsageError
from .arrays import argument_value, dtype_text, file_contents
from .build import compile_options
from .outputs import write_files
from .source import choose, load_kernels
from .values import definitions, grid, split_assignment

Arrays = dict[str, np.ndarray[Any, Any]]


def execute(arguments: Namespace) -> int:
    """Run the command. Raises what `failures` turns into exit codes."""
    device = _device(arguments.device)
    if arguments.repeat < 0:
        raise UsageError(f"--repeat {arguments.repeat}: expected 0 or more")
    constants = definitions(arguments.define)
    kernel = choose(load_kernels(arguments.file), arguments.kernel, arguments.file)
    given = _arguments(arguments.arguments)
    if doubled := sorted(set(given) & set(constants)):
        raise UsageError(f"{doubled[0]} is given twice: as an argument and with -D")
    _check_names(kernel, {**given, **constants})
    arrays = {name: v for name, v in given.items() if isinstance(v, np.ndarray)}
    places = _places(arguments.save, arrays)
    _require_arrays("--print", arguments.print, arrays)
    names = {**_defaults(kernel), **given, **constants}
    sizes = grid(arguments.grid, names)

    moved = {} if device is None else {n: device_array(a, device) for n, a in arrays.items()}
    options = compile_options(arguments)
    # A parameter hides an option of the same name.
    call = {**options, **given, **constants, **moved}
    compiled, seconds = _timed(lambda: kernel.warmup(**call))
    rows = [("compiled", _duration(seconds))]
    _, seconds = _timed(lambda: _launch(kernel, sizes, call, device))
    rows.append(("first run", _duration(seconds)))
    results = {name: array.to_host() for name, array in moved.items()} or arrays
    results = {name: array.copy() for name, array in results.items()}
    if arguments.repeat:
        rows.append(_repeated(kernel, sizes, call, device, arguments.repeat))
    write_files((path, file_contents(results[name])) for name, path in places.items())
    _tell(kernel, compiled, sizes, results, places, rows)
    for name in arguments.print:
        print(f"{name} = {np.array2string(results[name], threshold=200)}")
    return ExitCode.SUCCESS


def _device(text: str) -> int | None:
    """The number of a GPU; None for the CPU."""
    kind, colon, number = text.partition(":")
    if text == "cpu":
        return None
    if kind != "gpu" or (colon and not number.isdigit()):
        raise UsageError(f"--device {text}: expected cpu, gpu or gpu:NUMBER")
    ordinal = int(number or 0)
    cuda.device(ordinal)
    return ordinal


def _arguments(texts: Sequence[str]) -> dict[str, Any]:
    """The values of the operands ARGUMENT=VALUE; arrays may be made like earlier or later ones."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, value = split_assignment(text, "argument", "x=in.npy or n=1000")
        if name in pairs:
            raise UsageError(f"argument {name} is given twice")
        pairs[name] = value
    found: dict[str, Any] = {}
    # What refers to another array waits for it.
    waiting = list(pairs)
    while waiting:
        later = [name for name in waiting if not argument_value(name, pairs[name], pairs, found)]
        if len(later) == len(waiting):
            raise UsageError(f"arguments {', '.join(later)} are made like each other")
        waiting = later
    return {name: found[name] for name in pairs}


def _check_names(kernel: JitFunction, given: Mapping[str, Any]) -> None:
    """UsageError for arguments that the kernel has no parameter for."""
    names = [parameter.name for parameter in kernel.parameters]
    for name in given:
        if name not in names:
            raise UnexpectedArgumentError(
                f"{kernel.__name__} has no parameter {name!r}", f"it takes {', '.join(names)}"
            )


def _defaults(kernel: JitFunction) -> dict[str, Any]:
    return {p.name: p.default for p in kernel.parameters}


def _places(saves: Sequence[str], arrays: Arrays) -> dict[str, str]:
    """The files of --save by argument."""
    places = {}
    for text in saves:
        name, _, path = text.partition("=")
        _require_arrays("--save", [name], arrays)
        path = path or f"{name}.npy"
        if not path.endswith(".npy"):
            raise UsageError(f"--save {text}: arrays are saved to .npy files")
        if not Path(path).parent.is_dir():
            raise UsageError(f"--save {text}: there is no folder {Path(path).parent}")
        places[name] = path
    return places


def _require_arrays(option: str, names: Sequence[str], arrays: Arrays) -> None:
    for name in names:
        if name not in arrays:
            known = ", ".join(arrays) or "none"
            raise UsageError(f"{option} {name}: not an array argument", f"arrays: {known}")


def _launch(
    kernel: JitFunction, sizes: tuple[int, ...], call: dict[str, Any], device: int | None
) -> None:
    kernel[sizes](**call)
    if device is not None:
        with cuda.activated(device):
            cuda.synchronize()


def _repeated(
    kernel: JitFunction,
    sizes: tuple[int, ...],
    call: dict[str, Any],
    device: int | None,
    count: int,
) -> tuple[str, str]:
    """The median time of further runs, as a row of the report."""
    if device is None:
        seconds = [_timed(lambda: _launch(kernel, sizes, call, None))[1] for _ in range(count)]
    else:
        runs = time_runs(lambda: kernel[sizes](**call), count, device=device)
        seconds = [milliseconds / 1e3 for milliseconds in runs]
    return f"median of {count}", _duration(statistics.median(seconds))


def _timed(action: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    # What kernels print at compile time is no result.
    with redirect_stdout(sys.stderr):
        result = action()
    return result, time.perf_counter() - start


def _duration(seconds: float) -> str:
    unit, factor = ("ms", 1e3) if seconds >= 1e-3 else ("us", 1e6)
    return f"{seconds * factor:.2f} {unit}"


def _tell(
    kernel: JitFunction,
    compiled: Any,
    sizes: tuple[int, ...],
    results: Arrays,
    places: Mapping[str, str],
    times: Sequence[tuple[str, str]],
) -> None:
    """Print what was run, on what, and how long it took, on the standard output."""
    programs = " x ".join(map(str, sizes))
    where = "cpu" if compiled.device < 0 else compiled.target.name
    terminal.table(
        f"{kernel.__name__}: {programs} programs on {where}", ("", ""), times, file=sys.stdout
    )
    written = {entry["name"] for entry in compiled.metadata["arguments"] if entry["written"]}
    rows = [
        (
            name,
            f"{'x'.join(map(str, array.shape)) or '1'}:{dtype_text(array)}",
            "written" if name in written else "read",
            places.get(name, ""),
        )
        for name, array in results.items()
    ]
    if rows:
        terminal.table(
            "arrays", ("argument", "shape and type", "use", "saved to"), rows, file=sys.stdout
        )
    if unsaved := sorted(written & set(results) - set(places)):
        terminal.say(f"blc: note: not saved: {', '.join(unsaved)} (--save {unsaved[0]}=FILE.npy)")
