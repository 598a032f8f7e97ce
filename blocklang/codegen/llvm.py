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
    """Register all targets and set the options. Shared-memory pointers of 32 bits make cheaper
    addresses.
    """
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    binding.set_option("", "--nvptx-short-ptr")


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


def optimize(
    module: binding.ModuleRef, machine: binding.TargetMachine, level: int = 3, unroll: bool = True
) -> None:
    """Run LLVM's standard pipeline for `machine`, without finding vectors in loops and in straight
    code: time that is lost on code which is made of vectors. Loops are unrolled only if wished.
    """
    options = binding.create_pipeline_tuning_options(speed_level=level)
    options.loop_vectorization = options.slp_vectorization = False
    options.loop_unrolling = unroll
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)


def ptx(text: str, target: GpuTarget) -> tuple[str, str]:
    """PTX for LLVM IR text, and the optimised LLVM IR."""
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
        optimize(module, machine)
        return machine.emit_assembly(module), str(module)
