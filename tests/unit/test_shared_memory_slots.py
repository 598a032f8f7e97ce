"""Slots and asynchronous copies: what the proof of barriers refuses, and what it accepts."""

from __future__ import annotations

import pytest

from blocklang.ir.diagnostics import CompileError
from blocklang.ir.parser import parse
from blocklang.ir.passes.prove_barriers import ProveBarriers

LOOP = """
#block = layout<[32], register=[], lane=[1, 2, 4, 8, 16], warp=[]>
#buffer = layout<[32], offset=[1, 2, 4, 8, 16]>
module {stage = "shared"}
kernel @k(%p: block<32xptr<i32>, #block>, %n: i32) {num_warps = 1, shared_bytes = 384} {
  %0 = constant {value = 0} : i32
  %1 = constant {value = 1} : i32
  %a = shared_alloc {offset = 0} : shared<32xi32, #buffer, 3>
  %s0 = shared_slot %a, %0 : shared<32xi32, #buffer>
  async_copy %p, %s0
  async_commit
  %s1 = shared_slot %a, %1 : shared<32xi32, #buffer>
  async_copy %p, %s1
  async_commit
  %last = for %0, %n, %1, initial = [%0] : i32 body(%i: i32, %s: i32) {
    async_wait {groups = 1}
    barrier
    %t = next_slot %s {depth = 3, by = 2} : i32
    %free = shared_slot %a, %t : shared<32xi32, #buffer>
    async_copy %p, %free
    async_commit
    %mine = shared_slot %a, %s : shared<32xi32, #buffer>
    %2 = shared_load %mine : block<32xi32, #block>
    %u = next_slot %s {depth = 3} : i32
    yield values = [%u]
  }
  async_wait
  barrier
  %3 = shared_load %s0 : block<32xi32, #block>
  return
}
"""


def prove(*changes: tuple[str, str]) -> None:
    text = LOOP
    for before, after in changes:
        assert text.count(before) == 1
        text = text.replace(before, after)
    ProveBarriers()(parse(text))


def test_a_pipeline_of_three_slots_is_in_order() -> None:
    prove()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # The wait lets one group too many be under way.
        ("async_wait {groups = 1}", "async_wait {groups = 2}"),
        # What other threads have copied is not there without a barrier, nor their reads done.
        ("async_wait {groups = 1}\n    barrier", "async_wait {groups = 1}"),
        # The barrier comes before the wait.
        ("async_wait {groups = 1}\n    barrier", "barrier\n    async_wait {groups = 1}"),
        # The copy goes to the slot that is read in this iteration.
        ("next_slot %s {depth = 3, by = 2}", "next_slot %u0 {depth = 3, by = 1}"),
        # Slots move on by two.
        ("%u = next_slot %s {depth = 3}", "%u = next_slot %s {depth = 3, by = 2}"),
        # The loop starts at another slot.
        ("initial = [%0]", "initial = [%1]"),
        # One group holds the copies of two iterations.
        ("async_copy %p, %s0\n  async_commit", "async_copy %p, %s0"),
        # Nobody waits for the last groups.
        ("async_wait\n  barrier", "barrier"),
        ("async_wait\n  barrier", "async_wait"),
    ],
)
def test_without_any_part_it_is_not(before: str, after: str) -> None:
    extra = ("%t = ", "%u0 = next_slot %s {depth = 3, by = 2} : i32\n    %t = ")
    changes = [(before, after), extra] if "%u0" in after else [(before, after)]
    with pytest.raises(CompileError, match="without a barrier"):
        prove(*changes)


def check_proof(text: str, before: str, after: str) -> None:
    """Barriers are proved in the text itself, and not with `before` (if not empty) replaced."""
    module = parse(text.replace(before, after) if before else text)
    if not before:
        ProveBarriers()(module)
        return
    with pytest.raises(CompileError, match="without a barrier"):
        ProveBarriers()(module)


WARPGROUPS = """
#block = layout<[32], register=[], lane=[1, 2, 4, 8, 16], warp=[]>
#buffer = layout<[32], offset=[1, 2, 4, 8, 16]>
module {stage = "shared"}
kernel @k(
  %p: block<32xptr<i32>, #block>, %n: i32, %c: block<32xi32, #block>
) {num_warps = 1, shared_bytes = 512} {
  %0 = constant {value = 0} : i32
  %1 = constant {value = 1} : i32
  %a = shared_alloc {offset = 0} : shared<32xi32, #buffer, 4>
  %s0 = shared_slot %a, %0 : shared<32xi32, #buffer>
  async_copy %p, %s0
  async_commit
  %s1 = shared_slot %a, %1 : shared<32xi32, #buffer>
  async_copy %p, %s1
  async_commit
  %begin = wgmma_begin value = %c : pending<block<32xi32, #block>>
  %last, %sum = for %0, %n, %1, initial = [%0, %begin]
      : i32, pending<block<32xi32, #block>>
      body(%i: i32, %s: i32, %acc: pending<block<32xi32, #block>>) {
    async_wait {groups = 1}
    fence_async
    barrier
    %t = next_slot %s {depth = 4, by = 2} : i32
    %free = shared_slot %a, %t : shared<32xi32, #buffer>
    async_copy %p, %free
    async_commit
    %mine = shared_slot %a, %s : shared<32xi32, #buffer>
    %w = wgmma %mine, %mine, %acc : pending<block<32xi32, #block>>
    %v = wgmma_wait values = [%w] {groups = 1} : pending<block<32xi32, #block>>
    %u = next_slot %s {depth = 4} : i32
    yield values = [%u, %v]
  }
  async_wait
  return
}
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        # Without the fence, warpgroups may not see what the threads have copied.
        ("    fence_async\n", ""),
        ("    fence_async\n    barrier", "    barrier\n    fence_async"),
        # Two products may be under way: the copy overwrites what the second last one reads.
        ("[%w] {groups = 1}", "[%w] {groups = 2}"),
        # One iteration further ahead, the copy overwrites what the last one reads.
        ("next_slot %s {depth = 4, by = 2}", "next_slot %s {depth = 4, by = 3}"),
    ],
)
def test_what_warpgroups_read_is_fenced_and_kept(before: str, after: str) -> None:
    check_proof(WARPGROUPS, before, after)


LATE = """
#block = layout<[32], register=[], lane=[1, 2, 4, 8, 16], warp=[]>
#buffer = layout<[32], offset=[1, 2, 4, 8, 16]>
module {stage = "shared"}
kernel @k(%p: block<32xptr<i32>, #block>, %n: i32) {num_warps = 1, shared_bytes = 512} {
  %0 = constant {value = 0} : i32
  %1 = constant {value = 1} : i32
  %a = shared_alloc {offset = 0} : shared<32xi32, #buffer, 3>
  %s0 = shared_slot %a, %0 : shared<32xi32, #buffer>
  async_copy %p, %s0
  async_commit
  %s1 = shared_slot %a, %1 : shared<32xi32, #buffer>
  async_copy %p, %s1
  async_commit
  %last, %before = for %0, %n, %1, initial = [%1, %0] : i32, i32
      body(%i: i32, %s: i32, %previous: i32) {
    async_wait
    barrier
    %t = next_slot %s {depth = 3} : i32
    %free = shared_slot %a, %t : shared<32xi32, #buffer>
    async_copy %p, %free
    async_commit
    %mine = shared_slot %a, %previous : shared<32xi32, #buffer>
    %2 = shared_load %mine : block<32xi32, #block>
    yield values = [%t, %s]
  }
  async_wait
  return
}
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        # The first iteration does not read the slot before its own.
        ("initial = [%1, %0]", "initial = [%1, %1]"),
        # The copy goes to the slot that is read.
        ("%t = next_slot %s {depth = 3}", "%t = next_slot %s {depth = 3, by = 2}"),
    ],
)
def test_the_slot_of_the_iteration_before_is_known(before: str, after: str) -> None:
    check_proof(LATE, before, after)
