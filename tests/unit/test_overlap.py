"""Kernels for sm_90a with and without what runs beside the threads: the assembler has nothing to
say about any of them, and nothing is spilled.
"""

from __future__ import annotations

import itertools
import re

import pytest

from blocklang import compile as pipeline
from blocklang import environment
from blocklang.environment import OPTIONAL_PASSES
from blocklang.frontend.text import load_text
from blocklang.kernel import JitFunction
from tests.overlap_kernels import SIGNATURES, attention, final_ir, gemm, persistent

needs_ptxas = pytest.mark.skipif(pipeline.ptxas() is None, reason="there is no ptxas")

COMBINATIONS = [
    ",".join(names)
    for count in range(len(OPTIONAL_PASSES) + 1)
    for names in itertools.combinations(OPTIONAL_PASSES, count)
]

# kernel, sizes, warps, stages
TUNED = [
    (gemm, {"M": 64, "N": 64, "K": 64}, 4, 1),
    (gemm, {"M": 128, "N": 128, "K": 64}, 8, 4),
    (gemm, {"M": 256, "N": 128, "K": 64}, 16, 2),
    (persistent, {"M": 128, "N": 128, "K": 64}, 8, 3),
    (attention, {"M": 64, "N": 64, "D": 64}, 4, 1),
    (attention, {"M": 128, "N": 128, "D": 128}, 8, 2),
]


@needs_ptxas
@pytest.mark.parametrize("disabled", COMBINATIONS)
@pytest.mark.parametrize(
    ("kernel", "sizes", "warps", "stages"),
    TUNED,
    ids=[f"{k.__name__}-{'x'.join(map(str, s.values()))}-{w}-{n}" for k, s, w, n in TUNED],
)
def test_every_combination_assembles(
    kernel: JitFunction, sizes: dict[str, int], warps: int, stages: int, disabled: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(environment.DISABLE_PASSES.name, disabled)
    made = kernel.compile(
        SIGNATURES[kernel], constexprs=sizes, target="sm_90a", num_warps=warps, num_stages=stages
    )
    assert made.metadata["warnings"] == []
    assert made.resources.spill_stores == made.resources.spill_loads == 0
    text = made.asm["shared"]
    assert ("warp_specialize" in text) == ("specialize-warps" not in disabled)
    waits = re.findall(r"wgmma_wait .*", text)
    assert waits
    # Waits that leave products under way are those of overlap-dots.
    if "overlap-dots" in disabled:
        assert not any("groups" in wait for wait in waits)
    elif not disabled:
        assert any("groups" in wait for wait in waits)


def test_disabled_passes_are_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"M": 64, "N": 64, "K": 64}
    found = set()
    for disabled in ("", *OPTIONAL_PASSES):
        monkeypatch.setenv(environment.DISABLE_PASSES.name, disabled)
        module = final_ir(gemm, sizes, num_warps=4, num_stages=2)
        found.add(tuple(op.mnemonic for op in module.walk()))
    assert len(found) == 1 + len(OPTIONAL_PASSES)


def test_the_schedule_says_what_runs_beside_the_threads() -> None:
    sizes = {"M": 128, "N": 128, "D": 64}
    made = attention.compile(
        SIGNATURES[attention], constexprs=sizes, target="sm_90a", num_warps=8, num_stages=2
    )
    text = re.sub(r"\S+overlap_kernels.py:[0-9]+:[0-9]+", "HERE", made.asm["schedule"])
    assert "consumer: 8 warps, 240 registers a thread\n" in text
    assert "producer: one thread in each of 3 of 4 warps, 24 registers a thread\n" in text
    for ring, tensor, slots in ((0, "q", "1 slot"), (1, "k", "2 slots"), (2, "v", "2 slots")):
        line = f"ring {ring}: {slots} of 16384 bytes\n  filled with 128x64xf16 of {tensor}, HERE\n"
        assert line + "  read by wgmma, HERE\n" in text
    assert "sent: 128x64xf16 to o, each warpgroup its part, HERE" in text
    early, late = text.splitlines()[-2:]
    where, when = early.removesuffix(", HERE").split(": ")
    assert where == "  128x128x64, left factor in shared memory, of this iteration"
    assert when == "waited for with 1 left under way"
    where, when = late.removesuffix(", HERE").split(": ")
    assert where == "  128x64x128, left factor in registers, of the iteration before"
    assert when == "waited for with none left under way"


def test_the_schedule_of_other_kernels_is_short() -> None:
    sizes = {"M": 64, "N": 64, "K": 64}
    made = gemm.compile(SIGNATURES[gemm], constexprs=sizes, target="sm_80", num_warps=4)
    assert made.asm["schedule"] == "kernel gemm\nall work: 4 warps\nnothing runs beside them\n"


@pytest.mark.parametrize(
    "bounds", [("0", "k"), ("0", "512"), ("0", "64"), ("split", "k")], ids="-".join
)
def test_rings_around_all_kinds_of_loops_are_proved(bounds: tuple[str, str]) -> None:
    # Two loops that share a ring, the second in a branch; constant bounds leave no condition.
    text = f"""
kernel loops(a: *f16 divisible 16, b: *f16 divisible 16, c: *f16 divisible 16, m: i32,
             n: i32 divisible 16, k: i32 divisible 16, split: i32):
    left = make_tensor_descriptor(a, [m, k], [k, 1], [64, 64])
    right = make_tensor_descriptor(b, [k, n], [n, 1], [64, 64])
    acc = zeros((64, 64), f32)
    for i in range(0, split, 64):
        acc = dot(left.load([0, i]), right.load([i, 0]), acc)
    acc *= 2.0
    if {bounds[0]} < {bounds[1]}:
        for i in range({bounds[0]}, {bounds[1]}, 64):
            acc = dot(left.load([0, i]), right.load([i, 0]), acc)
    make_tensor_descriptor(c, [m, n], [n, 1], [64, 64]).store([0, 0], acc)
"""
    (tree,) = load_text(text, "loops.bl").values()
    made = JitFunction(None, tree).compile(target="sm_90a", num_stages=2)
    assert "warp_specialize" in made.asm["shared"]


@needs_ptxas
def test_the_only_slot_is_given_back_before_the_next_is_waited_for() -> None:
    # There is no room for a second slot beside what is stored.
    sizes = {"M": 128, "N": 256, "K": 128}
    made = gemm.compile(
        SIGNATURES[gemm], constexprs=sizes, target="sm_90a", num_warps=8, num_stages=1
    )
    assert "mbarriers<1>" in made.asm["shared"]
    assert "groups = 1" not in made.asm["shared"]


def test_products_in_a_while_loop() -> None:
    text = """
kernel search(a: *f16 divisible 16, c: *f16 divisible 16, n: i32, k: i32 divisible 16):
    left = make_tensor_descriptor(a, [n, k], [k, 1], [64, 64])
    acc = zeros((64, 64), f32)
    i = 0
    while i < k:
        x = left.load([0, i])
        acc = dot(x, x.T, acc)
        i += 64
    make_tensor_descriptor(c, [n, k], [k, 1], [64, 64]).store([0, 0], acc)
"""
    (tree,) = load_text(text, "search.bl").values()
    made = JitFunction(None, tree).compile(target="sm_90a")
    assert "wgmma" in made.asm["shared"]
