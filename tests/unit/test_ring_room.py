"""How many slots rings get: as many as there are stages, if shared memory has room beside what else
the kernel needs at a time.
"""

from __future__ import annotations

import pytest

import blocklang
import blocklang.language as bl
from blocklang.codegen.targets import gpu_target
from blocklang.ir.errors import TooMuchSharedMemory

SIGNATURE = {
    **dict.fromkeys("ab", "*bf16:16"), "c": "*fp32:16", "m": "i32:16", "n": "i32:16", "k": "i32:16",
}  # fmt: skip


@blocklang.jit
def several_ends(a, b, c, m, n, k, N: bl.constexpr, STORES: bl.constexpr, STAGES: bl.constexpr):
    """A product of which functions are stored by pointers, one after the other."""
    left = bl.make_tensor_descriptor(a, [m, k], [k, 1], [128, 64])
    right = bl.make_tensor_descriptor(b, [n, k], [k, 1], [N, 64])
    acc = bl.zeros((128, N), bl.float32)
    for i in bl.range(0, k, 64, num_stages=STAGES):
        acc = bl.dot(left.load([0, i]), right.load([0, i]).T, acc)
    at = c + bl.arange(0, 128)[:, None] * n + bl.arange(0, N)[None, :]
    for store in bl.static_range(STORES):
        bl.store(at + store * m * n, acc * store)


def slots(n: int, stores: int, stages: int, own: bool = False) -> int:
    """The slots of the ring of a kernel with so many stages, of its loop's own or of the kernel."""
    made = several_ends.compile(
        SIGNATURE, {"N": n, "STORES": stores, "STAGES": stages if own else None}, "sm_90a",
        num_warps=8, num_stages=stages,
    )  # fmt: skip
    assert made.metadata["shared_bytes"] <= gpu_target("sm_90a").shared_bytes
    (line,) = (line for line in made.asm["schedule"].splitlines() if line.startswith("ring 0"))
    return int(line.split()[2])


@pytest.mark.parametrize("stores", [1, 2, 3])
@pytest.mark.parametrize("stages", [2, 4])
def test_conversions_of_different_times_take_room_once(stages: int, stores: int) -> None:
    assert slots(128, stores, stages) == stages


def test_stages_without_room_are_left_out() -> None:
    assert 1 < slots(256, 1, 9) < 5
    assert slots(128, 1, 12) < 7


def test_what_a_loop_asks_for_by_itself_is_an_error() -> None:
    assert slots(128, 1, 3, own=True) == 3
    with pytest.raises(TooMuchSharedMemory):
        slots(256, 1, 9, own=True)
