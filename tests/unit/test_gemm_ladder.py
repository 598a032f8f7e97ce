"""The ladder of matrix products: every stage is right, and is what its title says."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from blocklang.compile import ptxas
from blocklang.runtime import cuda, device_array, fast, native
from examples import harness
from examples.gemm_ladder import ladder
from examples.gemm_ladder.ladder import STAGES
from examples.gemm_ladder.roofline import (
    counted_reads,
    instructions,
    product_block,
    roofline,
    widths,
)
from examples.rounding import Rounded
from tests.ptx_machine import Machine
from tests.unit import sample_gpu

FOLDER = Path(ladder.__file__).parent
EVERY = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: f"{stage.number}")
# What the machine that executes PTX knows: no tensor memory accelerator, no warpgroups.
SIMPLE = pytest.mark.parametrize("stage", STAGES[:6], ids=lambda stage: f"{stage.number}")

# Which kinds of instructions the stages have, by number: all others have none.
HAVE = {
    "multiply-adds": (1, 2, 3, 4),
    "shared loads": (2, 3, 4, 5, 6),
    "warp products": (5, 6),
    "loads": (1, 2, 3, 4, 5),
    "copies": (6,),
    "bulk copies": (7, 8),
    "warpgroup products": (7, 8),
    "register moves": (8,),
}
LOADED = {1: {2}, 2: {2}, 3: {2}, 4: {16}, 5: {16}}


def test_stages_are_numbered():
    assert [stage.number for stage in STAGES] == list(range(1, 9))


@EVERY
@pytest.mark.parametrize("shape", ladder.SHAPES)
def test_stages_on_the_cpu(stage, shape):
    assert ladder.share_of_bound(stage, shape, harness.Host()) <= 1


@SIMPLE
def test_machine_code(stage):
    """Of sizes divisible by 16, and by no tile."""
    m, n, k = 48, 80, 80
    a, b, c = ladder.matrices(m, n, k)
    compiled = stage.compile()
    sizes = [np.int64(each) for each in (m, n, k)]
    machine = Machine(
        compiled.asm["ptx"], [a, b, c, *sizes], compiled.threads, compiled.resources.shared_bytes
    )
    machine.run(stage.grid(m, n))
    expected = (Rounded(a) @ Rounded(b)).stored(ml_dtypes.bfloat16)
    assert (np.abs(c.astype(np.float64) - expected.value) <= expected.error).all()


@EVERY
def test_every_stage_has_its_instructions(stage):
    counted = instructions(stage.compile().asm["ptx"])
    assert set(counted) == set(HAVE)
    for kind, stages in HAVE.items():
        assert (counted[kind] > 0) == (stage.number in stages), kind


@EVERY
def test_width_of_loads(stage):
    ptx = stage.compile().asm["ptx"]
    assert widths(ptx, "ld.global") == LOADED.get(stage.number, set())
    if stage.number == 2:
        assert widths(ptx, "ld.shared") == {4}


@EVERY
def test_reads_on_chip_are_those_of_the_model(stage):
    work = roofline(stage, 4096, 4096, 4096)
    found = counted_reads(stage.compile().asm["ptx"])
    assert found == pytest.approx(work.read_bytes / work.operations)


@EVERY
def test_nobody_computes_twice(stage):
    """One step of a tile takes as many products as there are elements."""
    counted = instructions(product_block(stage.compile().asm["ptx"]))
    threads = 32 * stage.num_warps
    size = stage.tile["BLOCK_M"] * stage.tile["BLOCK_N"]
    if stage.tensor_cores:
        products = 16 * 8 * 16 * stage.num_warps * counted["warp products"]
        # Each wgmma of four warps has 64 rows, the columns of the tile and 16 terms.
        warpgroups = stage.num_warps // 4
        products += 64 * stage.tile["BLOCK_N"] * 16 * warpgroups * counted["warpgroup products"]
        assert products == size * stage.tile["BLOCK_K"]
    else:
        terms = counted["multiply-adds"] * threads / size
        assert terms in (4, 32)  # how far the loop is unrolled


@pytest.mark.skipif(ptxas() is None, reason="needs ptxas")
@EVERY
def test_stages_assemble(stage):
    compiled = stage.compile()
    resources = compiled.resources
    assert compiled.metadata["warnings"] == []
    assert (resources.spill_stores, resources.spill_loads, resources.stack_bytes) == (0, 0, 0)
    # Only the last has warps besides those that multiply.
    assert compiled.threads == 32 * stage.num_warps + 128 * stage.stays


@pytest.mark.skipif(ptxas() is None, reason="needs ptxas")
def test_what_the_tutorial_says_about_registers():
    uses = [stage.compile().resources for stage in STAGES]
    target = STAGES[2].compile().target
    programs = [each.occupancy(target) / each.threads for each in uses]
    assert uses[3].registers < uses[2].registers
    assert programs[3] == 2 * programs[2]
    assert uses[5].registers < uses[4].registers
    assert uses[5].shared_bytes > uses[4].shared_bytes
    assert round(programs[6] * target.threads_per_multiprocessor) > 1


def test_stages_that_differ_in_one_thing():
    """From 3 to 4 it is what is known about addresses, from 5 to 6 the number of stages."""
    for number, names in ((3, {"aligned"}), (5, {"num_stages"})):
        one, other = STAGES[number - 1 : number + 1]
        for name in ("kernel", "tile", "num_warps", "part", "target", "num_stages", "aligned"):
            assert (getattr(one, name) != getattr(other, name)) == (name in names)


def test_bounds():
    first, last = (roofline(STAGES[i], 4096, 4096, 4096) for i in (0, -1))
    assert first.intensity == last.intensity == 4096 / 3
    assert first.bound[0] == "on-chip bytes"
    assert last.bound == ("tensor cores", 989e12)
    # A row or column of one element has as many bytes as operations; then memory is the bound.
    assert roofline(STAGES[-1], 4096, 1, 4096).bound[0] == "memory"


def test_reads_and_widths_of_other_text():
    text = "$L1:\n ld.global.v2.b64 {%r1}; ld.shared.f32 %f1; fma.rn.f32 %f;\n$L2:\n ld.global.b8 x"
    assert widths(text, "ld.global") == {16, 1}
    assert widths(text, "ld.shared") == {4}
    assert product_block(text).count("\n") == 2


def test_grids():
    assert STAGES[0].grid(9, 33) == (2, 2)
    assert STAGES[6].grid(129, 128) == (1, 2)
    assert STAGES[7].grid(129, 256, 132) == (2,)
    assert STAGES[7].grid(4096, 4096, 132) == (132,)


@pytest.mark.parametrize("major", [9, 8])
def test_launches_on_a_gpu(major, monkeypatch):
    """Of kernels for sm_90a, those that ask for sm_90 are compiled for that; no others are."""
    monkeypatch.setitem(sample_gpu.ATTRIBUTES, "COMPUTE_CAPABILITY_MAJOR", major)
    monkeypatch.setitem(sample_gpu.ATTRIBUTES, "MULTIPROCESSOR_COUNT", 4)
    monkeypatch.setattr(native, "available", lambda: False)
    fast._environment.cache_clear()
    with sample_gpu.sample_machine(sample_gpu.SampleGpu()) as driver:
        usual = cuda.device(0).target
        for stage in ladder.STAGES[:6]:
            found, shape = target_and_grid(stage, driver)
            assert found == (stage.target if major == 9 else usual)
            assert shape == stage.grid(144, 272, 4)
            assert cuda.device(0).target == usual
    fast._environment.cache_clear()


def target_and_grid(stage, driver):
    """The target and the grid of a launch; nothing of it stays."""
    arrays = [device_array(each) for each in ladder.matrices(144, 272, 80)]
    before = driver.general
    run = dataclasses.replace(stage).ready(*arrays)
    assert driver.general == before, "compiling launched"
    target = run().target.name
    assert driver.general == before + 1
    return target, tuple(driver.shape[:2])


def test_the_program_runs(tmp_path):
    command = [sys.executable, FOLDER / "ladder.py", "--device", "cpu"]
    run = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(FOLDER.parents[1])},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("correct") == len(STAGES)


def test_the_program_fails_where_a_stage_is_wrong(monkeypatch, capsys):
    monkeypatch.setattr(ladder, "share_of_bound", lambda stage, shape, device: stage.number / 7.5)
    assert ladder.main(["--device", "cpu"]) == 1
    assert capsys.readouterr().out.count("WRONG") == 1
