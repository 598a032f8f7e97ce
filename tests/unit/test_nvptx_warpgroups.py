"""What warpgroups do by themselves, in PTX: which barrier each waits at, what each sends, and which
descriptors it reads through in a cluster. Registers are computed from the instructions that set
them, for all threads.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from functools import cache
from typing import Any

import numpy as np
import pytest

from blocklang import compile as pipeline
from blocklang.ir.layout import pieces, warpgroup_steps
from blocklang.ir.ops.asynchronous import TmaSend
from blocklang.ir.parser import parse
from blocklang.ir.types import BlockType, SharedType
from tests import overlap_kernels as kernels
from tests.ptx_machine import HANDLERS
from tests.ptx_warpgroups import Machine
from tests.unit.test_prove_sends import twice

needs_ptxas = pytest.mark.skipif(pipeline.ptxas() is None, reason="there is no ptxas")

_GROUP = 128
_READERS = ("bar", "bra", "setmaxnreg")
"""Instructions whose first operand is no result."""
_SEND = r"cp\.async\.bulk\.tensor\.\dd\.global\.shared::cta\.tile\.bulk_group"

# kernel, sizes, warps, blocks of threads
CASES: dict[str, tuple[Any, dict[str, int], int, int]] = {
    "rows": (kernels.gemm, {"M": 128, "N": 128, "K": 64}, 8, 1),
    "more rows": (kernels.gemm, {"M": 256, "N": 64, "K": 64}, 8, 1),
    "columns": (kernels.gemm, {"M": 64, "N": 256, "K": 64}, 8, 1),
    "both": (kernels.gemm, {"M": 128, "N": 256, "K": 64}, 16, 1),
    "four": (kernels.gemm, {"M": 256, "N": 128, "K": 64}, 16, 1),
    "narrow": (kernels.gemm, {"M": 16, "N": 256, "K": 64}, 8, 1),
    "narrow, of four": (kernels.gemm, {"M": 32, "N": 256, "K": 64}, 16, 1),
    "persistent": (kernels.persistent, {"M": 128, "N": 128, "K": 64}, 8, 1),
    "attention": (kernels.attention, {"M": 128, "N": 64, "D": 64}, 8, 1),
    "pieces": (kernels.persistent, {"M": 128, "N": 256, "K": 128}, 8, 1),
    "pieces of four": (kernels.persistent, {"M": 256, "N": 128, "K": 128}, 16, 1),
    "cluster": (kernels.gemm, {"M": 256, "N": 256, "K": 64}, 8, 2),
    "wide cluster": (kernels.gemm, {"M": 512, "N": 128, "K": 64}, 8, 4),
    "cluster of columns": (kernels.attention, {"M": 256, "N": 128, "D": 128}, 8, 2),
}
CLUSTERS = [name for name, case in CASES.items() if case[3] > 1]


@cache
def compiled(name: str) -> Any:
    kernel, sizes, warps, ctas = CASES[name]
    made = kernel.compile(
        kernels.SIGNATURES[kernel], sizes, target="sm_90a", num_warps=warps, num_stages=2,
        num_ctas=ctas,
    )  # fmt: skip
    assert made.num_ctas == ctas
    return made


class Values:
    """The registers of a kernel, computed when asked for. What loops and branches set counts as 0,
    and so do arguments.
    """

    def __init__(self, made: Any, shared_memory: int = 0) -> None:
        metadata = made.metadata
        threads = metadata["threads"]
        count = len(metadata["arguments"]) + 8  # and tensor maps
        self.machine = Machine(made.asm["ptx"], [0] * count, threads, metadata["shared_bytes"])
        thread = np.arange(threads, dtype=np.uint64)
        self.nothing = thread * 0
        self.machine.registers = {"%tid.x": thread}
        self.machine.registers["shared_memory"] = self.nothing + np.uint64(shared_memory)
        self.machine.results_under_way = set()
        for special in ("%ctaid", "%nctaid"):
            for axis in "xyz":
                self.machine.registers[f"{special}.{axis}"] = self.nothing
        self.made_by = defaultdict(list)
        for guard, opcode, operands in self.machine.code:
            is_read = opcode.startswith(_READERS) or not operands or operands[0].startswith("[")
            for target in [] if is_read else re.findall(r"%\w+", operands[0]):
                self.made_by[target].append((guard, opcode, operands))

    def of(self, register: str) -> np.ndarray:
        """The register in all threads."""
        found = self.made_by[register]
        if register not in self.machine.registers:
            if len(found) != 1 or found[0][1].startswith(("ld", "wgmma", "{")):
                self.machine.registers[register] = self.nothing
            else:
                self.execute(*found[0])
        return self.machine.registers[register]

    def execute(self, guard: str, opcode: str, operands: list[str]) -> None:
        for source in re.findall(r"%[\w.]+", " ".join(operands[1:])):
            self.of(source)
        everyone = np.ones(self.machine.threads, bool)
        HANDLERS[opcode.split(".")[0]](self.machine, opcode, operands, everyone)

    def number(self, operand: str) -> np.ndarray:
        """A register, a number, or `[address+offset]`, as 32 bits, in all threads."""
        base, _, offset = operand.strip("[]").partition("+")
        if base.startswith("%"):
            value = self.of(base)
        elif base == "shared_memory":
            value = self.machine.registers[base]
        else:
            value = self.nothing + np.uint64(int(base))
        return value.astype(np.uint32).astype(np.int64) + int(offset or 0)


# ---------------------------------------------------------------- barriers


@needs_ptxas
@pytest.mark.parametrize("name", CASES)
def test_the_assembler_has_nothing_to_say(name: str) -> None:
    made = compiled(name)
    assert made.metadata["warnings"] == []
    assert made.resources.spill_stores == made.resources.spill_loads == 0


@pytest.mark.parametrize("name", CASES)
def test_each_warpgroup_has_a_barrier_of_its_own(name: str) -> None:
    made = compiled(name)
    ptx = made.asm["ptx"]
    consumers = 32 * CASES[name][2]
    barriers = re.findall(r"bar(?:rier)?\.(?:cta\.)?sync(?:\.aligned)?\s+([^;]*);", ptx)
    # All threads meet once, when the barriers of rings are made; in a cluster all of them do.
    assert [each for each in barriers if "," not in each] == ["0"] * (CASES[name][3] == 1)
    named = [each.split(", ") for each in barriers if "," in each]
    # Once before a part of a piece is stored, once before it is sent.
    assert len(named) == (4 if name.startswith("pieces") else 2)
    values = Values(made)
    numbers = []
    for register, count in named:
        assert count == str(_GROUP)
        numbers.append(values.number(register)[:consumers])
    expected = 2 + np.arange(consumers) // _GROUP
    assert all((each == expected).all() for each in numbers)
    assert expected.max() < 16


@pytest.mark.parametrize(("name", "pieces"), [("rows", 1), ("pieces", 2)])
def test_a_part_is_stored_fenced_and_sent_between_the_barriers(name: str, pieces: int) -> None:
    ptx = compiled(name).asm["ptx"]
    order = re.findall(
        rf"bulk\.wait_group\.read|bar\.sync\s+%r|stmatrix|fence\.proxy\.async|{_SEND}"
        r"|bulk\.commit_group|bulk\.wait_group\s",
        ptx[ptx.index("setmaxnreg.inc") :],
    )
    kinds = [key.strip() for key, _ in itertools.groupby(re.sub(r"\s+%r", "", o) for o in order)]
    each = [
        "bulk.wait_group.read", "bar.sync", "stmatrix", "fence.proxy.async", "bar.sync",
        "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group", "bulk.commit_group",
    ]  # fmt: skip
    assert kinds == [*each * pieces, "bulk.wait_group"]
    # Of one buffer, the last copy has to have read it.
    assert set(re.findall(r"bulk\.wait_group\.read\s+(\d+)", ptx)) == {"0"}


def test_a_piece_waits_for_the_one_before_it() -> None:
    """Of two results that leave in pieces, through two buffers: the first piece may let the other
    buffer's last copy go on, the others have to wait for the copy from their own.
    """
    sizes = {"M": 128, "N": 256, "K": 128}
    made = twice.compile(kernels.PRODUCT, sizes, "sm_90a", num_warps=8, num_stages=2)
    sends = [op for op in parse(made.asm["shared"]).walk() if isinstance(op, TmaSend)]
    assert [op.groups for op in sends] == [1, 1]
    assert [op.pieces for op in sends] == [(1, 4), (1, 4)]
    waits = re.findall(r"bulk\.wait_group\.read\s+(\d+)", made.asm["ptx"])
    assert waits == ["1", "0", "0", "0"] * 2


@pytest.mark.parametrize("name", ["rows", "pieces", "pieces of four"])
def test_every_sum_is_stored_once_and_with_its_piece(name: str) -> None:
    made = compiled(name)
    ptx = made.asm["ptx"]
    (send,) = (op for op in parse(made.asm["shared"]).walk() if isinstance(op, TmaSend))
    cut = pieces(send.value.type.layout, *send.pieces)
    assert cut is not None
    sums = next(re.finditer(r"wgmma\.mma_async[^{]*\{([^}]*)\}", ptx))[1].split(", ")
    number = {register: i for i, register in enumerate(sums)}
    words = {
        word: (number[low], number[high])
        for word, high, low in re.findall(r"cvt\.rn\.f16x2\.f32\s+(%\w+), (%\w+), (%\w+);", ptx)
    }
    parts = re.split(r"bulk\.wait_group\.read", ptx)[1:]
    assert len(parts) == len(cut.registers)
    for part, registers in zip(parts, cut.registers, strict=True):
        lists = re.findall(r"stmatrix[^{]*\{([^}]*)\}", part)
        stored = [words[word] for each in lists for word in each.split(", ")]
        assert sorted(sum(stored, ())) == sorted(registers)


# ---------------------------------------------------------------- what is sent


@pytest.mark.parametrize("name", CASES)
def test_each_warpgroup_sends_what_it_holds(name: str) -> None:
    made = compiled(name)
    (send,) = (op for op in parse(made.asm["shared"]).walk() if isinstance(op, TmaSend))
    block, buffer = send.value.type, send.buffer.type
    assert isinstance(block, BlockType)
    assert isinstance(buffer, SharedType)
    assert block.layout is not None
    steps = warpgroup_steps(block.layout)
    assert steps is not None
    box = send.map.owner.box
    size = buffer.element.bytes
    copies = re.findall(rf"{_SEND} \[%\w+, {{(.*?)}}\], \[(.*?)\];", made.asm["ptx"])
    values = Values(made)
    sent: dict[tuple[int, ...], int] = {}
    axis, pieces = send.pieces
    assert pieces == (2 if name.startswith("pieces") else 1)
    for group in range(CASES[name][2] // 4):
        thread = group * _GROUP
        for number, (coordinates, address) in enumerate(copies):
            numbers = [values.number(each)[thread] for each in coordinates.split(", ")]
            place = tuple(int(n) for n in reversed(numbers))
            within = list(place)
            within[axis] -= number * pieces // len(copies) * buffer.shape[axis]
            offset = int(values.number(address)[thread]) - send.buffer.owner.offset
            assert buffer.layout.apply(offset=offset // size) == tuple(within)
            for further in itertools.product(*map(range, box)):
                element = tuple(a + b for a, b in zip(place, further, strict=True))
                holder = sum(bool(element[a] & s) << bit for bit, (a, s) in enumerate(steps))
                assert holder == group
                assert element not in sent
                sent[element] = group
    assert len(sent) == block.size


# ---------------------------------------------------------------- descriptors in clusters


def descriptors(ptx: str) -> set[str]:
    """The registers from which the descriptors of products are made."""
    found = re.findall(r"add\.s64 d\d+, (%\w+), -?\d+;", ptx)
    assert found
    return set(found)


@pytest.mark.parametrize("name", CLUSTERS)
def test_descriptors_do_not_say_whose_memory_it_is(name: str) -> None:
    made = compiled(name)
    # Where a block of threads sees its own shared memory, by its rank in the cluster.
    first, last = (Values(made, rank << 24 | 0x400) for rank in (0, CASES[name][3] - 1))
    assert (first.number("shared_memory") != last.number("shared_memory")).all()
    for register in descriptors(made.asm["ptx"]):
        one, other = first.of(register), last.of(register)
        assert (one == other).all()
        assert (one & np.uint64(0x3FFF)).any()


@pytest.mark.parametrize("name", ["rows", "columns"])
def test_other_descriptors_are_as_they_were(name: str) -> None:
    """Outside of clusters there is nothing to leave out."""
    made = compiled(name)
    here = Values(made, 0x400)
    for register in descriptors(made.asm["ptx"]):
        assert (here.of(register) & np.uint64(0x3FFF)).any()
    assert "16383" not in made.asm["ptx"]
