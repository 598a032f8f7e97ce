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
