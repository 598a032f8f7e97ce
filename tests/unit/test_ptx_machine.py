"""The machine that executes PTX finds what is wrong with shared memory."""

from __future__ import annotations

import re

import pytest

from tests.products import Gemm
from tests.ptx_machine import Machine

PROBLEM = Gemm("fp16", (32, 32, 160), (32, 32, 32), warps=2, stages=3)


def execute(remove: str, number: int) -> None:
    """The problem without one of the instructions that `remove` matches."""
    run = PROBLEM.run("sm_80")
    ptx = run.compiled.asm["ptx"]
    places = list(re.finditer(remove, ptx))
    if places:
        place = places[number]
        ptx = ptx[: place.start()] + ptx[place.end() :]
    metadata = run.compiled.metadata
    values = [run.arguments[each["name"]] for each in metadata["arguments"]]
    Machine(ptx, values, 64, metadata["shared_bytes"]).run(run.grid)
    PROBLEM.check(run)


def test_nothing_is_wrong_with_the_whole() -> None:
    execute("no such text", 0)


@pytest.mark.parametrize("number", range(3))
def test_each_barrier_is_missed(number: int) -> None:
    with pytest.raises(AssertionError, match="without a barrier"):
        execute(r"bar\.sync\s+0;", number)


def test_a_wait_is_missed() -> None:
    with pytest.raises(AssertionError, match="while a copy is under way"):
        execute(r"cp\.async\.wait_group\s+1;", 0)


def test_a_group_that_is_not_closed_is_missed() -> None:
    with pytest.raises(AssertionError, match="while a copy is under way"):
        execute(r"cp\.async\.commit_group;", 0)
