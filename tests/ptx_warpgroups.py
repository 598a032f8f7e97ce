"""What the machine that executes PTX knows of warpgroups: products that read their factors from
shared memory, or the left one from registers, and are done when they are waited for.

Until then nobody may write what a product reads, nor touch the registers of its result; and what it
reads must have been made visible: written, fenced, and behind a barrier. Sums are in 32 bits.
"""

from __future__ import annotations

import re
from functools import partial

import numpy as np

from tests.ptx_machine import KINDS, Array, Machine, Product, handles, members

__all__ = ["Machine"]

_GROUP = 128
_SWIZZLES = {1: 128, 2: 64, 3: 32}


@handles("fence")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    assert opcode.startswith("fence.proxy.async"), opcode
    m.order.fence()


@handles("wgmma")
def _(m: Machine, opcode: str, operands: list[str], mask: Array) -> None:
    if "commit_group" in opcode:
        m.products.append([])
    elif "wait_group" in opcode:
        # The last entry is the group that is still open.
        closed = max(len(m.products) - 1 - int(operands[0]), 0)
        done, m.products = m.products[:closed], m.products[closed:]
        for product in (product for group in done for product in group):
            m.results_under_way -= set(product.results)
            product.finish()
            for at in product.reads:
                m.order.finish_product(at)
        m.results_under_way = {r for group in m.products for each in group for r in each.results}
    elif "mma_async" in opcode:
        assert mask.all()
        product = _product(m, opcode, operands)
        for at in product.reads:
            m.order.start_product(at)
        m.products[-1].append(product)
        m.results_under_way |= set(product.results)
    else:
        assert opcode.startswith("wgmma.fence"), opcode


def _product(m: Machine, opcode: str, operands: list[str]) -> Product:
    *_, shape, result, a, b = opcode.split(".")
    _, columns, depth = (int(n) for n in re.findall(r"\d+", shape))
    assert result in ("f32", "s32"), opcode
    # Behind the factors come a predicate, the signs of floats, and what is transposed.
    sizes = [np.dtype(KINDS[kind]).itemsize for kind in (a, b)]
    transposed = [int(each) for each in operands[4:]][2:] if a not in ("s8", "u8") else []
    in_registers = operands[1].startswith("{")
    majors = [*([0] if in_registers else []), *transposed, 0, 0][:2]
    right = _tile(m, operands[2], columns, depth, sizes[1], majors[1])
    if in_registers:
        left, reads = _fragment(m, operands[1], a), [right]
    else:
        left = _tile(m, operands[1], 64, depth, sizes[0], majors[0])
        reads = [left, right]
    accumulate = m.registers[operands[3]].copy()
    results = members(operands[0])
    parts = (m, left, right, in_registers, (result, a, b), accumulate, results)
    return Product(partial(_finish, *parts), reads, results)


def _finish(
    m: Machine, left: Array, right: Array, in_registers: bool, kinds: tuple[str, str, str],
    accumulate: Array, results: list[str],
) -> None:  # fmt: skip
    result, a, b = kinds
    wide = np.int64 if result == "s32" else np.float64
    x = left if in_registers else _values(m, left, a)
    y = _values(m, right, b)
    total = x.astype(wide) @ y.astype(wide).swapaxes(1, 2)
    lane = np.arange(m.threads)
    group, warp, lane = lane // _GROUP, lane % _GROUP // 32, lane % 32
    for i, register in enumerate(results):
        row = 16 * warp + lane // 4 + 8 * (i >> 1 & 1)
        column = 8 * (i >> 2) + 2 * (lane % 4) + (i & 1)
        before = np.where(accumulate, m.read(register, result), 0).astype(wide)
        value = (before + total[group, row, column]).astype(KINDS[result])
        m.write(register, value, np.ones(m.threads, bool))


def _values(m: Machine, at: Array, kind: str) -> Array:
    """The elements whose bytes are `at`; of float32 only what tf32 has."""
    raw = m.shared[at]
    if kind == "tf32":
        return (raw.view(np.uint32)[..., 0] & np.uint32(0xFFFFE000)).view(np.float32)
    return raw.view(KINDS[kind])[..., 0]


def _tile(
    m: Machine, operand: str, outer: int, depth: int, size: int, is_outer_major: int
) -> Array:
    """The bytes of each element of a factor in shared memory, for each warpgroup: (groups, rows or
    columns, depth, size).
    """
    words = m.read(operand, "u64").astype(object).reshape(-1, _GROUP)
    assert all(len(set(group)) == 1 for group in words), "a descriptor differs in a warpgroup"
    found = []
    for word in words[:, 0]:
        start = (word & 0x3FFF) << 4
        leading, stride = (word >> 16 & 0x3FFF) << 4, (word >> 32 & 0x3FFF) << 4
        assert word >> 49 & 7 == 0, "the tile does not begin where the pattern does"
        swizzle = _SWIZZLES[word >> 62]
        o, k = np.arange(outer)[:, None], np.arange(depth)[None, :]
        if is_outer_major:
            line = swizzle // size
            at = o // line * leading + o % line * size + k // 8 * stride + k % 8 * swizzle
        else:
            at = o // 8 * stride + o % 8 * swizzle + k * size
        at = start + at
        # Pieces of 16 bytes are exchanged as the number of the line says.
        at = at ^ (at >> 7 & swizzle // 16 - 1) << 4
        found.append(at[..., None] + np.arange(size))
    return np.stack(found)


def _fragment(m: Machine, operand: str, kind: str) -> Array:
    """The left factor in registers, as values: (groups, 64, depth)."""
    words = np.stack([m.read(r, "u32") for r in members(operand)], axis=1)
    values = words.view(KINDS[kind]).reshape(m.threads, 4, -1)
    packed = values.shape[2]
    thread = np.arange(m.threads)
    group, warp, lane = thread // _GROUP, thread % _GROUP // 32, thread % 32
    found = np.zeros((m.threads // _GROUP, 64, 8 * packed), values.dtype)
    for word in range(4):
        for within in range(packed):
            row = 16 * warp + lane // 4 + 8 * (word & 1)
            column = packed * (lane % 4) + within + 4 * packed * (word >> 1)
            found[group, row, column] = values[:, word, within]
    return found
