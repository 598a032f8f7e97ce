"""LayerNorm of each row of a matrix, forward and backward.

    y = (x - mean) * rstd * w + b,   rstd = 1 / sqrt(variance + eps),   mean and variance over the
    row

`layernorm` is the plain kernel: one program a row, the whole row in one block; the variance is
taken of the centred values, not as a difference of large numbers. `layernorm_short`,
`layernorm_unaligned` and `layernorm_long` cut the work differently for matrices that need it, as
in `softmax.py`. `layernorm_backward` gives dx, and adds each row's share of dw and db by atomics.

Run it: `python examples/layernorm.py [--rows 4096] [--columns 1000] [--dtype float32] [--device
cpu|gpu]`.
"""

from __future__ import annotations

import blocklang
import blocklang.language as bl


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

    See `softmax_unaligned` in softmax.py: PIECE elements are 16 bytes, BLOCK is at least n + PIECE.
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
