"""Every form that the NVPTX back end emits is accepted by ptxas, for old and new architectures.

The suite's kernels, each elementwise op on each dtype, and the examples are compiled and assembled;
the assembler must have nothing to say about them. What a target cannot do is a CompileError, which
comes before LLVM: selection failures there would end the process (and this test run).
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache

import pytest

from blocklang import CompileError
from blocklang import compile as pipeline
from blocklang.codegen.targets import GPU_TARGETS
from blocklang.ir.builder import Builder
from blocklang.ir.core import Function, Module, Value
from blocklang.ir.location import Location
from blocklang.ir.op import REGISTRY, Op
from blocklang.ir.ops.control import Return
from blocklang.ir.ops.elementwise import (
    AddPointer,
    And,
    Bitcast,
    Cast,
    Compare,
    Elementwise,
    Not,
    Or,
    Select,
    Xor,
)
from blocklang.ir.ops.memory import Load, Store
from blocklang.ir.ops.program import Arange
from blocklang.ir.types import DTYPES, BlockType, PointerType, element_type, i1, i32
from blocklang.options import Options
from examples import layernorm, softmax, vector_add
from tests.suite import CASES
from tests.suite.ahead import compile_case
from tests.suite.case import Case
from tests.suite.data import FLOATS, INTEGERS

TARGETS = ("sm_80", "sm_90a", "sm_100a")
PTXAS = pipeline.ptxas()
HERE = Location(__file__, 1, 1, 1, 2)

pytestmark = pytest.mark.skipif(PTXAS is None, reason="there is no ptxas")


@cache
def known_to_ptxas() -> set[str]:
    done = subprocess.run([str(PTXAS), "--help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"'(sm_\d+[af]?)'", done.stdout))


def families() -> Iterator[tuple[str, list[Case]]]:
    """The cases in groups of similar ones, each a test of some seconds. Of those that differ in
    size alone, one.
    """
    groups: dict[str, list[Case]] = {}
    for case in CASES.values():
        if (
            re.search("-(1|3|16|1024)$", case.name)
            and case.name.replace(case.name.rpartition("-")[2], "257") in CASES
        ):
            continue
        module = case.kernel.__module__.rpartition(".")[2]
        groups.setdefault(f"{module}-{case.kernel.__name__}", []).append(case)
    yield from groups.items()


FAMILIES = dict(families())
REFUSED = {"sm_80": re.compile("(histogram|old-values|collisions)-bf16")}
"""Cases that a target cannot do."""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("family", list(FAMILIES))
def test_suite(family: str, target: str) -> None:
    for case in FAMILIES[family]:
        if target in REFUSED and REFUSED[target].fullmatch(case.name):
            with pytest.raises(CompileError, match=f"not available on {target}"):
                compile_case(case, target)
            continue
        kernel = compile_case(case, target)
        assert len(kernel.asm["cubin"]) > 1000
        assert kernel.metadata["warnings"] == [], case.name
        # More registers than there are: only whole rows in one warp.
        if kernel.resources.registers < 255:
            assert kernel.resources.spill_stores == 0, case.name


def operands_of(op: type[Op]) -> tuple[str, ...]:
    """The dtypes on which an elementwise op is tried."""
    assert issubclass(op, Elementwise)
    kinds = {"float": FLOATS, "integer": INTEGERS, "number": (*INTEGERS, *FLOATS)}[op.domain]
    # Conversions are tried for all pairs by the suite.
    return (*kinds, "i1") if op in (Compare, Select, And, Or, Xor, Not) else kinds


ELEMENTWISE = [
    op
    for op in REGISTRY.values()
    if issubclass(op, Elementwise) and op not in (Cast, Bitcast, AddPointer)
]


def switches(op: type[Op]) -> list[dict[str, object]]:
    """Attribute values that make different code."""
    if op is Compare:
        return [{"predicate": p} for p in ("eq", "ne", "lt", "le", "gt", "ge")]
    flags = [f.name for f in op.fields_of("attribute") if f.default is False]
    return [{}, *({flag: True} for flag in flags)]


def kernel_of(op: type[Op]) -> Module:
    """A kernel that loads, applies `op` in each of its forms, and stores, for every dtype."""
    function = Function("kernel", loc=HERE)
    builder = Builder(function.block, loc=HERE)
    block = BlockType((256,), i32)
    index = builder.insert(Arange(0, 256, loc=HERE, result_types=[block])).result

    def place(name: str, dtype: str) -> Value:
        pointer = PointerType(DTYPES[dtype])
        argument = function.block.add_argument(pointer, HERE, name)
        whole = builder.splat(argument, BlockType((256,), pointer))
        return builder.insert(AddPointer(whole, index, loc=HERE)).results[0]

    mask = builder.insert(Load(place("mask", "i1"), loc=HERE)).result
    for dtype in operands_of(op):
        values: list[Value] = []
        for number, field in enumerate(op.fields_of("operand")):
            is_mask = field.name == "condition"
            loaded = builder.insert(Load(place(f"{dtype}_{number}", dtype), loc=HERE)).result
            values.append(mask if is_mask else loaded)
        for number, attributes in enumerate(switches(op)):
            made = builder.insert(op(*values, loc=HERE, **attributes)).results[0]
            kind = "i1" if element_type(made.type) == i1 else dtype
            where = place(f"{dtype}_out_{number}", kind)
            builder.insert(Store(where, value=made, loc=HERE))
    builder.insert(Return((), loc=HERE))
    module = Module()
    module.add(function)
    return module


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.mnemonic)
def test_elementwise(op: type[Op], target: str) -> None:
    made = kernel_of(op)
    # Passes are given, so that nothing comes from a cache.
    files = pipeline.compile_module(
        made, GPU_TARGETS[target], Options(), passes=pipeline.pass_manager()
    )
    assert len(files["cubin"]) > 1000


SIGNATURE = {"x": "*fp32:16", "y": "*fp32:16", "row_stride": "i32:16", "n": "i32:16"}


@pytest.mark.parametrize("target", list(GPU_TARGETS))
def test_every_target(target: str) -> None:
    if target not in known_to_ptxas():
        pytest.skip(f"the installed ptxas does not know {target}")
    kernel = softmax.softmax.compile(SIGNATURE, {"BLOCK": 1024}, target)
    assert f".target {target}" in kernel.asm["ptx"]
    assert kernel.resources.spill_stores == kernel.resources.stack_bytes == 0
    assert kernel.metadata["warnings"] == []
    signature = {**dict.fromkeys("xyz", "*bf16:16"), "n": "i32"}
    kernel = vector_add.add.compile(signature, {"BLOCK": 1024}, target)
    assert kernel.resources.spill_stores == 0


def test_ptxas_knows_most_targets() -> None:
    assert len(known_to_ptxas() & set(GPU_TARGETS)) > len(GPU_TARGETS) // 2


@pytest.mark.parametrize("element", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("block", [256, 1024, 8192])
def test_examples_do_not_spill(element: str, block: int) -> None:
    arrays = dict.fromkeys("xywb", f"*{element}:16")
    numbers = {"row_stride": "i32:16", "n": "i32:16"}
    of_layernorm = {"mean_out": "*fp32:16", "rstd_out": "*fp32:16", "eps": "fp32"}
    signatures = {
        softmax.softmax: {"x": arrays["x"], "y": arrays["y"], **numbers},
        layernorm.layernorm: {**arrays, **numbers, **of_layernorm},
    }
    for kernel, signature in signatures.items():
        made = kernel.compile(signature, {"BLOCK": block}, "sm_90a", num_warps=8)
        assert made.resources.spill_stores == made.resources.stack_bytes == 0
        assert made.resources.registers > 0


@pytest.mark.parametrize("target", ["sm_75", "sm_80", "sm_89"])
def test_bfloat16_atomics_need_hopper(target: str) -> None:
    with pytest.raises(CompileError, match=f"bf16 is not available on {target}"):
        compile_case(CASES["old-values-bf16"], target)
    assert compile_case(CASES["old-values-f16"], target).asm["cubin"]


def test_old_targets_add_bfloat16_by_fused_multiplication() -> None:
    case = CASES["arithmetic-bf16-257"]
    assert "add.bf16x2" in compile_case(case, "sm_90a").asm["ptx"]
    old = compile_case(case, "sm_80").asm["ptx"]
    assert "add.bf16x2" not in old
    assert "fma.rn.bf16x2" in old


def test_too_much_shared_memory() -> None:
    case = CASES["transpose-f64-4-warps"]
    blocks = {"M": 256, "N": 256}
    bigger = Case("bigger", case.kernel, case.make, constexprs=blocks, options=case.options)
    with pytest.raises(CompileError, match="shared memory"):
        compile_case(bigger, "sm_90a")
