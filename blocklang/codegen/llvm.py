"""LLVM itself, through llvmlite: from IR text to an optimised module, to PTX, to host code.

Options of LLVM are process-wide; they are set once, before the first target machine exists. What
reaches LLVM has been verified by us; its own verifier runs as well, because a wrong module may
bring down the process.
"""

from __future__ import annotations

import threading
from functools import lru_cache

import llvmlite.binding as binding

from .targets import GpuTarget

lock = threading.Lock()


@lru_cache(maxsize=1)
def initialize() -> None:
    """Register all targets and set the options.

    Shared-memory pointers of 32 bits make cheaper addresses. Pairs of 32-bit numbers as one value
    (from sm_100 on) stay off: LLVM 22 cannot select a pair of which one half does not matter, and
    takes the process down (llvm/llvm-project#175712).
    """
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    binding.set_option("", "--nvptx-short-ptr")
    binding.set_option("", "--nvptx-no-f32x2")
    binding.set_option("", "--unroll-threshold-default=300")  # that of level 3, for `simplify`


def version() -> str:
    """The versions of llvmlite and LLVM, for cache keys."""
    import llvmlite

    return f"llvmlite {llvmlite.__version__}, LLVM {'.'.join(map(str, binding.llvm_version_info))}"


def parse_module(text: str) -> binding.ModuleRef:
    """A verified module of LLVM IR text. RuntimeError if the text is wrong, which is a mistake of
    ours.
    """
    module = binding.parse_assembly(text)
    module.verify()
    return module


def _builder(machine: binding.TargetMachine, unroll: bool) -> binding.PassBuilder:
    """What makes LLVM's standard pipelines for `machine`, without finding vectors in loops and in
    straight code: time that is lost on code which is made of vectors.
    """
    options = binding.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = False
    options.loop_unrolling = unroll
    return binding.create_pass_builder(machine, options)


def optimize(module: binding.ModuleRef, machine: binding.TargetMachine) -> None:
    """Run the pipeline for modules; loops, which the plan has made as long as it wants them, are
    not unrolled.
    """
    builder = _builder(machine, unroll=False)
    builder.getModulePassManager().run(module, builder)


def simplify(module: binding.ModuleRef, machine: binding.TargetMachine) -> None:
    """Run the pipeline that simplifies single functions, unroll loops, and drop declarations that
    nothing uses.

    What the pipeline for modules has beyond that is for several functions, or is done again by the
    NVPTX back end: on a kernel it changes next to nothing, and takes longer.
    """
    builder = _builder(machine, unroll=True)
    simplification = builder.getFunctionPassManager()
    for function in module.functions:
        if not function.is_declaration:
            simplification.run(function, builder)
    rest = binding.create_new_module_pass_manager()
    rest.add_loop_unroll_pass()
    rest.add_global_dead_code_eliminate_pass()
    rest.run(module, builder)


def ptx(text: str, target: GpuTarget) -> tuple[str, binding.ModuleRef]:
    """PTX for LLVM IR text, and the optimised module, which `print_module` makes text of."""
    # llvmlite's global context is not thread-safe; code generation holds the lock, assembly does
    # not.
    with lock:
        initialize()
        module = parse_module(text)
        machine = binding.Target.from_triple("nvptx64-nvidia-cuda").create_target_machine(
            cpu=target.name, features=target.features, opt=3
        )
        module.triple = "nvptx64-nvidia-cuda"
        module.data_layout = str(machine.target_data)
        simplify(module, machine)
        return machine.emit_assembly(module), module


def print_module(module: binding.ModuleRef) -> str:
    """A module as LLVM IR text."""
    with lock:
        return str(module)
