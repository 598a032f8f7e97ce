"""`blc FILE`: compile one kernel and write what is asked for."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

from blocklang import compile as pipeline
from blocklang import environment
from blocklang.codegen.nvptx.assembler import AssemblerError
from blocklang.codegen.targets import GPU_TARGETS, CpuTarget, Target, target_of_capability
from blocklang.compiled import CompiledKernel
from blocklang.ir.diagnostics import CompileError
from blocklang.ir.passes.manager import PASSES, PassManager, Stopped
from blocklang.ir.printer import print_module
from blocklang.kernel import JitFunction
from blocklang.options import Options
from blocklang.runtime import cuda

from . import outputs, report, terminal
from .arguments import EnvironmentProblem, ExitCode, UsageError
from .header import header
from .interface import Interface, source_name
from .manifest import manifest
from .outputs import STAGES, STANDARD_OUTPUT, Output
from .source import choose, load_kernels
from .values import definitions, signature

_FALLBACK_TARGET = "sm_80"


def execute(arguments: Namespace) -> int:
    """Run the command. Raises what `failures` turns into exit codes."""
    wanted = _outputs(arguments)
    options = compile_options(arguments)
    bound = definitions(arguments.define)
    types = signature(arguments.signature)
    passes = _pass_manager(arguments)
    with passes.measure("parse"):
        kernel = choose(load_kernels(arguments.file), arguments.kernel, arguments.file)
        # Python functions are parsed when their tree is asked for.
        _ = kernel.__blocklang_function__
    target = choose_target(arguments.target, wanted)
    _check_backend(target, wanted)
    observed = arguments.dump_passes or arguments.time_passes or arguments.stop_after
    try:
        compiled = compile_kernel(
            kernel, types, bound, target, passes if observed else None, options
        )
    except Stopped as stopped:
        _write_ir(print_module(stopped.module), wanted)
    else:
        if arguments.stop_after:
            raise _pass_did_not_run(arguments.stop_after, target, passes)
        _finish(compiled, arguments, wanted)
    if arguments.time_passes:
        report.times(passes.times)
    return ExitCode.SUCCESS


def compile_options(arguments: Namespace) -> dict[str, Any]:
    """The options of a compilation. UsageError where they are out of range."""
    given = {name: getattr(arguments, name) for name in ("num_warps", "num_stages", "num_ctas")}
    found: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    found["fp_fusion"] = not arguments.no_fp_fusion
    found["debug"] = arguments.debug or environment.DEBUG.get()
    if getattr(arguments, "no_line_info", False):
        found["line_info"] = False
    try:
        Options(**found)
    except CompileError as error:
        raise UsageError(error.message, error.help) from None
    return found


def compile_kernel(
    kernel: JitFunction,
    types: dict[str, Any],
    bound: dict[str, Any],
    target: Target,
    passes: PassManager | None,
    options: dict[str, Any],
) -> CompiledKernel:
    """Compile, with what the kernel prints at compile time on standard error."""
    name = target_name(target)
    try:
        with redirect_stdout(sys.stderr):
            found: CompiledKernel = kernel.compile(
                types, bound, target=name, passes=passes, **options
            )
            return found
    except AssemblerError as error:
        if "gpu-name" in error.log or "Unsupported .version" in error.log:
            raise EnvironmentProblem(
                f"the installed ptxas does not know {name}: {error.log}",
                "install a newer one: pip install --upgrade nvidia-cuda-nvcc",
            ) from None
        raise


# -- targets ---------------------------------------------------------------------------------


def choose_target(name: str | None, wanted: Sequence[Output]) -> Target:
    """The target that is asked for, or the one that fits what is to be written.

    UsageError for a name that is none.
    """
    name = name or environment.TARGET.get()
    if name is None:
        backends = {output.stage.backend for output in wanted}
        if {"cpu", "nvptx"} <= backends:
            asked = " and ".join(_spelling(output) for output in wanted if output.stage.backend)
            raise UsageError(f"{asked}: these are for different targets", "run blc for each")
        name = "cpu" if "cpu" in backends else _gpu_of_this_machine()
    try:
        return pipeline.parse_target(name)
    except CompileError as error:
        raise UsageError(error.message, error.help) from None


def target_name(target: Target) -> str:
    """What --target calls a target."""
    return "cpu" if isinstance(target, CpuTarget) else target.name


def _gpu_of_this_machine() -> str:
    if cuda.available():
        device = cuda.device(cuda.current_device())
        if device.target in GPU_TARGETS:
            return device.target
        return target_of_capability(*device.capability).name
    terminal.say(
        f"blc: note: compiling for {_FALLBACK_TARGET}: no --target, and no GPU in this machine"
    )
    return _FALLBACK_TARGET


def _check_backend(target: Target, wanted: Sequence[Output]) -> None:
    for output in wanted:
        stage = output.stage
        if stage.backend not in ("", target.backend):
            which = "CPUs" if stage.backend == "cpu" else "GPUs"
            example = "cpu" if stage.backend == "cpu" else "sm_90a"
            raise UsageError(
                f"{_spelling(output)}: only {which} have the stage {stage.name}, and the target "
                f"is {target_name(target)}",
                f"compile for another target, such as --target {example}",
            )
    if any(output.stage.name == "cubin" for output in wanted) and pipeline.ptxas() is None:
        raise EnvironmentProblem(
            "there is no ptxas, which makes machine code of PTX",
            "pip install nvidia-cuda-nvcc, or set BLOCKLANG_PTXAS; PTX needs none of it, and the "
            "driver assembles it when it is loaded",
        )


def _spelling(output: Output) -> str:
    if output.path == STANDARD_OUTPUT:
        return f"--emit {output.stage.name}"
    return f"-o {output.path}"


# -- passes ----------------------------------------------------------------------------------


def _pass_manager(arguments: Namespace) -> PassManager:
    passes = pipeline.pass_manager()
    if arguments.dump_passes:
        passes.dump = arguments.dump_passes.split(",")
        for name in passes.dump:
            _check_pass("--dump-passes", name, ("all",))
    if arguments.stop_after:
        name, colon, run = arguments.stop_after.partition(":")
        _check_pass("--stop-after", name)
        if colon and not (run.isdigit() and int(run) > 0):
            raise UsageError(
                f"--stop-after {arguments.stop_after}: {run!r} is not the number of a run",
                f"write {name}, or {name}:2 for its second run",
            )
        passes.stop_after = arguments.stop_after
    return passes


def _check_pass(option: str, name: str, others: Sequence[str] = ()) -> None:
    if name not in (*PASSES, *others):
        raise UsageError(
            f"{option} {name}: there is no such pass", f"passes: {', '.join(sorted(PASSES))}"
        )


def _pass_did_not_run(name: str, target: Target, passes: PassManager) -> UsageError:
    ran = [step for step, _ in passes.times if step in PASSES]
    return UsageError(
        f"--stop-after {name}: the pass did not run so often for {target_name(target)}",
        f"what ran: {', '.join(ran)}",
    )


# -- what is written -------------------------------------------------------------------------


def _outputs(arguments: Namespace) -> list[Output]:
    found = []
    for path in arguments.output:
        if path != STANDARD_OUTPUT:
            found.append(outputs.output_of(path))
        elif arguments.emit is None:
            raise UsageError("-o -: nothing says which stage to print", "add --emit STAGE")
    for stage in ("header", "manifest"):
        paths = getattr(arguments, stage)
        found += [outputs.checked(Output(STAGES[stage], path)) for path in paths]
    if arguments.emit is not None:
        found.append(Output(outputs.stage_named(arguments.emit), STANDARD_OUTPUT))
    if not arguments.no_sidecars and not arguments.stop_after:
        found += outputs.sidecars(found)
    _check_distinct(found, arguments.file)
    if arguments.stop_after and any(output.stage.name != "ir" for output in found):
        raise UsageError("--stop-after writes IR only", "name a file such as -o kernel.ir, or none")
    return found


def _check_distinct(found: Sequence[Output], source: str) -> None:
    seen = {os.path.realpath(source): f"the input {source}"}
    for output in found:
        if output.path == STANDARD_OUTPUT:
            continue
        place = os.path.realpath(output.path)
        if place in seen:
            raise UsageError(f"{output.path} would overwrite {seen[place]}", "name another file")
        # The same device twice is no harm.
        if os.path.isfile(place) or not os.path.exists(place):
            seen[place] = f"another output, the {output.stage.name}"


def _write_ir(text: str, wanted: Sequence[Output]) -> None:
    places = wanted or [Output(STAGES["ir"], STANDARD_OUTPUT)]
    outputs.write((output, text.encode()) for output in places)


def _finish(compiled: CompiledKernel, arguments: Namespace, wanted: Sequence[Output]) -> None:
    """Write the outputs, and say what is to be said."""
    for warning in compiled.metadata.get("warnings", ()):
        terminal.say(f"blc: warning: {warning}")
    interface = Interface(compiled, source_name(arguments.file))
    files = {o.stage.name: o.path for o in wanted if o.path != STANDARD_OUTPUT}
    outputs.write([(output, _contents(output, interface, files)) for output in wanted])
    looks = arguments.dump_passes or arguments.time_passes
    if arguments.verbose or not (wanted or looks):
        report.resources(compiled)


def _contents(output: Output, interface: Interface, files: dict[str, str]) -> bytes:
    kernel, name = interface.kernel, output.stage.name
    makers: dict[str, Callable[[], str]] = {
        "header": lambda: header(interface),
        "manifest": lambda: manifest(
            interface, output.path, {stage: path for stage, path in files.items() if stage != name}
        ),
    }
    contents = makers[name]() if name in makers else kernel.asm[name]
    return contents if isinstance(contents, bytes) else contents.encode()
