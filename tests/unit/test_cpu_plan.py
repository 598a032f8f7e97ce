"""The plan of CPU kernels: what is fused, what is kept, and what has to wait."""

from __future__ import annotations

from blocklang.codegen.cpu.plan import Buffer, Control, Evaluate, Execute, Nest, Plan
from blocklang.codegen.cpu.planner import plan_kernel
from blocklang.codegen.cpu.prepare import prepare
from blocklang.codegen.cpu.scratch import allocate
from blocklang.ir.core import Result
from blocklang.ir.ops.dot import Dot
from blocklang.ir.ops.memory import Load
from blocklang.ir.passes.canonicalize import Canonicalize
from blocklang.ir.passes.cse import CommonSubexpressionElimination
from blocklang.ir.passes.dce import DeadCodeElimination
from blocklang.ir.passes.licm import LoopInvariantCodeMotion
from tests.cpu_kernels import lower


def plan(text: str, **constexprs: object) -> Plan:
    module = lower(text, **constexprs)
    for each in (
        Canonicalize(), CommonSubexpressionElimination(), LoopInvariantCodeMotion(),
        DeadCodeElimination(),
    ):  # fmt: skip
        each(module)
    prepare(module, lambda op, dtype: True)
    made, context = plan_kernel(module.kernel)
    allocate(made, context)
    return made


def loads(nest: Nest) -> list[Load]:
    values = dict.fromkeys(v for v, _ in nest.seen if v not in nest.reads)
    return [v.op for v in values if isinstance(v, Result) and isinstance(v.op, Load)]


def kept(nest: Nest) -> list[Evaluate]:
    return [a for a in nest.actions if isinstance(a, Evaluate) and a.buffer is not None]


SOFTMAX = """
kernel softmax(x: *f32, y: *f32, n: i32):
    cols = arange(0, 1024)
    v = load(x + cols, mask=cols < n, other=-inf)
    e = exp(v - max(v, axis=0)) / 3.0
    store(y + cols, e / sum(e, axis=0), mask=cols < n)
"""


def test_softmax_is_three_loops_that_keep_one_block() -> None:
    first, second, third = plan(SOFTMAX).nests()
    assert [len(loads(n)) for n in (first, second, third)] == [1, 1, 0]
    assert [len(kept(n)) for n in (first, second, third)] == [0, 1, 0]
    assert len(third.reads) == 1
    assert not third.guards
    assert not third.staged


def test_a_load_is_not_repeated_after_a_write() -> None:
    nests = list(
        plan("""
kernel normalise(x: *f32, y: *f32, total: *f32):
    i = arange(0, 256)
    v = load(x + i)
    s = sum(v, axis=0)
    store(total, s)
    store(y + i, v / s)
""").nests()
    )
    first, last = nests[0], nests[-1]
    assert len(loads(first)) == 1
    assert len(kept(first)) == 1
    assert not loads(last)
    assert len(last.reads) == 1


def test_stores_beside_loads_are_guarded_unless_the_addresses_are_the_same() -> None:
    text = """
kernel k(x: *f32, y: *f32):
    i = arange(0, 256)
    store({}, load(x + i) + 1.0)
"""
    (other,) = plan(text.format("y + i")).nests()
    (same,) = plan(text.format("x + i")).nests()
    assert len(other.guards) == 1
    assert len(other.kept) == 1
    assert not same.guards
    assert not same.staged
    assert not same.kept


def test_stores_to_unknown_addresses_wait() -> None:
    (nest,) = plan("""
kernel k(x: *f32, y: *f32, where: *i32):
    i = arange(0, 256)
    store(y + load(where + i), load(x + i))
""").nests()
    assert len(nest.staged) == 1
    assert not nest.guards
    assert len(nest.kept) == 2


def test_what_is_dear_is_not_computed_for_every_row() -> None:
    nests = list(
        plan("""
kernel k(x: *f32, y: *f32):
    i = arange(0, 64)
    j = arange(0, 32)
    scale = 1.0 / sqrt(load(x + i))
    store(y + j[:, None] * 64 + i[None, :], scale[None, :] * j[:, None].to(f32))
""").nests()
    )
    assert [n.shape for n in nests][-2:] == [(1, 64), (32, 64)] or [n.shape for n in nests][
        -2:
    ] == [(64,), (32, 64)]


def test_nothing_is_read_before_it_is_kept() -> None:
    nests = plan("""
kernel k(x: *f32, y: *f32):
    i, j = arange(0, 8), arange(0, 16)
    v = exp(exp(load(x + i[:, None] * 16 + j[None, :])) / 3.0)
    store(y + j[:, None] * 16 + j[None, :], dot(trans(v), v, input_precision="ieee"))
""").nests()
    full: set[Buffer] = set()
    for nest in nests:
        made = {action.buffer for action in kept(nest) if action.buffer is not None}
        executed = [a.op for a in nest.actions if isinstance(a, Execute)]
        assert {buffer.storage for buffer in nest.reads.values()} <= full
        assert not made & full, "computed twice"
        full |= made
        if any(isinstance(op, Dot) for op in executed):
            # The product has the buffer of its result from elsewhere.
            return
    raise AssertionError("there is no product")


def test_chunks_extend_along_contiguous_accesses() -> None:
    text = """
kernel k(x: *f32, y: *f32, stride: i32):
    i = arange(0, 64)[:, None]
    j = arange(0, 32)[None, :]
    store(y + {}, load(x + {}) + 1.0)
"""
    rows, columns = "i * stride + j", "j * stride + i"
    for address, dimension in ((rows, 1), (columns, 0)):
        nest = list(plan(text.format(address, address)).nests())[-1]
        assert nest.vector == dimension


def test_reductions_along_different_axes_do_not_share_loops() -> None:
    nests = [
        n
        for n in plan("""
kernel k(x: *f32, y: *f32):
    i = arange(0, 8)[:, None]
    j = arange(0, 32)[None, :]
    v = load(x + i * 32 + j)
    store(y + arange(0, 8), sum(v, axis=1))
    store(y + arange(0, 32), sum(v, axis=0))
""").nests()
        if n.axis is not None
    ]
    assert [n.axis for n in nests] == [1, 0]


def control(made: Plan) -> Control:
    (found,) = (level.step for level in made.levels if isinstance(level.step, Control))
    return found


LOOP = """
kernel k(x: *f32, y: *f32, n: i32):
    i = arange(0, 256)
    a = zeros((256,), f32)
    b = load(y + i)
    for k in range(n):
        {}
    store(y + i, a + b)
"""


def in_place(body: str) -> list[bool]:
    step = control(plan(LOOP.format(body)))
    return [a is b for a, b in zip(step.incoming, step.following, strict=True) if a is not None]


def test_accumulators_are_updated_in_place() -> None:
    assert in_place("a += load(x + k * 256 + i)") == [True]
    assert in_place("a, b = b, a") == [True, True]


def test_what_is_read_after_its_update_has_two_buffers() -> None:
    assert False in in_place("a, b = a + 1.0, b + a * sum(a, axis=0)")


def test_carried_pointers_become_scalars() -> None:
    made = plan("""
kernel k(x: *f32, y: *f32, n: i32, stride: i32):
    i = arange(0, 256)
    p = x + i
    a = zeros((256,), f32)
    for k in range(n):
        a += load(p)
        p += 256 * stride
    store(y + i, a)
""")
    step = control(made)
    assert [b is None for b in step.incoming].count(False) == 1
    (nest,) = step.regions[0].nests()
    assert len(nest.reads) == 1


def test_carried_floats_are_added_in_their_order() -> None:
    assert in_place("a += 0.1") == [True]


def test_buffers_are_reused() -> None:
    step = """
    e = exp(v - s) / (s + {0})
    s = sum(e, axis=0)
    t += max(e / s, axis=0)"""
    steps = "".join(map(step.format, range(5)))
    module = lower(f"""
kernel k(x: *f32, y: *f32):
    v = load(x + arange(0, 1024))
    s = max(v, axis=0)
    t = s{steps}
    store(y, t)
""")
    made, context = plan_kernel(module.kernel)
    assert sum(len(kept(n)) for n in made.nests()) == 5
    assert 4096 <= allocate(made, context) <= 2 * 4096
