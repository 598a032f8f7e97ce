"""The pipeline: from block IR to PTX, machine code or host code, as one visible list of passes.

    source --front end--> block IR --[simplify]--> --[layouts]--> --[shared memory]--> LLVM IR ->
    PTX -> cubin
                                              \\--[cpu]--> LLVM IR -> host code

`compile_module` runs it for one target and returns the files of the compiled kernel. Results are
cached on disk by the text of the block IR (which holds the kernel, everything it calls, all
compile-time values and source positions), the options, the target and the versions of blocklang,
llvmlite and the assembler.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from blocklang import __version__, cache, environment
from blocklang.codegen import elementwise, llvm  # noqa: F401  (elementwise registers lowerings)
from blocklang.codegen.lower import is_native
from blocklang.codegen.nvptx import assembler
from blocklang.codegen.nvptx.kernel import emit_kernel, symbol, threads
from blocklang.codegen.nvptx.matrices import STORE_CAPABILITY
from blocklang.codegen.nvptx.mma import has_float8_products
from blocklang.codegen.nvptx.schedule import schedule
from blocklang.codegen.nvptx.tma import described, recipes
from blocklang.codegen.targets import CpuTarget, GpuTarget, Target, gpu_target
from blocklang.ir.core import Block, Function, Module, Result, Value, clone_module
from blocklang.ir.ops.asynchronous import TmaSend, TmaStore
from blocklang.ir.ops.memory import AtomicRMW, Store
from blocklang.ir.ops.shared import SharedAlloc
from blocklang.ir.passes.allocate_shared import AllocateShared
from blocklang.ir.passes.assign_layouts import AssignLayouts
from blocklang.ir.passes.canonicalize import Canonicalize
from blocklang.ir.passes.coalesce import Coalesce
from blocklang.ir.passes.cse import CommonSubexpressionElimination
from blocklang.ir.passes.dce import DeadCodeElimination
from blocklang.ir.passes.defer_reductions import DeferReductions
from blocklang.ir.passes.expand_descriptors import ExpandDescriptors
from blocklang.ir.passes.expand_dot import ExpandDot
from blocklang.ir.passes.expand_math import ExpandMath
from blocklang.ir.passes.inline import Inline
from blocklang.ir.passes.insert_barriers import InsertBarriers
from blocklang.ir.passes.licm import LoopInvariantCodeMotion
from blocklang.ir.passes.lower_conversions import LowerConversions
from blocklang.ir.passes.lower_copies import LowerCopies
from blocklang.ir.passes.lower_reductions import LowerReductions
from blocklang.ir.passes.manager import Pass, PassManager
from blocklang.ir.passes.map_dot import MapDot
from blocklang.ir.passes.map_wgmma import MapWgmma
from blocklang.ir.passes.overlap_dots import OverlapDots
from blocklang.ir.passes.pipeline_loads import PipelineLoads
from blocklang.ir.passes.prove_barriers import ProveBarriers
from blocklang.ir.passes.prove_rings import ProveRings
from blocklang.ir.passes.specialize_warps import NOT_SPECIALIZED, SpecializeWarps
from blocklang.ir.passes.split_over_cluster import SplitOverCluster
from blocklang.ir.passes.strength_reduction import StrengthReduction
from blocklang.ir.passes.vectorize import Vectorize
from blocklang.ir.printer import print_module
from blocklang.ir.types import PointerType, element_type
from blocklang.options import Options


def simplify(target: Target) -> list[Pass]:
    """The passes on block IR, for every target."""
    return [
        Inline(),  # first: everything after sees one function
        Canonicalize(),  # constants known, so that the branches they decide are gone
        CommonSubexpressionElimination(),
        *(
            [SplitOverCluster(), MapWgmma()] if _has_warpgroups(target) else []
        ),  # takes what it can from the next one
        ExpandDescriptors(),  # before code motion, which moves what stays the same in loops
        *_expand_dot(target),  # makes conversions
        ExpandMath(partial(is_native, target)),  # likewise, for its constants
        Canonicalize(),  # the expansions' special cases meet constants
        CommonSubexpressionElimination(),
        LoopInvariantCodeMotion(),
        DeadCodeElimination(),
    ]


def _has_warpgroups(target: Target) -> bool:
    """Whether there are products of warpgroups and the tensor memory accelerator."""
    return isinstance(target, GpuTarget) and target.has_warpgroups


def _expand_dot(target: Target) -> list[Pass]:
    if isinstance(target, CpuTarget):
        return []
    return [ExpandDot(target.capability, has_float8_products(target))]


def layouts(target: GpuTarget) -> list[Pass]:
    """From block IR to a layout on every block."""
    return [
        MapDot(target.capability, has_float8_products(target)),  # products say what they need
        Coalesce(),  # global accesses say which layout suits them
        AssignLayouts(),  # everything else follows, with conversions where it cannot
        CommonSubexpressionElimination(),  # ranges and masks made again in one layout meet
        DeferReductions(),  # before the next one, which splits what is left in loops
        LowerReductions(),  # before conversions: it makes some
        LoopInvariantCodeMotion(),  # conversions of invariants leave loops
        DeadCodeElimination(),
    ]


def overlap(target: GpuTarget, disabled: Collection[str] = ()) -> list[Pass]:
    """From one thing after the other to copies and products that run beside the threads; without
    the passes whose names are `disabled`.
    """
    specialize = SpecializeWarps(limit=target.shared_bytes)
    return [
        *([] if specialize.name in disabled else [specialize]),
        PipelineLoads(limit=target.shared_bytes),  # slots, which products under way may keep
        OverlapDots(OverlapDots.name not in disabled),  # slots of rings stay while products run
        LowerCopies(),  # what still is at once
        Canonicalize(),
        CommonSubexpressionElimination(),
        LoopInvariantCodeMotion(),
        DeadCodeElimination(),
    ]


def shared_memory(target: GpuTarget) -> list[Pass]:
    """From layouts to explicit shared memory, allocated and ordered."""
    return [
        *(
            [PipelineLoads()] if target.capability >= 80 and not _has_warpgroups(target) else []
        ),  # slots instead of conversions
        LowerConversions(target.capability >= STORE_CAPABILITY),  # buffers, stores and loads
        CommonSubexpressionElimination(),
        DeadCodeElimination(),
        AllocateShared(
            limit=target.shared_bytes
        ),  # which buffers overlap decides where barriers stand
        InsertBarriers(),
    ]


def instructions(target: GpuTarget) -> list[Pass]:
    """From there to what single instructions do; the order of accesses is what it was."""
    return [
        Vectorize(),  # layouts are final
        StrengthReduction(),  # last: divisibility is read off products before
    ]


def proofs(target: GpuTarget) -> list[Pass]:
    """What has to hold behind `shared_memory`, found out independently of all that made it. They
    change nothing, so that they run, on a copy, while the assembler already works on the code.
    """
    return [
        ProveBarriers(),
        *([ProveRings()] if _has_warpgroups(target) else []),
    ]


def ptxas() -> Path | None:
    """The assembler in use, or None where there is none (then the driver assembles)."""
    return _find_ptxas(environment.PTXAS.get())


_find_ptxas = lru_cache(maxsize=8)(assembler.find_ptxas)


def parse_target(name: str) -> Target:
    """The target of a name: "cpu" or "sm_NN". Raises CompileError for others."""
    if name != "cpu":
        return gpu_target(name)
    from blocklang.codegen.cpu.host import host_target

    return host_target()


def pass_manager() -> PassManager:
    """A pass manager that does what the environment asks for."""
    return PassManager(dump=environment.DUMP.get(), check=environment.CHECK.get())


def address(module: Module, target: Target, options: Options) -> tuple[str, str]:
    """The text of `module` (block IR as the front end made it), and the key under which the cache
    has what it compiles to: two kernels of one key are the same in every respect.
    """
    module.kernel.attributes.update(num_warps=options.num_warps, num_stages=options.num_stages)
    if options.num_ctas > 1 and _has_warpgroups(target):
        module.kernel.attributes["num_ctas"] = options.num_ctas
    text = print_module(module)
    assembler_version = ""
    if isinstance(target, GpuTarget) and (tool := ptxas()) is not None:
        assembler_version = assembler.version(tool)
    return text, cache.key(
        text, repr(target), options.text, repr(sorted(environment.DISABLE_PASSES.get())),
        _compiler(), llvm.version(), assembler_version,
    )  # fmt: skip


def compile_module(
    module: Module, target: Target, options: Options, passes: PassManager | None = None
) -> dict[str, bytes]:
    """The files of the kernel of `module` (block IR as the front end made it), compiled for
    `target`.

    For GPUs `layout`, `shared`, `schedule`, `llvm`, `ptx` and, where there is an assembler,
    `cubin`; for CPUs `plan`, `llvm` and `object`; always `ir` and `metadata` (JSON). With `passes`
    nothing is taken from the cache, so that everything can be observed. Raises CompileError for
    what the target cannot do.
    """
    text, key = address(module, target, options)
    store = cache.Cache()
    files = _load(store, key) if passes is None else None
    if files is None:
        run = passes or pass_manager()
        run.run(module, simplify(target), verified=isinstance(target, CpuTarget))
        if isinstance(target, GpuTarget):
            made = _compile_gpu(module, target, options, run)
        else:
            made = _compile_cpu(module, target, options, run)
        files = {"ir": text.encode(), **made}
        # The list of names comes last: an entry without it was interrupted.
        store.put(key, {**files, "names": " ".join(files).encode()})
    return files


@lru_cache(maxsize=1)
def _compiler() -> str:
    """The version of this compiler: its number, and its files, which change while it is worked
    on.
    """
    folder = Path(__file__).parent
    files = [(str(path.relative_to(folder)), path.stat()) for path in folder.rglob("*.py")]
    return repr((__version__, sorted((n, s.st_size, s.st_mtime_ns) for n, s in files)))


def _load(store: cache.Cache, key: str) -> dict[str, bytes] | None:
    names = store.get(key, "names")
    files = {name: store.get(key, name) for name in names.decode().split()} if names else {}
    found = {name: contents for name, contents in files.items() if contents is not None}
    return found if found and len(found) == len(files) else None


def _compile_gpu(
    module: Module, target: GpuTarget, options: Options, passes: PassManager
) -> dict[str, bytes]:
    metadata = _metadata(module, target)
    passes.run(module, layouts(target), verified=False)
    files = {"layout": print_module(module)}
    if _has_warpgroups(target):
        passes.run(module, overlap(target, environment.DISABLE_PASSES.get()), verified=False)
    unmet = module.kernel.attributes.get(NOT_SPECIALIZED)
    metadata["warnings"] += [] if unmet is None else [str(unmet)]
    passes.run(module, shared_memory(target), verified=False)
    # Both sides of a ring compute the same in the same way until ranges differ, which are what the
    # next passes go by.
    proved = clone_module(module)
    passes.run(module, instructions(target))
    with passes.measure("generate LLVM IR"):
        text = emit_kernel(module, target, options.fp_fusion, options.line_info)
    with passes.measure("LLVM"):
        files["ptx"], optimised = llvm.ptx(text, target)
    with _assembly(files["ptx"], target, options) as running:
        passes.run(proved, proofs(target), verified=False)
        files["llvm"] = llvm.print_module(optimised)
        files["shared"] = print_module(module)
        files["schedule"] = schedule(module.kernel)
        with passes.measure("ptxas"):  # what is left of it
            assembled = running.result() if running else None
    metadata["shared_bytes"] = module.kernel.attributes["shared_bytes"]
    metadata["threads"] = threads(module.kernel)
    metadata["num_ctas"] = int(module.kernel.attributes.get("num_ctas", 1))
    metadata["tensor_maps"] = recipes(module.kernel)
    metadata["buffers"] = [
        [str(op.loc), op.results[0].type.bytes]  # type: ignore[union-attr]
        for op in module.walk()
        if isinstance(op, SharedAlloc)
    ]
    done = {name: text.encode() for name, text in files.items()}
    if assembled is not None:
        done["cubin"] = assembled.cubin
        metadata["resources"] = asdict(assembled.kernels[symbol(module.kernel.name)])
        metadata["warnings"] += assembled.warnings
    return {**done, "metadata": json.dumps(metadata).encode()}


def _assembly(
    ptx: str, target: GpuTarget, options: Options
) -> AbstractContextManager[assembler.Assembly | None]:
    """The assembler at work, where there is one."""
    tool = ptxas()
    if tool is None:
        return nullcontext()
    return assembler.assembling(ptx, target.name, ptxas=tool, line_info=options.line_info)


def _compile_cpu(
    module: Module, target: CpuTarget, options: Options, passes: PassManager
) -> dict[str, bytes]:
    from blocklang.codegen.cpu import CpuOptions, compile_cpu

    metadata = _metadata(module, target)
    with passes.measure("generate code"):
        code = compile_cpu(module, target, CpuOptions(options.fp_fusion))
    metadata |= {
        "symbol": code.symbol,
        "scratch_bytes": code.scratch_bytes,
        "asserts": [list(each) for each in code.asserts],
    }
    return {
        "plan": code.plan.encode(),
        "llvm": code.llvm.encode(),
        "object": code.code,
        "metadata": json.dumps(metadata).encode(),
    }


def _metadata(module: Module, target: Target) -> dict[str, Any]:
    kernel = module.kernel
    written = written_arguments(kernel)
    return {
        "name": kernel.name,
        "symbol": symbol(kernel.name),
        "target": target.name,
        "num_warps": kernel.attributes["num_warps"],
        "arguments": [
            {
                "name": argument.name,
                "type": "ptr" if isinstance(argument.type, PointerType) else str(argument.type),
                "element": str(getattr(argument.type, "element", "")),
                "divisible": argument.facts.get("divisible", 1),
                "written": argument in written,
            }
            for argument in kernel.arguments
        ],
        "version": __version__,
        "warnings": [],
    }


def written_arguments(function: Function) -> set[Value]:
    """The arguments through which the function may write to memory."""
    pending = [op.pointer for op in function.walk() if isinstance(op, Store | AtomicRMW)]
    sent = [op for op in function.walk() if isinstance(op, TmaStore | TmaSend)]
    pending += [described(op.map).pointer for op in sent]
    seen: set[Value] = set()
    while pending:
        value = pending.pop()
        if value in seen or not isinstance(element_type(value.type), PointerType):
            continue
        seen.add(value)
        pending += value_sources(value)
    return seen & set(function.arguments)


def value_sources(value: Value) -> list[Value]:
    """The values from which `value` may come: operands, and what regions and loops hand over."""
    if isinstance(value, Result):
        op = value.op
        return [*op.operands, *(v for r in op.regions for v in r.block.terminator.operands)]
    holder = (
        value.owner.region.op if isinstance(value.owner, Block) and value.owner.region else None
    )
    if holder is None:
        return []
    return [*holder.operands, *(v for r in holder.regions for v in r.block.terminator.operands)]
