"""Random kernels compile for GPUs: no pass refuses what another has made, barriers are proved,
LLVM takes the code, and whoever uses a value is where the value says.
"""

from __future__ import annotations

import pytest

from tests.random_gpu_kernels import Program, program

# Seeds that have failed, and some more.
SEEDS = (48, 78, 316, *range(20))


def check(made: Program, target: str) -> None:
    files = made.compile(target)
    assert b".entry random(" in files["ptx"]
    assert b"st.global" in files["ptx"]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_kernels(seed: int) -> None:
    check(program(seed), ("sm_80", "sm_90a", "sm_100a")[seed % 3])


def test_most_kernels_do_something() -> None:
    changing = [seed for seed in range(20) if changes(program(seed))]
    assert len(changing) > 10


def changes(made: Program) -> bool:
    arrays = zip(made.arguments[:3], made.expected, strict=True)
    return any((before != after).any() for before, after in arrays)
