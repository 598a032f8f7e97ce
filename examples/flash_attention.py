"""Attention, forward and backward, without the matrix of scores in memory.

    o = softmax(scale * q @ k.T) @ v            for each head; scale = 1 / sqrt(D)

`attention` walks along the keys with a running maximum and a running sum, and keeps what it has so
far relative to the maximum; it writes o and, for the backward pass, the logarithm of the sum of
each row's exponentials. `attention_backward_rows` prepares two numbers a query,
`attention_backward_keys` gives dk and dv, `attention_backward_queries` dq: the scores are computed
again in both, so that every sum has one owner and each run gives the same result.

Queries are [batch, heads, rows, D], keys and values [batch, key heads, keys, D], contiguous, D a
power of two. Each key head serves as many heads in a row (grouped queries). A causal query sees
the keys up to its own place, where the last query stands at the last key; a query that sees
nothing gives zeros.

Run it: `python examples/flash_attention.py [--rows 512] [--columns 64] [--dtype float16]
[--device cpu|gpu] [--input matrix.npy]`. The rows of the matrix are positions, its columns D; the
heads are made of it.
"""

from __future__ import annotations

import sys

import numpy as np

import blocklang
import blocklang.language as bl

if __package__:
    from examples.gemm import gpu, product
    from examples.rounding import Rounded
else:
    from gemm import gpu, product
    from rounding import Rounded

# Queries and keys of a block, warps and stages, by D; the first are the best guess.
FORWARD = {
    64: ((256, 64, 16, 4), (128, 128, 8, 2), (128, 128, 8, 3), (256, 64, 16, 3), (128, 64, 8, 4)),
    128: ((128, 128, 8, 2), (128, 64, 8, 4), (128, 64, 8, 3), (64, 128, 4, 2)),
    256: ((128, 64, 8, 2), (128, 32, 8, 3), (64, 64, 4, 2)),
}
BACKWARD_KEYS = {
    64: ((64, 128, 8, 3), (64, 128, 8, 2), (64, 128, 8, 4)),
    128: ((64, 128, 8, 3), (64, 128, 8, 2), (32, 128, 8, 2)),
    256: ((32, 64, 8, 1),),
}
BACKWARD_QUERIES = {
    64: ((128, 64, 8, 4), (128, 128, 8, 3), (128, 128, 8, 2), (128, 64, 8, 3)),
    128: ((128, 64, 8, 3), (128, 128, 8, 2), (128, 64, 8, 2), (64, 64, 4, 3)),
    256: ((128, 32, 8, 1),),
}
# For GPUs without products of warpgroups.
OLDER = {
    64: ((64, 64, 4, 2), (128, 64, 8, 2), (64, 32, 4, 2)),
    128: ((64, 32, 8, 2), (64, 64, 8, 2), (128, 64, 8, 2)),
    256: ((64, 32, 8, 2),),
}
PADDING = 256
"""Rows of what the backward pass prepares are padded to a multiple of this, and so of any BM."""


@blocklang.jit
def attention(
    q, k, v, o, lse, heads, group, rows, keys, scale,
    D: bl.constexpr, CAUSAL: bl.constexpr, EVEN: bl.constexpr, BM: bl.constexpr, BN: bl.constexpr,
):  # fmt: skip
    """o and lse (float32, natural logarithm) of `heads` heads; each head of k and v serves `group`.

    EVEN says that BN divides keys. Programs share the units of work: a unit is a late block of BM
    queries, which sees many keys if CAUSAL, and the early one that makes up for it.
    """
    queries = bl.make_tensor_descriptor(q, [heads, rows, D], [rows * D, D, 1], [1, BM, D])
    sources = bl.make_tensor_descriptor(k, [heads // group, keys, D], [keys * D, D, 1], [1, BN, D])
    values = bl.make_tensor_descriptor(v, [heads // group, keys, D], [keys * D, D, 1], [1, BN, D])
    results = bl.make_tensor_descriptor(o, [heads, rows, D], [rows * D, D, 1], [1, BM, D])
    factor = scale * 1.4426950408889634
    blocks = bl.cdiv(rows, BM)
    pairs = bl.cdiv(blocks, 2)
    for unit in range(bl.program_id(0), heads * pairs, bl.num_programs(0)):
        head = unit // pairs
        early = unit % pairs
        # The block in the middle of an odd number has no partner.
        for half in range(bl.minimum(2, blocks - 2 * early)):
            first = early * BM
            if half == 0:
                first = (blocks - 1 - early) * BM
            row = first + bl.arange(0, BM)
            # Keys that any row of the block sees, those that all see, those that each sees.
            end, clear, seen = keys, keys, bl.full((BM,), keys, bl.int32)
            if CAUSAL:
                end = bl.minimum(keys, bl.maximum(first + BM + keys - rows, 0))
                clear = bl.minimum(keys, first + keys - rows + 1)
                seen = bl.minimum(seen, row + (keys - rows + 1))
            x = queries.load([head, first, 0]).reshape((BM, D))
            top = bl.full((BM,), -1e30, bl.float32)
            total = bl.zeros((BM,), bl.float32)
            acc = bl.zeros((BM, D), bl.float32)
            for n in range(0, end, BN):
                y = sources.load([head // group, n, 0]).reshape((BN, D))
                s = bl.dot(x, y.T)
                if (CAUSAL or not EVEN) and n + BN > clear:
                    s = bl.where(n + bl.arange(0, BN)[None, :] < seen[:, None], s, -float("inf"))
                higher = bl.maximum(top, bl.max(s, 1) * factor)
                p = bl.exp2(s * factor - higher[:, None])
                shrunk = bl.exp2(top - higher)
                total = total * shrunk + bl.sum(p, 1)
                acc = acc * shrunk[:, None]
                z = values.load([head // group, n, 0]).reshape((BN, D))
                acc = bl.dot(p.to(z.dtype), z, acc)
                top = higher
            logarithm = (top + bl.log2(total)) * 0.6931471805599453
            bl.store(lse + head * rows + row, logarithm, mask=row < rows)
            acc = acc * (1.0 / bl.where(total > 0, total, 1.0))[:, None]
            results.store([head, first, 0], acc.to(o.dtype.element_ty).reshape((1, BM, D)))


@blocklang.jit
def attention_backward_rows(o, do, lse, stats, rows, padded, D: bl.constexpr, BM: bl.constexpr):
    """Two numbers a query, `padded` of each for a head: lse as a power of two, and the sum of
    o * do over D.

    Where there is no query, or it sees no key, the first is infinite: all that is computed from it
    is zero then.
    """
    head = bl.program_id(1)
    row = bl.program_id(0) * BM + bl.arange(0, BM)
    inside = row < rows
    at = (head * rows + row).to(bl.int64)[:, None] * D + bl.arange(0, D)[None, :]
    x = bl.load(o + at, mask=inside[:, None], other=0.0).to(bl.float32)
    y = bl.load(do + at, mask=inside[:, None], other=0.0).to(bl.float32)
    shift = bl.load(lse + head * rows + row, mask=inside, other=-float("inf"))
    shift = bl.where(shift == -float("inf"), float("inf"), shift * 1.4426950408889634)
    bl.store(stats + 2 * head * padded + row, shift)
    bl.store(stats + (2 * head + 1) * padded + row, bl.sum(x * y, 1))


@blocklang.jit
def attention_backward_keys(
    q, k, v, do, dk, dv, stats, heads, group, rows, padded, keys, scale,
    D: bl.constexpr, CAUSAL: bl.constexpr, BM: bl.constexpr, BN: bl.constexpr,
):  # fmt: skip
    """dk and dv of BN keys of a head, walking along the queries of all heads that it serves, BM at
    a time. BM divides padded.

    Scores stand here with keys as rows: so the products that they go into have them in registers.
    The blocks that causal queries look at most come first.
    """
    queries = bl.make_tensor_descriptor(q, [heads, rows, D], [rows * D, D, 1], [1, BM, D])
    gradients = bl.make_tensor_descriptor(do, [heads, rows, D], [rows * D, D, 1], [1, BM, D])
    sources = bl.make_tensor_descriptor(k, [heads // group, keys, D], [keys * D, D, 1], [1, BN, D])
    values = bl.make_tensor_descriptor(v, [heads // group, keys, D], [keys * D, D, 1], [1, BN, D])
    to_k = bl.make_tensor_descriptor(dk, [heads // group, keys, D], [keys * D, D, 1], [1, BN, D])
    to_v = bl.make_tensor_descriptor(dv, [heads // group, keys, D], [keys * D, D, 1], [1, BN, D])
    factor = scale * 1.4426950408889634
    source = bl.program_id(1)
    first = bl.program_id(0) * BN
    # The first query that sees any of the keys, and the first that sees all.
    begin, clear = 0, 0
    if CAUSAL:
        begin = bl.maximum(first + rows - keys, 0) // BM * BM
        clear = first + BN - 1 + rows - keys
    y = sources.load([source, first, 0]).reshape((BN, D))
    z = values.load([source, first, 0]).reshape((BN, D))
    key_sum = bl.zeros((BN, D), bl.float32)
    value_sum = bl.zeros((BN, D), bl.float32)
    for head in range(source * group, source * group + group):
        for m in range(begin, rows, BM):
            row = m + bl.arange(0, BM)
            shift = bl.load(stats + 2 * head * padded + row)
            mean = bl.load(stats + (2 * head + 1) * padded + row)
            x = queries.load([head, m, 0]).reshape((BM, D))
            s = bl.dot(y, x.T)
            dx = gradients.load([head, m, 0]).reshape((BM, D))
            dp = bl.dot(z, dx.T)
            p = bl.exp2(s * factor - shift[None, :])
            if CAUSAL and m < clear:
                key = first + rows - keys + bl.arange(0, BN)
                p = bl.where(key[:, None] <= row[None, :], p, 0.0)
            value_sum = bl.dot(p.to(dx.dtype), dx, value_sum)
            ds = p * (dp - mean[None, :])
            key_sum = bl.dot(ds.to(x.dtype), x, key_sum)
    key_sum *= scale
    to_k.store([source, first, 0], key_sum.to(dk.dtype.element_ty).reshape((1, BN, D)))
    to_v.store([source, first, 0], value_sum.to(dv.dtype.element_ty).reshape((1, BN, D)))


@blocklang.jit
def attention_backward_queries(
    q, k, v, do, dq, stats, heads, group, rows, padded, keys, scale,
    D: bl.constexpr, CAUSAL: bl.constexpr, EVEN: bl.constexpr, BM: bl.constexpr, BN: bl.constexpr,
):  # fmt: skip
    """dq, in units of two blocks of BM queries as in `attention`. BM divides padded."""
    queries = bl.make_tensor_descriptor(q, [heads, rows, D], [rows * D, D, 1], [1, BM, D])
    gradients = bl.make_tensor_descriptor(do, [heads, rows, D], [rows * D, D, 1], [1, BM, D])
    to_q = bl.make_tensor_descriptor(dq, [heads, rows, D], [rows * D, D, 1], [1, BM, D])
    sources = bl.make_tensor_descriptor(k, [heads // group, keys, D], [keys * D, D, 1], [1, BN, D])
    values = bl.make_tensor_descriptor(v, [heads // group, keys, D], [keys * D, D, 1], [1, BN, D])
    factor = scale * 1.4426950408889634
    blocks = bl.cdiv(rows, BM)
    pairs = bl.cdiv(blocks, 2)
    for unit in range(bl.program_id(0), heads * pairs, bl.num_programs(0)):
        head = unit // pairs
        early = unit % pairs
        for half in range(bl.minimum(2, blocks - 2 * early)):
            first = early * BM
            if half == 0:
                first = (blocks - 1 - early) * BM
            row = first + bl.arange(0, BM)
            end, clear, seen = keys, keys, bl.full((BM,), keys, bl.int32)
            if CAUSAL:
                end = bl.minimum(keys, bl.maximum(first + BM + keys - rows, 0))
                clear = bl.minimum(keys, first + keys - rows + 1)
                seen = bl.minimum(seen, row + (keys - rows + 1))
            shift = bl.load(stats + 2 * head * padded + row)
            mean = bl.load(stats + (2 * head + 1) * padded + row)
            x = queries.load([head, first, 0]).reshape((BM, D))
            dx = gradients.load([head, first, 0]).reshape((BM, D))
            acc = bl.zeros((BM, D), bl.float32)
            for n in range(0, end, BN):
                y = sources.load([head // group, n, 0]).reshape((BN, D))
                s = bl.dot(x, y.T)
                z = values.load([head // group, n, 0]).reshape((BN, D))
                dp = bl.dot(dx, z.T)
                if (CAUSAL or not EVEN) and n + BN > clear:
                    s = bl.where(n + bl.arange(0, BN)[None, :] < seen[:, None], s, -float("inf"))
                ds = bl.exp2(s * factor - shift[:, None]) * (dp - mean[:, None])
                acc = bl.dot(ds.to(y.dtype), y, acc)
            to_q.store([head, first, 0], (acc * scale).to(dq.dtype.element_ty).reshape((1, BM, D)))


def choices(table, head_size, older=False):
    """The rows of a table for a head size. Small heads are like those of 64."""
    return (OLDER if older else table)[max(head_size, 64)]


def configurations(table):
    """All configurations of a table, and of the one for older GPUs."""
    rows = [row for each in (table, OLDER) for size in each for row in each[size]]
    return [
        blocklang.Config({"BM": m, "BN": n}, num_warps=warps, num_stages=stages)
        for m, n, warps, stages in dict.fromkeys(rows)
    ]


def tune(kernel, table, **settings):
    """The kernel with the fastest configuration of a table for the sizes at hand; `settings` are
    those of `blocklang.autotune`.
    """
    parameters = {parameter.name for parameter in kernel.parameters}
    if "EVEN" in parameters:
        rule = {"EVEN": lambda arguments: arguments["keys"] % arguments["BN"] == 0}
        kernel = blocklang.heuristics(rule)(kernel)

    def suitable(configs, arguments, **_):
        """Those for the head size and the GPU; on the CPU there is nothing to choose."""
        device = gpu(arguments["q"])
        if device is None:
            return configs[:1]
        wanted = choices(table, arguments["D"], device.capability[0] != 9)
        named = [tuple(each.all_kwargs()[n] for n in ("BM", "BN", "num_warps", "num_stages"))
                 for each in configs]  # fmt: skip
        return [each for each, name in zip(configs, named, strict=True) if name in wanted]

    return blocklang.autotune(
        configurations(table),
        key=["heads", "group", "rows", "keys", "D", "CAUSAL"],
        prune_configs_by={"early_config_prune": suitable},
        **{"warmup": 5, "rep": 20, **settings},
    )(kernel)


tuned_forward = tune(attention, FORWARD)
tuned_backward_keys = tune(attention_backward_keys, BACKWARD_KEYS)
tuned_backward_queries = tune(attention_backward_queries, BACKWARD_QUERIES)


def by_queries(meta):
    """The grid of kernels that walk over units: a program for each multiprocessor."""
    units = meta["heads"] * blocklang.cdiv(blocklang.cdiv(meta["rows"], meta["BM"]), 2)
    device = gpu(meta["q"])
    return (min(units, device.multiprocessors) if device else units,)


def by_keys(meta):
    """The grid of the kernel with a program for each block of keys."""
    return blocklang.cdiv(meta["keys"], meta["BN"]), meta["heads"] // meta["group"]


def sizes(q, k, scale):
    """heads, group, rows, keys, scale and D of a launch."""
    batch, heads, rows, head_size = q.shape
    key_heads, keys = k.shape[1:3]
    if k.shape != (batch, key_heads, keys, head_size) or heads % key_heads:
        raise ValueError(f"queries of shape {q.shape} and keys of {k.shape} do not go together")
    scale = head_size**-0.5 if scale is None else scale
    return batch * heads, heads // key_heads, rows, keys, scale, head_size


def padded(rows):
    """How many rows of each kind the workspace of the backward pass has for a head."""
    return blocklang.cdiv(rows, PADDING) * PADDING


def launch(q, k, v, o, lse, causal=False, scale=None):
    """Attention of q, k, v into o, and the logarithms of the sums into lse (float32, batch x heads
    x rows). Arrays of NumPy, torch or blocklang; returns the launched kernel.
    """
    *counts, head_size = sizes(q, k, scale)
    return tuned_forward[by_queries](q, k, v, o, lse, *counts, D=head_size, CAUSAL=causal)


def launch_backward(q, k, v, o, lse, do, dq, dk, dv, stats, causal=False, scale=None):
    """dq, dk and dv for do, from what the forward pass was given and gave. `stats` is a workspace:
    float32, batch x heads x 2 x padded(rows). Returns the launched kernels.
    """
    heads, group, rows, keys, scale, head_size = sizes(q, k, scale)
    room = stats.shape[-1]
    counts = (heads, group, rows, room, keys, scale)
    options = {"D": head_size, "CAUSAL": causal}
    return [
        attention_backward_rows[(room // 32, heads)](
            o, do, lse, stats, rows, room, D=head_size, BM=32
        ),
        tuned_backward_keys[by_keys](q, k, v, do, dk, dv, stats, *counts, **options),
        tuned_backward_queries[by_queries](q, k, v, do, dq, stats, *counts, **options),
    ]


class Attention:
    """The forward pass; `harness.py` says what each part is."""

    title = "attention"
    causal = False

    def inputs(self, x):
        self.dtype = x.dtype
        rows, columns = x.shape
        keys, size = rows + rows // 4, min(256, max(16, 1 << columns.bit_length() - 1))
        q = np.stack([np.resize(np.roll(x, 7 * head), (rows, size)) for head in range(4)])
        k, v = (
            np.stack([np.resize(np.roll(x, first + head), (keys, size)) for head in range(2)])
            for first in (3, 5)
        )
        return {"q": q[None], "k": k[None], "v": v[None]}

    def results(self, q, **others):
        lse = np.full(q.shape[:3], np.nan, np.float32)
        return {"o": np.full_like(q, np.nan), "lse": lse}

    def run(self, q, k, v, o, lse):
        return [launch(q, k, v, o, lse, self.causal)]

    def formula(self, q, k, v):
        k, v = (self.shared(each, q) for each in (k, v))
        s = self.scores(q, k)
        highest = s.max(axis=-1, keepdims=True)
        p = np.exp(s - highest) * self.mask(q, k)
        total = p.sum(axis=-1, keepdims=True)
        o = product(self.stored(p), v.swapaxes(-1, -2), self.dtype) / total
        return {"o": o, "lse": (highest + np.log(total))[..., 0]}

    def operations(self, q, k, **others):
        return 4 * np.prod(q.shape) * k.shape[2] // (2 if self.causal else 1)

    def shared(self, x, q):
        """The heads of keys or values, once for each head of queries."""
        return x[:, np.arange(q.shape[1]) // (q.shape[1] // x.shape[1])]

    def scores(self, q, k):
        """The products of queries and keys, scaled."""
        return product(q, k, self.dtype) * float(q.shape[-1]) ** -0.5

    def mask(self, q, k):
        """1 where a query sees a key, else 0."""
        rows, keys = q.shape[2], k.shape[2]
        seen = np.arange(keys) <= np.arange(rows)[:, None] + (keys - rows)
        return np.where(seen | (not self.causal), 1.0, 0.0)

    def stored(self, x):
        """Numbers that a product takes in its dtype."""
        return x.stored(self.dtype) if isinstance(x, Rounded) else x


class Causal(Attention):
    """The same for queries that see nothing behind their own place."""

    title = "attention, causal"
    causal = True


class Backward(Attention):
    """The backward pass."""

    title = "attention backward"

    def inputs(self, x):
        found = super().inputs(x)
        wide = {name: each.astype(np.float64) for name, each in found.items()}
        forward = super().formula(**wide)
        do = np.roll(found["q"], 11)[..., ::-1].copy()
        lse = forward["lse"].astype(np.float32)
        return {**found, "o": forward["o"].astype(x.dtype), "lse": lse, "do": do}

    def results(self, q, k, v, **others):
        stats = np.full((*q.shape[:2], 2, padded(q.shape[2])), np.nan, np.float32)
        gradients = {
            name: np.full_like(x, np.nan) for name, x in zip("qkv", (q, k, v), strict=True)
        }
        return {**{f"d{name}": x for name, x in gradients.items()}, "stats": stats}

    def run(self, **arrays):
        return launch_backward(**arrays, causal=self.causal)

    def formula(self, q, k, v, o, lse, do):
        scale, heads = float(q.shape[-1]) ** -0.5, k.shape[1]
        k, v = (self.shared(each, q) for each in (k, v))
        p = np.exp(self.scores(q, k) - lse[..., None]) * self.mask(q, k)
        dp = product(do, v, self.dtype)
        ds = self.stored(p * (dp - (o * do).sum(axis=-1, keepdims=True)))
        over = [each.swapaxes(-1, -2) for each in (ds, self.stored(p))]
        dk, dv = (
            product(x, y.swapaxes(-1, -2), self.dtype) for x, y in zip(over, (q, do), strict=True)
        )
        dq = product(ds, k.swapaxes(-1, -2), self.dtype)
        group = q.shape[1] // heads
        dk, dv = (sum(x[:, member::group] for member in range(group)) for x in (dk, dv))
        return {"dq": dq * scale, "dk": dk * scale, "dv": dv}

    def operations(self, **inputs):
        return super().operations(**inputs) * 5 // 2


class CausalBackward(Backward):
    """The same for queries that see nothing behind their own place."""

    title = "attention backward, causal"
    causal = True


if __name__ == "__main__":
    import harness  # lies beside this file

    examples = [Attention(), Causal(), Backward(), CausalBackward()]
    sys.exit(harness.main(examples, rows=500, columns=64))
