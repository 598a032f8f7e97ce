"""The errors about shared memory: too much of it, accesses without order, buffers overwritten."""

from __future__ import annotations

import pytest

from blocklang.ir.analysis.liveness import Interval, live_intervals
from blocklang.ir.core import Module, Value
from blocklang.ir.diagnostics import CompileError
from blocklang.ir.location import Location
from blocklang.ir.op import IRError
from blocklang.ir.parser import parse
from blocklang.ir.passes.allocate_shared import AllocateShared, buffers
from blocklang.ir.passes.prove_barriers import ProveBarriers

HEAD = """
#block = layout<[32], register=[], lane=[1, 2, 4, 8, 16], warp=[]>
#buffer = layout<[32], offset=[1, 2, 4, 8, 16]>
module {stage = "shared"}
kernel @k(%x: block<32xi32, #block>, %c: i1, %n: i32) {num_warps = 1, shared_bytes = TOTAL} {
"""


def kernel(body: str, total: int = 256) -> Module:
    """A kernel of the ops in `body`; line `i` (from 0) is line `i` of `k.bl` where ` @` is."""
    numbered = [line.replace(" @", f" @{n}", 1) for n, line in enumerate(body.split("\n"))]
    places = "\n".join(f'@{n} = "k.bl":{n}:1-{n}:2' for n in range(1, len(numbered)))
    text = "\n".join([HEAD.replace("TOTAL", str(total)), *numbered, "return @0 }", places, ""])
    return parse(text)


def lines(error: CompileError) -> list[int]:
    return [place.line for _, place in error.notes if isinstance(place, Location)]


TWO_BUFFERS = """
  %a = shared_alloc {offset = 0} : shared<32xi32, #buffer> @
  %b = shared_alloc {offset = OFFSET} : shared<32xi32, #buffer> @
"""


def prove(body: str, offset: int = 128, total: int = 256) -> None:
    ProveBarriers()(kernel(TWO_BUFFERS.replace("OFFSET", str(offset)) + body, total))


def test_a_load_right_behind_a_store_is_refused() -> None:
    with pytest.raises(CompileError) as caught:
        prove("""  shared_store %a, value = %x @
  %1 = shared_load %a : block<32xi32, #block> @""")
    assert "bytes 0 to 127 of shared memory are written, then read without a barrier" in str(
        caught.value
    )
    assert lines(caught.value) == [3, 4]
    assert caught.value.location is not None
    assert caught.value.location.line == 4


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("%1 = shared_load %a : block<32xi32, #block> @", "shared_store %b, value = %x @",
         "bytes 64 to 127 of shared memory are read, then written"),
        ("shared_store %b, value = %x @", "shared_store %a, value = %x @",
         "bytes 64 to 127 of shared memory are written, then written"),
    ],
)  # fmt: skip
def test_overlapping_buffers_conflict(first: str, second: str, words: str) -> None:
    with pytest.raises(CompileError, match=words):
        prove(f"  {first}\n  {second}", offset=64)
    prove(f"  {first}\n  {second}", offset=128)
    prove(f"  {first}\n  barrier @\n  {second}", offset=64)


def test_the_next_iteration_conflicts_with_this_one() -> None:
    body = """  for %n, %n, %n @ body(%i: i32) {
    BARRIER
    shared_store %a, value = %x @
    barrier @
    %1 = shared_load %a : block<32xi32, #block> @
    yield @
  }"""
    with pytest.raises(CompileError, match="are read, then written") as caught:
        prove(body.replace("BARRIER", "%d = add %n, %n : i32 @"))
    assert lines(caught.value) == [7, 5]
    prove(body.replace("BARRIER", "barrier @"))


def test_a_barrier_in_one_branch_is_not_enough() -> None:
    body = """  shared_store %a, value = %x @
  if %c @ then() {
    barrier @
    yield @
  } otherwise() {
    OTHER @
    yield @
  }
  %1 = shared_load %a : block<32xi32, #block> @"""
    with pytest.raises(CompileError, match="are written, then read"):
        prove(body.replace("OTHER", "%d = add %n, %n : i32"))
    prove(body.replace("OTHER", "barrier"))


def test_a_barrier_in_a_loop_that_may_not_run_is_not_enough() -> None:
    with pytest.raises(CompileError, match="are written, then read"):
        prove("""  shared_store %a, value = %x @
  for %n, %n, %n @ body(%i: i32) {
    barrier @
    yield @
  }
  %1 = shared_load %a : block<32xi32, #block> @""")


def test_a_buffer_that_is_overwritten_before_it_is_read() -> None:
    body = """  shared_store %a, value = %x @
  barrier @
  shared_store %b, value = %x @
  barrier @
  %1 = shared_load %a : block<32xi32, #block> @"""
    with pytest.raises(IRError, match="%a is overwritten by %b"):
        prove(body, offset=0)
    prove(body, offset=128)


def test_buffers_without_a_place() -> None:
    with pytest.raises(IRError, match="outside"):
        prove("", offset=-1)
    with pytest.raises(IRError, match="bytes 192 to 319 of a buffer are outside the 256"):
        prove("", offset=192)


def test_too_much_shared_memory_lists_who_asks_for_it() -> None:
    module = kernel("""
  %a = shared_alloc : shared<32xi32, #buffer> @
  %b = shared_alloc : shared<32xi64, #buffer> @
  shared_store %a, value = %x @
  %1 = shared_load %a : block<32xi32, #block> @""")
    AllocateShared(limit=384)(module)
    assert [(b.offset, b.bytes, b.location.line) for b in buffers(module.kernel)] == [
        (256, 128, 1),
        (0, 256, 2),
    ]
    with pytest.raises(CompileError) as caught:
        AllocateShared(limit=300)(module)
    assert "kernel k needs 384 bytes of shared memory, the target has 300" in str(caught.value)
    assert [text for text, _ in caught.value.notes] == [
        "256 bytes at offset 0 are for this",
        "128 bytes at offset 256 are for this",
    ]
    assert lines(caught.value) == [2, 1]


def named(module: Module, name: str) -> Value:
    return next(r for op in module.walk() for r in op.results if r.name == name)


def test_live_intervals_meet_where_loops_repeat_a_use() -> None:
    module = kernel("""
  %a = add %n, %n : i32 @
  %b = add %a, %n : i32 @
  %outer = add %n, %n : i32 @
  for %n, %n, %n @ body(%i: i32) {
    %p = add %outer, %i : i32 @
    %q = add %p, %i : i32 @
    yield @
  }
  %unused = add %n, %n : i32 @""")
    names = ("a", "b", "outer", "p", "q", "unused")
    found = live_intervals(module.kernel, [named(module, name) for name in names])
    a, b, outer, p, q, unused = found.values()
    assert not a.interferes(b)
    assert not b.interferes(outer)
    assert outer.interferes(p)
    assert outer.interferes(q)
    assert not p.interferes(q)
    assert not unused.interferes(outer)
    assert Interval(1, 3).interferes(Interval(2, 4))
    assert not Interval(1, 3).interferes(Interval(3, 4))
