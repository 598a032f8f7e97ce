"""LayerNorm of each row of a matrix, forward and backward.

    y = (x - mean) * rstd * w + b,   rstd = 1 / sqrt(variance + eps),   mean and variance over the
    row

`layernorm` is the plain kernel: one program a row, the whole row in one block; the variance is
taken of the centred values, not as a difference of large numbers. `layernorm_short`,
`layernorm_unaligned` and `layernorm_long` cut the work differently for matrices that need it, as
in `softmax.py`; `layernorm_resident` is for many rows of changing alignment, and `launch` chooses.
`layernorm_backward` gives dx, and adds each row's share of dw and db by atomics.

Run it: `python examples/layernorm.py [--rows 4096] [--columns 1000] [--dtype float32] [--device
cpu|gpu]`.
"""

from __future__ import annotations

import sys

import numpy as np

import blocklang
import blocklang.language as bl

if __package__:
    from examples.resident import multiprocessors, pieces, resident_programs
else:
    from resident import multiprocessors, pieces, resident_programs

EPSILON = 1e-5
# How many elements of a row a thread of `layernorm_resident` can keep, with their weights.
MOST = 26


@blocklang.jit
def layernorm(x, y, w, b, mean_out, rstd_out, row_stride, n, eps, BLOCK: bl.constexpr):
    """One program a row; BLOCK is a power of two, at least n."""
    row = bl.program_id(0).to(bl.int64)
    cols = bl.arange(0, BLOCK)
    mask = cols < n
    v = bl.load(x + row * row_stride + cols, mask=mask, other=0.0).to(bl.float32)
    mean = bl.sum(v, axis=0) / n
    centred = bl.where(mask, v - mean, 0.0)
    rstd = 1 / bl.sqrt(bl.sum(centred * centred, axis=0) / n + eps)
    bl.store(mean_out + row, mean)
    bl.store(rstd_out + row, rstd)
    g = bl.load(w + cols, mask=mask, other=0.0).to(bl.float32)
    h = bl.load(b + cols, mask=mask, other=0.0).to(bl.float32)
    bl.store(y + row * row_stride + cols, centred * rstd * g + h, mask=mask)


@blocklang.jit
def layernorm_short(
    x,
    y,
    w,
    b,
    mean_out,
    rstd_out,
    row_stride,
    rows,
    n,
    eps,
    ROWS: bl.constexpr,
    BLOCK: bl.constexpr,
):
    """ROWS rows a program, for rows so short that a program with one would have little to do."""
    row = bl.program_id(0).to(bl.int64) * ROWS + bl.arange(0, ROWS)
    cols = bl.arange(0, BLOCK)
    offsets = row[:, None] * row_stride + cols[None, :]
    inside = cols < n
    mask = (row[:, None] < rows) & inside[None, :]
    v = bl.load(x + offsets, mask=mask, other=0.0).to(bl.float32)
    mean = bl.sum(v, axis=1) / n
    centred = bl.where(mask, v - mean[:, None], 0.0)
    rstd = 1 / bl.sqrt(bl.sum(centred * centred, axis=1) / n + eps)
    bl.store(mean_out + row, mean, mask=row < rows)
    bl.store(rstd_out + row, rstd, mask=row < rows)
    g = bl.load(w + cols, mask=inside, other=0.0).to(bl.float32)[None, :]
    h = bl.load(b + cols, mask=inside, other=0.0).to(bl.float32)[None, :]
    bl.store(y + offsets, centred * rstd[:, None] * g + h, mask=mask)


@blocklang.jit
def layernorm_unaligned(
    x, y, w, b, mean_out, rstd_out, row_stride, n, eps, BLOCK: bl.constexpr, PIECE: bl.constexpr
):
    """One program a row, whatever the row's alignment; x and y themselves are 16-byte aligned.

    PIECE elements are 16 bytes. The row is read as the aligned pieces that cover it; pieces that
    lie wholly inside are written as such, and the first and the last PIECE elements of the row
    once more, one by one. BLOCK is at least n + PIECE.
    """
    row = bl.program_id(0).to(bl.int64)
    start = row * row_stride
    shift = (start % PIECE).to(bl.int32)
    aligned = bl.multiple_of(start - shift, PIECE)
    index = bl.arange(0, BLOCK)
    piece = index // PIECE * PIECE
    valid = (index >= shift) & (index < shift + n)
    v = bl.load(x + aligned + index, mask=piece < shift + n, other=0.0).to(bl.float32)
    mean = bl.sum(bl.where(valid, v, 0.0), axis=0) / n
    centred = bl.where(valid, v - mean, 0.0)
    rstd = 1 / bl.sqrt(bl.sum(centred * centred, axis=0) / n + eps)
    bl.store(mean_out + row, mean)
    bl.store(rstd_out + row, rstd)
    g = bl.load(w + index - shift, mask=valid, other=0.0).to(bl.float32)
    h = bl.load(b + index - shift, mask=valid, other=0.0).to(bl.float32)
    inside = (piece >= shift) & (piece + PIECE <= shift + n)
    bl.store(y + aligned + index, centred * rstd * g + h, mask=inside)
    edge = bl.arange(0, PIECE)
    for first in bl.static_range(2):
        at = edge if first == 0 else n - 1 - edge
        u = bl.load(x + start + at, mask=edge < n, other=0.0).to(bl.float32)
        g = bl.load(w + at, mask=edge < n, other=0.0).to(bl.float32)
        h = bl.load(b + at, mask=edge < n, other=0.0).to(bl.float32)
        bl.store(y + start + at, (u - mean) * rstd * g + h, mask=edge < n)


@blocklang.jit
def layernorm_resident(
    x, y, w, b, mean_out, rstd_out, row_stride, rows, n, eps, PIECES: bl.constexpr
):
    """A few programs that stay, for rows whose alignment changes from row to row.

    Row r + ALIGN is aligned as row r is. Where the number of programs is a multiple of ALIGN, as it
    has to be, all rows of a program are therefore aligned alike, and are cut alike: COUNT blocks
    from the first multiple of ALIGN elements on, which are moved 16 bytes at a time and need no
    masks; and what is left at both ends, at most EDGE elements that are moved one by one. The
    weights are read once, in the same pieces, and stay in registers; the next row is on its way
    while this one is normalized. `pieces` in resident.py chooses the sizes.
    """
    ALIGN, BLOCK, COUNT, EDGE, THREADS = PIECES
    first = bl.program_id(0).to(bl.int64)
    if first >= rows:
        return
    start = first * row_stride
    lead = ((ALIGN - start % ALIGN) % ALIGN).to(bl.int32)
    begin = bl.multiple_of(start + lead, ALIGN)
    cols = bl.arange(0, BLOCK)
    g, h, following = (), (), ()
    for block in bl.static_range(COUNT):
        at = block * BLOCK + cols
        g += (bl.load(w + lead + at).to(bl.float32),)
        h += (bl.load(b + lead + at).to(bl.float32),)
        following += (bl.load(x + begin + at),)
    outer = bl.arange(0, EDGE)
    inside = outer < n - COUNT * BLOCK
    outer = bl.where(outer < lead, outer, outer + COUNT * BLOCK)
    edge_g = bl.load(w + outer, mask=inside, other=0.0).to(bl.float32)
    edge_h = bl.load(b + outer, mask=inside, other=0.0).to(bl.float32)
    edge_following = bl.load(x + start + outer, mask=inside, other=0.0)
    scale = 1.0 / n
    for row in range(first, rows, bl.num_programs(0)):
        u, v = edge_following.to(bl.float32), ()
        total = bl.zeros((BLOCK,), bl.float32)
        for block in bl.static_range(COUNT):
            v += (following[block].to(bl.float32),)
            total += v[block]
        # After its last row a program reads that one again, which it will not use.
        ahead = row + bl.num_programs(0)
        start = bl.where(ahead < rows, ahead, row) * row_stride
        begin = bl.multiple_of(start + lead, ALIGN)
        following = ()
        for block in bl.static_range(COUNT):
            following += (bl.load(x + begin + block * BLOCK + cols),)
        edge_following = bl.load(x + start + outer, mask=inside, other=0.0)
        # One sum a thread, of both kinds of elements, before threads meet.
        each = bl.sum(bl.reshape(u, (EDGE // THREADS, THREADS)), axis=0)
        each += bl.sum(bl.reshape(total, (THREADS, BLOCK // THREADS)), axis=1)
        mean = bl.sum(each, axis=0) * scale
        u = bl.where(inside, u - mean, 0.0)
        total = bl.zeros((BLOCK,), bl.float32)
        for block in bl.static_range(COUNT):
            total += (v[block] - mean) * (v[block] - mean)
        each = bl.sum(bl.reshape(u * u, (EDGE // THREADS, THREADS)), axis=0)
        each += bl.sum(bl.reshape(total, (THREADS, BLOCK // THREADS)), axis=1)
        rstd = bl.rsqrt(bl.sum(each, axis=0) * scale + eps)
        bl.store(mean_out + row, mean)
        bl.store(rstd_out + row, rstd)
        start = row * row_stride
        bl.store(y + start + outer, u * rstd * edge_g + edge_h, mask=inside)
        begin = bl.multiple_of(start + lead, ALIGN)
        for block in bl.static_range(COUNT):
            result = (v[block] - mean) * rstd * g[block] + h[block]
            bl.store(y + begin + block * BLOCK + cols, result)


@blocklang.jit
def layernorm_long(x, y, w, b, mean_out, rstd_out, row_stride, n, eps, BLOCK: bl.constexpr):
    """One program a row of any length, in steps of BLOCK.

    The first walk sums the row and the squares around its first element, so that a large mean does
    no harm.
    """
    row = bl.program_id(0).to(bl.int64)
    start = row * row_stride
    cols = bl.arange(0, BLOCK)
    origin = bl.load(x + start).to(bl.float32)
    sums = bl.zeros((BLOCK,), bl.float32)
    squares = bl.zeros((BLOCK,), bl.float32)
    for at in range(0, n, BLOCK):
        mask = at + cols < n
        v = bl.load(x + start + at + cols, mask=mask, other=0.0, eviction_policy="evict_last").to(
            bl.float32
        )
        d = bl.where(mask, v - origin, 0.0)
        sums += d
        squares += d * d
    shifted = bl.sum(sums, axis=0) / n
    rstd = 1 / bl.sqrt(bl.sum(squares, axis=0) / n - shifted * shifted + eps)
    mean = shifted + origin
    bl.store(mean_out + row, mean)
    bl.store(rstd_out + row, rstd)
    for at in range(0, n, BLOCK):
        mask = at + cols < n
        v = bl.load(x + start + at + cols, mask=mask, other=0.0, eviction_policy="evict_first").to(
            bl.float32
        )
        g = bl.load(w + at + cols, mask=mask, other=0.0).to(bl.float32)
        h = bl.load(b + at + cols, mask=mask, other=0.0).to(bl.float32)
        bl.store(y + start + at + cols, (v - mean) * rstd * g + h, mask=mask)


@blocklang.jit
def layernorm_backward(dx, dy, dw, db, x, w, mean_in, rstd_in, row_stride, n, BLOCK: bl.constexpr):
    """One program a row: dx, and this row's share of dw and db (float32, zero before) by atomic
    additions.
    """
    row = bl.program_id(0).to(bl.int64)
    cols = bl.arange(0, BLOCK)
    mask = cols < n
    v = bl.load(x + row * row_stride + cols, mask=mask, other=0.0).to(bl.float32)
    gradient = bl.load(dy + row * row_stride + cols, mask=mask, other=0.0).to(bl.float32)
    g = bl.load(w + cols, mask=mask, other=0.0).to(bl.float32)
    mean = bl.load(mean_in + row)
    rstd = bl.load(rstd_in + row)
    normal = bl.where(mask, (v - mean) * rstd, 0.0)
    scaled = gradient * g
    along = bl.sum(normal * scaled, axis=0) / n
    average = bl.sum(scaled, axis=0) / n
    bl.store(dx + row * row_stride + cols, (scaled - normal * along - average) * rstd, mask=mask)
    bl.atomic_add(dw + cols, gradient * normal, mask=mask)
    bl.atomic_add(db + cols, gradient, mask=mask)


@blocklang.jit
def layernorm_backward_rows(
    dx, dy, dw_parts, db_parts, x, w, mean_in, rstd_in, row_stride, rows, n, BLOCK: bl.constexpr
):
    """dx, each program for every so many rows; and the program's share of dw and db, as one row of
    dw_parts and db_parts (float32, as many rows as programs).
    """
    program = bl.program_id(0)
    cols = bl.arange(0, BLOCK)
    mask = cols < n
    g = bl.load(w + cols, mask=mask, other=0.0).to(bl.float32)
    dw = bl.zeros((BLOCK,), bl.float32)
    db = bl.zeros((BLOCK,), bl.float32)
    for row in range(program, rows, bl.num_programs(0)):
        start = row.to(bl.int64) * row_stride
        v = bl.load(x + start + cols, mask=mask, other=0.0).to(bl.float32)
        gradient = bl.load(dy + start + cols, mask=mask, other=0.0).to(bl.float32)
        mean = bl.load(mean_in + row)
        rstd = bl.load(rstd_in + row)
        normal = bl.where(mask, (v - mean) * rstd, 0.0)
        scaled = gradient * g
        along = bl.sum(normal * scaled, axis=0) / n
        average = bl.sum(scaled, axis=0) / n
        bl.store(dx + start + cols, (scaled - normal * along - average) * rstd, mask=mask)
        dw += gradient * normal
        db += gradient
    part = program.to(bl.int64) * n
    bl.store(dw_parts + part + cols, dw, mask=mask)
    bl.store(db_parts + part + cols, db, mask=mask)


@blocklang.jit
def layernorm_backward_weights(
    dw, db, dw_parts, db_parts, parts, n, ROWS: bl.constexpr, COLUMNS: bl.constexpr
):
    """The sums over the rows of dw_parts and db_parts, COLUMNS of them a program."""
    cols = bl.program_id(0) * COLUMNS + bl.arange(0, COLUMNS)
    rows = bl.arange(0, ROWS)
    dw_sum = bl.zeros((ROWS, COLUMNS), bl.float32)
    db_sum = bl.zeros((ROWS, COLUMNS), bl.float32)
    for first in range(0, parts, ROWS):
        part = first + rows
        mask = (part[:, None] < parts) & (cols[None, :] < n)
        offsets = part[:, None].to(bl.int64) * n + cols[None, :]
        dw_sum += bl.load(dw_parts + offsets, mask=mask, other=0.0)
        db_sum += bl.load(db_parts + offsets, mask=mask, other=0.0)
    bl.store(dw + cols, bl.sum(dw_sum, axis=0), mask=cols < n)
    bl.store(db + cols, bl.sum(db_sum, axis=0), mask=cols < n)


def launch(x, w, b, y, mean, rstd):
    """LayerNorm of the contiguous matrix x into y, by the kernel that suits the shape.

    Mean and rstd of each row come out too, in float32. Arrays of NumPy, torch or blocklang; returns
    the launched kernel.
    """
    rows, n = x.shape
    piece = 16 // x.dtype.itemsize
    arrays = (x, y, w, b, mean, rstd)
    if n > 32768:
        return layernorm_long[(rows,)](*arrays, n, n, EPSILON, BLOCK=8192, num_warps=16)
    if n <= 256:
        programs, block = blocklang.cdiv(rows, 4), blocklang.next_power_of_2(n)
        return layernorm_short[(programs,)](
            *arrays, n, rows, n, EPSILON, ROWS=4, BLOCK=block, num_warps=1
        )
    sizes = pieces(n, x.dtype.itemsize, warps=16, align=32)
    programs = resident_programs(rows, sizes, multiprocessors(x), MOST) if n % piece else 0
    if programs:
        return layernorm_resident[(programs,)](
            *arrays, n, rows, n, EPSILON, PIECES=sizes, num_warps=16
        )
    if n % piece and piece > 4:
        block = blocklang.next_power_of_2(n + piece)
        warps = min(16, max(1, block // 1024))
        return layernorm_unaligned[(rows,)](
            *arrays, n, n, EPSILON, BLOCK=block, PIECE=piece, num_warps=warps
        )
    block = blocklang.next_power_of_2(n)
    warps = min(16, max(1, block // 1024))
    return layernorm[(rows,)](*arrays, n, n, EPSILON, BLOCK=block, num_warps=warps)


class LayerNorm:
    """The forward pass; `harness.py` says what each part is."""

    title = "LayerNorm of each row of a matrix"

    def inputs(self, x):
        w, b = weights(x)
        return {"x": x, "w": w, "b": b}

    def results(self, x, w, b):
        mean, rstd = np.full((2, len(x)), np.nan, np.float32)
        return {"y": np.full_like(x, np.nan), "mean": mean, "rstd": rstd}

    def run(self, x, w, b, y, mean, rstd):
        return [launch(x, w, b, y, mean, rstd)]

    def formula(self, x, w, b):
        mean = x.mean(axis=1, keepdims=True)
        centred = x - mean
        rstd = 1 / np.sqrt((centred * centred).mean(axis=1, keepdims=True) + EPSILON)
        return {"y": centred * rstd * w + b, "mean": mean[:, 0], "rstd": rstd[:, 0]}


class BackwardByAtomics:
    """The backward pass with weight gradients by atomic additions."""

    title = "LayerNorm backward, weight gradients by atomic additions"

    def inputs(self, x):
        w, _ = weights(x)
        wide = x.astype(np.float32)
        dy = np.roll(x, 1, axis=0)[:, ::-1].copy()
        mean, variance = wide.mean(axis=1), wide.var(axis=1)
        return {"x": x, "dy": dy, "w": w, "mean": mean, "rstd": 1 / np.sqrt(variance + EPSILON)}

    def results(self, x, dy, w, mean, rstd):
        dw, db = np.zeros((2, x.shape[1]), np.float32)
        return {"dx": np.full_like(x, np.nan), "dw": dw, "db": db}

    def run(self, x, dy, w, mean, rstd, dx, dw, db):
        rows, n = x.shape
        block = blocklang.next_power_of_2(n)
        arrays = (dx, dy, dw, db, x, w, mean, rstd)
        warps = min(16, max(1, block // 1024))
        return [layernorm_backward[(rows,)](*arrays, n, n, BLOCK=block, num_warps=warps)]

    def formula(self, x, dy, w, mean, rstd):
        normal = (x - mean[:, None]) * rstd[:, None]
        scaled = dy * w
        along = (normal * scaled).mean(axis=1, keepdims=True)
        average = scaled.mean(axis=1, keepdims=True)
        dx = (scaled - normal * along - average) * rstd[:, None]
        return {"dx": dx, "dw": (dy * normal).sum(axis=0), "db": dy.sum(axis=0)}


class BackwardInTwoStages(BackwardByAtomics):
    """The backward pass with weight gradients in two stages."""

    title = "LayerNorm backward, weight gradients in two stages"
    parts = 256

    def results(self, x, dy, w, mean, rstd):
        parts = min(self.parts, len(x))
        found = super().results(x, dy, w, mean, rstd)
        dw_parts, db_parts = np.full((2, parts, x.shape[1]), np.nan, np.float32)
        dw, db = np.full((2, x.shape[1]), np.nan, np.float32)
        return {**found, "dw": dw, "db": db, "dw_parts": dw_parts, "db_parts": db_parts}

    def run(self, x, dy, w, mean, rstd, dx, dw, db, dw_parts, db_parts):
        rows, n = x.shape
        parts = dw_parts.shape[0]
        block = blocklang.next_power_of_2(n)
        arrays = (dx, dy, dw_parts, db_parts, x, w, mean, rstd)
        warps = min(16, max(1, block // 1024))
        first = layernorm_backward_rows[(parts,)](*arrays, n, rows, n, BLOCK=block, num_warps=warps)
        programs = (blocklang.cdiv(n, 64),)
        second = layernorm_backward_weights[programs](
            dw, db, dw_parts, db_parts, parts, n, ROWS=32, COLUMNS=64
        )
        return [first, second]


def weights(x):
    """A weight and a bias for each column of x, of its dtype."""
    generator = np.random.default_rng(1)
    w, b = generator.standard_normal((2, x.shape[1]), np.float32).astype(x.dtype)
    return 1 + w, b


if __name__ == "__main__":
    import harness  # lies beside this file

    examples = [LayerNorm(), BackwardByAtomics(), BackwardInTwoStages()]
    sys.exit(harness.main(examples, rows=4096, columns=1000))
