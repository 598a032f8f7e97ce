"""Executes the PTX of a kernel on NumPy arrays: an oracle for code generation without a GPU.

Accesses to shared memory by different threads without a barrier between them, one of which writes,
are errors too, as is whatever touches the target of a copy before it has been waited for.

All threads of a program go from instruction to instruction together, each register an array with an
entry a thread. So barriers are idle, and branches must go the same way for all threads, which the
kernels of these tests keep to. What is asynchronous happens as late as it may: copies to shared
memory land at the wait for their group, and products of warpgroups (`ptx_warpgroups`) are done at
that for theirs. Shared memory starts as 0xff, and accesses outside the arrays are errors. It knows
the instructions that the tests need, and raises KeyError for others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

Array = Any  # a NumPy array

FLOATS: dict[str, Any] = {
    "f64": np.float64, "f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16,
    "tf32": np.float32, "e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip
KINDS = {
    **FLOATS,
    **{f"{p}{8 * n}": np.dtype(f"{t}{n}") for n in (1, 2, 4, 8) for p, t in ("bu", "uu", "si")},
}  # fmt: skip
START = 1 << 16
"""The address of the first array."""
WORD = r"[\w.%$]+"


class Machine:
    """One kernel with its arguments (arrays, which it changes, and numbers)."""

    def __init__(self, ptx: str, arguments: Sequence[Any], threads: int, shared: int) -> None:
        self.threads = threads
        self.shared_bytes = shared
        self.arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        self.memory, self.places = _lay_out(self.arrays)
        places = iter(self.places)
        self.parameters = [next(places) if isinstance(a, np.ndarray) else a for a in arguments]
        self.code, self.labels = _parse(ptx)

    def run(self, grid: Sequence[int]) -> None:
        """Execute all programs of a grid, one after the other, and update the arrays."""
        sizes = (*grid, 1, 1)[:3]
        for program in np.ndindex(*sizes[::-1]):
            self._program(program[::-1], sizes)
        for array, place in zip(self.arrays, self.places, strict=True):
            raw = self.memory[place - START : place - START + array.nbytes]
            array[...] = raw.view(array.dtype).reshape(array.shape)

    def _program(self, program: Sequence[int], grid: Sequence[int]) -> None:
        thread = np.arange(self.threads, dtype=np.uint64)
        self.registers: dict[str, Array] = {"%tid.x": thread, "shared_memory": thread * 0}
        for axis, name in enumerate("xyz"):
            self.registers[f"%ctaid.{name}"] = thread * 0 + program[axis]
            self.registers[f"%nctaid.{name}"] = thread * 0 + grid[axis]
        self.shared = np.full(self.shared_bytes, 0xFF, np.uint8)
        self.order = Order(self.shared_bytes)
        self.copies: list[list[tuple[Array, Array, Array]]] = [[]]
        self.products: list[list[Product]] = [[]]
        self.results_under_way: set[str] = set()
        position = 0
        while position < len(self.code):
            guard, opcode, operands = self.code[position]
            position += 1
            mask = self._guard(guard)
            if opcode in ("bra", "bra.uni"):
                assert mask.all() or not mask.any(), "a branch divides the threads"
                position = self.labels[operands[0]] if mask.all() else position
            elif opcode == "ret":
                return
            else:
                HANDLERS[opcode.split(".")[0]](self, opcode, operands, mask)

    # ------------------------------------------------------------ operands

    def _guard(self, guard: str) -> Array:
        if not guard:
            return np.ones(self.threads, bool)
        value = self.registers[guard.lstrip("!")]
        return ~value if guard[0] == "!" else value

    def read(self, operand: str, kind: str) -> Array:
        """The value of an operand in every thread."""
        if kind.endswith("x2"):
            element = np.dtype(KINDS[kind[:-2]])
            packed = self.read(operand, f"u{16 * element.itemsize}")
            return packed.view(element).reshape(self.threads, 2)
        dtype = np.dtype(KINDS[kind])
        assert operand not in self.results_under_way, f"{operand} is read before it is there"
        if operand in self.registers:
            bits = self.registers[operand]
            if bits.dtype == bool:
                return bits
        elif operand[:2] in ("0f", "0d"):
            bits = np.full(self.threads, int(operand[2:], 16), np.uint64)
        elif operand[:2] == "0x" or operand.lstrip("-").isdigit():
            bits = np.full(self.threads, int(operand, 0) & ((1 << 64) - 1), np.uint64)
        elif operand[0] == "%":
            # LLVM leaves out what sets the parts of a register that nobody looks at.
            bits = np.full(self.threads, (1 << 64) - 1, np.uint64)
        else:
            raise KeyError(f"{operand} has no value")
        size = dtype.itemsize
        return bits.view(np.uint8).reshape(-1, 8)[:, :size].copy().view(dtype)[:, 0]

    def write(self, operand: str, value: Array, mask: Array) -> None:
        """Set a register where `mask` holds."""
        if operand == "_":
            return
        assert operand not in self.results_under_way, f"{operand} is written by a product"
        if value.dtype == bool:
            new = value
        else:
            raw = np.zeros((self.threads, 8), np.uint8)
            bytes = np.ascontiguousarray(value).view(np.uint8).reshape(self.threads, -1)
            raw[:, : bytes.shape[1]] = bytes
            new = raw.view(np.uint64)[:, 0]
        old = self.registers.get(operand, np.zeros_like(new))
        self.registers[operand] = np.where(mask, new, old)

    def address(self, operand: str) -> Array:
        """The address that `[base+offset]` names, in every thread."""
        found = re.fullmatch(rf"\[({WORD})(?:\+(-?\d+))?\]", operand)
        assert found, operand
        base, offset = found.groups()
        kind = "u64" if base.startswith("%rd") else "u32"
        return self.read(base, kind).astype(np.int64) + int(offset or 0)

    def bytes_at(self, space: str, address: Array, size: int, mask: Array) -> tuple[Array, Array]:
        """The memory of a space, and the index of each byte of an access of `size` bytes."""
        memory = self.memory if space == "global" else self.shared
        start = address - (START if space == "global" else 0)
        assert (address[mask] % size == 0).all(), f"unaligned access to {space} memory"
        inside = (start >= 0) & (start + size <= len(memory))
        assert inside[mask].all(), f"access outside {space} memory"
        return memory, np.where(mask, start, 0)[:, None] + np.arange(size)


class Order:
    """Who has touched each byte of shared memory since the last barrier: a thread, NOBODY or
    SEVERAL; which bytes copies are under way to, and how many products read each. `hidden` says how
    far a byte is from being visible to warpgroups: 2 steps, a fence and a barrier, when written.
    """

    NOBODY, SEVERAL = -1, -2

    def __init__(self, size: int) -> None:
        self.writers = np.full(size, self.NOBODY)
        self.readers = np.full(size, self.NOBODY)
        self.pending = np.zeros(size, bool)
        self.products = np.zeros(size, int)
        self.hidden = np.zeros(size, int)

    def fence(self) -> None:
        """What has been written is visible to warpgroups after the next barrier."""
        self.hidden[(self.hidden == 2) & ~self.pending] = 1

    def start_product(self, at: Array) -> None:
        """A product begins to read these bytes."""
        assert not self.pending[at].any(), "a product reads while a copy is under way"
        assert not self.hidden[at].any(), "a product reads what is not fenced, or no barrier behind"
        self.products[at] += 1

    def finish_product(self, at: Array) -> None:
        """A product has read these bytes, which only those know who waited for it."""
        self.products[at] -= 1
        self.readers[at] = self.SEVERAL

    def barrier(self) -> None:
        """All accesses before are in order with all accesses after."""
        self.writers[:] = self.NOBODY
        self.readers[:] = self.NOBODY
        self.hidden[self.hidden == 1] = 0

    def read(self, at: Array, threads: Array) -> None:
        """Each of `threads` reads the bytes in its row of `at`."""
        self._check(self.writers, at, threads, "read after write")
        mine = np.broadcast_to(threads[:, None], at.shape)
        before = self.readers[at]
        # Rows may name the same byte: whoever comes last, several have read it.
        self.readers[at] = mine
        several = (before != self.NOBODY) & (before != mine) | (self.readers[at] != mine)
        self.readers[at[several]] = self.SEVERAL

    def write(self, at: Array, threads: Array) -> None:
        """Each of `threads` writes the bytes in its row of `at`."""
        self._check(self.writers, at, threads, "write after write")
        self._check(self.readers, at, threads, "write after read")
        assert not self.products[at].any(), "write while a product reads"
        self.hidden[at] = 2
        self.writers[at] = threads[:, None]

    def _check(self, others: Array, at: Array, threads: Array, what: str) -> None:
        assert not self.pending[at].any(), f"{what} while a copy is under way"
        found = others[at]
        same = (found == self.NOBODY) | (found == threads[:, None])
        assert same.all(), f"{what} without a barrier between, by other threads"


def _lay_out(arrays: Sequence[Array]) -> tuple[Array, list[int]]:
    """Memory with the arrays one behind the other, and their addresses."""
    places, end = [], START
    for array in arrays:
        places.append(end)
        end += -(-array.nbytes // 256) * 256 + 256
    memory = np.zeros(end - START, np.uint8)
    for array, place in zip(arrays, places, strict=True):
        raw = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        memory[place - START : place - START + array.nbytes] = raw
    return memory, places


def _parse(ptx: str) -> tuple[list[tuple[str, str, list[str]]], dict[str, int]]:
    """The instructions (guard, opcode, operands) of the kernel, and where labels stand."""
    body = re.search(r"\.entry.*?\)[^{]*\{(.*)\}", ptx, re.DOTALL)
    assert body
    text = re.sub(r"//.*|^\s*\.(loc|file|pragma|reg|local)\b.*$", "", body[1], flags=re.MULTILINE)
    code: list[tuple[str, str, list[str]]] = []
    labels: dict[str, int] = {}
    for part in text.split(";"):
        part = part.strip()
        part = part.lstrip("{} \t\n")
        while label := re.match(r"(\$?\w+):\s*", part):
            labels[label[1]] = len(code)
            part = part[label.end() :]
        found = re.fullmatch(r"(?:@(!?%\w+)\s+)?([\w.:]+)\s*(.*)", part, re.DOTALL)
        if found:
            operands = re.findall(
                r"\{[^}]*\}|\[[^]]*\]|[^\s,]+", re.sub(r"(0x[0-9A-Fa-f]+)U", r"\1", found[3])
            )
            code.append((found[1] or "", found[2], operands))
    return code, labels


def members(operand: str) -> list[str]:
    """The registers of `{a, b}`, or the only one."""
    return re.findall(r"[\w.%-]+", operand)


class Product(NamedTuple):
    """A product of a warpgroup under way: what it does when it is done, the bytes that it reads,
    and the registers of its result.
    """

    finish: Callable[[], None]
    reads: list[Array]
    results: list[str]


Handler = Callable[[Machine, str, list[str], Array], None]
HANDLERS: dict[str, Handler] = {}


def handles(*opcodes: str) -> Callable[[Handler], Handler]:
    """Enter the function that executes instructions whose name begins with one of these."""

    def enter(function: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(opcodes, function))
        return function

    return enter


# ---------------------------------------------------------------- arithmetic

ARITHMETIC: dict[str, Callable[..., Array]] = {
    "add": np.add, "sub": np.subtract, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor, "min": np.fmin, "max": np.fmax, "neg": np.negative,
    "not": np.invert, "abs": np.abs, "ex2": np.exp2, "lg2": np.log2, "div": np.divide,
    "rcp": np.reciprocal, "rem": np.fmod,
}  # fmt: skip
COMPARISONS = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip


@handles(*ARITHMETIC)
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    name, kind = opcode.split(".")[0], opcode.split(".")[-1]
    if kind == "pred":
        values = [m.registers[o] for o in operands[1:]]
        m.write(operands[0], {"not": np.logical_not}.get(name, ARITHMETIC[name])(*values), mask)
        return
    values = [m.read(o, kind) for o in operands[1:]]
    if name == "rem":
        values[1] = np.where(values[1] == 0, 1, values[1]).astype(values[0].dtype)
    if name == "div" and kind[0] != "f":
        # Towards zero; threads that do not count may divide by anything.
        quotient = values[0].astype(np.float64) / np.where(values[1] == 0, 1, values[1])
        m.write(operands[0], np.trunc(quotient).astype(values[0].dtype), mask)
        return
    m.write(operands[0], ARITHMETIC[name](*values), mask)


@handles("mul", "mad", "fma")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    parts = opcode.split(".")
    kind = parts[-1]
    x, y = (m.read(o, kind) for o in operands[1:3])
    wide = KINDS[kind[0] + str(2 * int(kind[1:]))] if "wide" in parts else x.dtype
    if parts[0] == "fma" and kind != "f64":
        exact = x.astype(np.float64) * y.astype(np.float64) + m.read(operands[3], kind)
        m.write(operands[0], exact.astype(x.dtype), mask)
        return
    product = x.astype(wide) * y.astype(wide)
    if len(operands) == 4:
        product += m.read(operands[3], kind)
    m.write(operands[0], product, mask)


@handles("bfe")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    value = m.read(operands[1], opcode.split(".")[-1])
    start, length = int(operands[2]), int(operands[3])
    bits = value.dtype.itemsize * 8
    m.write(operands[0], value << (bits - start - length) >> (bits - length), mask)


@handles("bfi")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    kind = opcode.split(".")[-1].replace("b", "u")
    piece, base = m.read(operands[1], kind), m.read(operands[2], kind)
    field = piece.dtype.type((1 << int(operands[4])) - 1) << piece.dtype.type(int(operands[3]))
    m.write(operands[0], base & ~field | piece << piece.dtype.type(int(operands[3])) & field, mask)


@handles("shl", "shr")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    name, kind = opcode.split(".")
    value, distance = m.read(operands[1], kind), m.read(operands[2], "u32").astype(np.int64)
    shift = np.left_shift if name == "shl" else np.right_shift
    m.write(operands[0], shift(value, distance.astype(value.dtype)), mask)


@handles("setp")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    _, comparison, *_, kind = opcode.split(".")
    with np.errstate(invalid="ignore"):
        m.write(
            operands[0], COMPARISONS[comparison](*(m.read(o, kind) for o in operands[1:])), mask
        )


@handles("selp")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    x, y = (m.read(o, opcode.split(".")[-1]) for o in operands[1:3])
    m.write(operands[0], np.where(m.registers[operands[3]], x, y), mask)


@handles("prmt")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    both = m.read(operands[1], "u32").astype(np.uint64)
    both |= m.read(operands[2], "u32").astype(np.uint64) << np.uint64(32)
    choice = m.read(operands[3], "u32")
    result = np.zeros(m.threads, np.uint32)
    for place in range(4):
        which = (choice >> np.uint32(4 * place)) & 15
        byte = (both >> ((which & 7) * 8).astype(np.uint64)).astype(np.uint32) & 255
        sign = np.where(byte & 128, np.uint32(255), np.uint32(0))
        result |= np.where(which & 8, sign, byte).astype(np.uint32) << np.uint32(8 * place)
    m.write(operands[0], result, mask)


@handles("mov")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    kind = opcode.split(".")[-1]
    if kind == "pred":
        known = {"-1": np.ones(m.threads, bool), "0": np.zeros(m.threads, bool), **m.registers}
        m.write(operands[0], known[operands[1]], mask)
        return
    targets, sources = members(operands[0]), members(operands[1])
    bits = int(kind[1:])
    total = np.zeros(m.threads, np.uint64)
    each = bits // len(sources)
    for place, source in enumerate(sources):
        total |= m.read(source, f"u{each}").astype(np.uint64) << np.uint64(each * place)
    each = bits // len(targets)
    for place, target in enumerate(targets):
        m.write(target, (total >> np.uint64(each * place)).astype(KINDS[f"u{each}"]), mask)


@handles("cvt")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    *_, target, source = opcode.split(".")
    if target == "tf32":
        m.write(operands[0], round_tf32(m.read(operands[1], "f32")), mask)
        return
    values = [m.read(o, source) for o in operands[1:]]
    with np.errstate(over="ignore", invalid="ignore"):
        if target.endswith("x2"):
            high, low = (v.astype(KINDS[target[:-2]]).view(np.uint16) for v in values)
            m.write(operands[0], high.astype(np.uint32) << np.uint32(16) | low, mask)
        else:
            value = values[0].astype(KINDS[target])
            # A register that is wider than the type has its sign.
            m.write(operands[0], value.astype(np.int64) if target[0] == "s" else value, mask)


def round_tf32(value: Array) -> Array:
    """To 10 bits of mantissa, ties away from zero."""
    bits = value.view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


# ---------------------------------------------------------------- memory


@handles("ld")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    parts = opcode.split(".")
    kind = parts[-1]
    if parts[1] == "param":
        index = int(re.search(r"param_(\d+)", operands[1])[1])  # type: ignore[index]
        value = m.parameters[index]
        single = isinstance(value, float)
        bits = np.full(m.threads, value, np.float32 if single else np.int64)
        m.write(operands[0], bits, mask)
        return
    targets = members(operands[0])
    size = np.dtype(KINDS[kind]).itemsize
    space = "shared" if "shared" in parts else "global"
    memory, at = m.bytes_at(space, m.address(operands[1]), size * len(targets), mask)
    if space == "shared":
        m.order.read(at[mask], np.arange(m.threads)[mask])
    raw = memory[at]
    for place, target in enumerate(targets):
        piece = np.ascontiguousarray(raw[:, place * size : (place + 1) * size])
        value = piece.view(KINDS[kind])[:, 0]
        m.write(target, value.astype(np.int64) if kind[0] == "s" else value, mask)


@handles("st")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    parts = opcode.split(".")
    kind = parts[-1]
    sources = members(operands[1])
    size = np.dtype(KINDS[kind]).itemsize
    space = "shared" if "shared" in parts else "global"
    memory, at = m.bytes_at(space, m.address(operands[0]), size * len(sources), mask)
    words = [m.read(s, kind).view(np.uint8).reshape(m.threads, size) for s in sources]
    if space == "shared":
        m.order.write(at[mask], np.arange(m.threads)[mask])
    memory[at[mask]] = np.concatenate(words, axis=1)[mask]


@handles("bar", "barrier")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    assert mask.all()
    m.order.barrier()


@handles("shfl")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    form = opcode.split(".")[2]
    distance = m.read(operands[2], "u32").astype(np.int64)
    thread = np.arange(m.threads)
    lane = {"bfly": thread % 32 ^ distance, "idx": distance}[form]
    m.write(
        operands[0].partition("|")[0], m.read(operands[1], "u32")[thread // 32 * 32 + lane], mask
    )


@handles("cp")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    if "commit_group" in opcode:
        m.copies.append([])
    elif "wait_group" in opcode:
        # The last entry is the group that is still open.
        closed = len(m.copies) - 1 - int(operands[0])
        for group in m.copies[: max(closed, 0)]:
            for at, threads, data in group:
                m.shared[at] = data
                m.order.pending[at] = False
                m.order.write(at, threads)
        m.copies = m.copies[max(closed, 0) :]
    else:
        size = int(operands[2])
        count = m.read(operands[3], "u32") if len(operands) > 3 else np.full(m.threads, size)
        memory, source = m.bytes_at("global", m.address(operands[1]), size, mask & (count > 0))
        _, target = m.bytes_at("shared", m.address(operands[0]), size, mask)
        data = np.where(np.arange(size) < count[:, None], memory[source], 0)
        threads = np.arange(m.threads)[mask]
        m.order.write(target[mask], threads)
        m.order.pending[target[mask]] = True
        m.copies[-1].append((target[mask], threads, data[mask]))


@handles("ldmatrix", "stmatrix")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    loads = opcode.startswith("ld")
    pointer, words = operands[::-1] if loads else operands
    registers = members(words)
    rows, at = m.bytes_at("shared", m.address(pointer), 16, mask)
    named = (np.arange(m.threads) % 32 < 8 * len(registers)).nonzero()[0]
    (m.order.read if loads else m.order.write)(at[named], named)
    at = at.reshape(-1, 32, 16)
    for matrix, register in enumerate(registers):
        places = at[:, 8 * matrix : 8 * matrix + 8].reshape(len(at), 8, 8, 2)
        if "trans" in opcode:
            places = places.swapaxes(1, 2)
        places = places.reshape(m.threads, 4)
        if loads:
            m.write(register, np.ascontiguousarray(rows[places]).view(np.uint32)[:, 0], mask)
        else:
            rows[places] = m.read(register, "u32").view(np.uint8).reshape(m.threads, 4)


# ---------------------------------------------------------------- products


@handles("mma")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    *_, shape, _, _, d, a, b, _ = opcode.split(".")
    rows, columns, depth = (int(n) for n in re.findall(r"\d+", shape))
    g, t = np.arange(32) // 4, np.arange(32) % 4
    packed = max(1, 4 // np.dtype(KINDS[a]).itemsize)

    def fragment(operand: str, kind: str) -> Array:
        """(warps, 32 lanes, elements)"""
        words = [m.read(r, "u64" if kind == "f64" else "u32") for r in members(operand)]
        raw = np.stack(words, axis=1)
        return raw.view(KINDS[kind]).reshape(m.threads // 32, 32, -1)

    def place(i: Array, per_word: int, inner: bool) -> tuple[Array, Array]:
        """Row and column of element i of a row-major fragment, `inner` its K axis."""
        word, within = i // per_word, i % per_word
        if not inner:
            return g[:, None] + 8 * (i // 2), 2 * t[:, None] + i % 2
        row_blocks = rows // 8
        return (
            g[:, None] + 8 * (word % row_blocks),
            per_word * t[:, None] + within + 4 * per_word * (word // row_blocks),
        )

    x, y = fragment(operands[1], a), fragment(operands[2], b)
    wide = np.int64 if a in ("s8", "u8") else np.float64
    left = np.zeros((len(x), rows, depth), wide)
    left[(slice(None), *place(np.arange(x.shape[2]), packed, True))] = x.astype(wide)
    right = np.zeros((len(x), depth, columns), wide)
    i = np.arange(y.shape[2])
    k = packed * t[:, None] + i % packed + 4 * packed * (i // packed)
    right[:, k, g[:, None] + 0 * i] = y.astype(wide)
    total = fragment(operands[3], d)
    at = place(np.arange(total.shape[2]), 1, False)
    with np.errstate(invalid="ignore", over="ignore"):
        result = (left @ right)[(slice(None), *at)] + total.astype(wide)
        result = result.astype(KINDS[d]).reshape(m.threads, -1)
    words = np.ascontiguousarray(result).view(np.uint64 if d == "f64" else np.uint32)
    for index, register in enumerate(members(operands[0])):
        m.write(register, words[:, index], mask)
