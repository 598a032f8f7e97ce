"""The peers of `rowwise`: softmax and LayerNorm as plain Triton kernels, one row a program."""

import triton
import triton.language as tl


@triton.jit
def softmax(x, y, row_stride, n, BLOCK: tl.constexpr):
    """As `examples/softmax.py` has it."""
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    v = tl.load(x + row * row_stride + cols, mask=cols < n, other=-float("inf")).to(tl.float32)
    v = tl.exp(v - tl.max(v, axis=0))
    tl.store(y + row * row_stride + cols, v / tl.sum(v, axis=0), mask=cols < n)


@triton.jit
def layernorm(x, y, w, b, mean_out, rstd_out, row_stride, n, eps, BLOCK: tl.constexpr):
    """As `examples/layernorm.py` has it."""
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    mask = cols < n
    v = tl.load(x + row * row_stride + cols, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(v, axis=0) / n
    centred = tl.where(mask, v - mean, 0.0)
    rstd = 1 / tl.sqrt(tl.sum(centred * centred, axis=0) / n + eps)
    tl.store(mean_out + row, mean)
    tl.store(rstd_out + row, rstd)
    g = tl.load(w + cols, mask=mask, other=0.0).to(tl.float32)
    h = tl.load(b + cols, mask=mask, other=0.0).to(tl.float32)
    tl.store(y + row * row_stride + cols, centred * rstd * g + h, mask=mask)


@triton.jit
def empty(a, b, c, n, s0, s1, s2, s3):
    """Does nothing."""
    pass
