"""Matrix products: c = a @ b, for a of m x k and b of k x n or, transposed, n x k.

`gemm_pointers` is the plain kernel: blocks of pointers, masks, one tile of the result a program.
`gemm_described` says the same with tensor descriptors that the host made. `gemm` is the one to use:
as many programs as the GPU has multiprocessors walk over all tiles. The others change what comes
after the sum (`gemm_fused`: scales, bias, activation, residual), what a tile is (`gemm_batched`) or
who sums (`gemm_split`, for results with too few tiles: several programs share the sum of each).

All sum float16, bfloat16, float32 (rounded to tf32) and 8-bit floats in float32, and 8-bit integers
in int32. Arrays are contiguous.

Run it: `python examples/gemm.py [--rows 1000] [--columns 712] [--dtype float32|float16|bfloat16]
[--device cpu|gpu] [--input matrix.npy]`; the matrix is a, and b is random.
"""

from __future__ import annotations

import sys

import ml_dtypes
import numpy as np

import blocklang
import blocklang.language as bl
from blocklang.runtime import cuda

if __package__:
    from examples.rounding import DEVIATIONS, Rounded
else:
    from rounding import DEVIATIONS, Rounded


@blocklang.jit
def place(tile, rows, columns, GROUP: bl.constexpr):
    """Row and column of a tile, in an order in which GROUP rows of tiles are finished together, so
    that what is read of both matrices at a time stays small and in the cache.
    """
    width = GROUP * columns
    first = tile // width * GROUP
    size = bl.minimum(rows - first, GROUP)
    return first + tile % width % size, tile % width // size


@blocklang.jit
def activate(v, ACTIVATION: bl.constexpr):
    """The activation of that name, or v itself for None."""
    if ACTIVATION == "relu":
        v = bl.maximum(v, 0.0)
    elif ACTIVATION == "silu":
        v = v * bl.sigmoid(v)
    elif ACTIVATION == "gelu":
        v = v * bl.sigmoid(1.5957691216 * (v + 0.044715 * v * v * v))
    else:
        bl.static_assert(ACTIVATION is None, "ACTIVATION is relu, silu, gelu or None")
    return v


@blocklang.jit
def gemm_pointers(
    a, b, c, m, n, k, stride_am, stride_ak, stride_bk, stride_bn, stride_cm, stride_cn,
    BLOCK_M: bl.constexpr, BLOCK_N: bl.constexpr, BLOCK_K: bl.constexpr, GROUP: bl.constexpr,
):  # fmt: skip
    """One tile a program; any strides."""
    i, j = place(bl.program_id(0), bl.cdiv(m, BLOCK_M), bl.cdiv(n, BLOCK_N), GROUP)
    bl.assume(j >= 0)  # then, with n, the columns modulo n come in aligned runs
    rows = i * BLOCK_M + bl.arange(0, BLOCK_M)
    columns = j * BLOCK_N + bl.arange(0, BLOCK_N)
    inner = bl.arange(0, BLOCK_K)
    # Rows and columns outside are computed from others, and not stored.
    x = a + (rows % m)[:, None] * stride_am + inner[None, :] * stride_ak
    y = b + inner[:, None] * stride_bk + (columns % n)[None, :] * stride_bn
    total = bl.zeros((BLOCK_M, BLOCK_N), bl.int32 if a.dtype.element_ty == bl.int8 else bl.float32)
    for at in range(0, k, BLOCK_K):
        p = bl.load(x, mask=inner[None, :] < k - at, other=0)
        q = bl.load(y, mask=inner[:, None] < k - at, other=0)
        total = bl.dot(p, q, total)
        x += BLOCK_K * stride_ak
        y += BLOCK_K * stride_bk
    mask = (rows < m)[:, None] & (columns < n)[None, :]
    z = c + rows[:, None] * stride_cm + columns[None, :] * stride_cn
    bl.store(z, total.to(c.dtype.element_ty), mask=mask)


@blocklang.jit
def gemm_described(a, b, c, GROUP: bl.constexpr):
    """One tile a program; a, b (transposed) and c are tensor descriptors of tiles."""
    BLOCK_M: bl.constexpr = c.block_shape[0]
    BLOCK_N: bl.constexpr = c.block_shape[1]
    BLOCK_K: bl.constexpr = a.block_shape[1]
    rows, columns = bl.cdiv(c.shape[0], BLOCK_M), bl.cdiv(c.shape[1], BLOCK_N)
    i, j = place(bl.program_id(0), rows, columns, GROUP)
    total = bl.zeros((BLOCK_M, BLOCK_N), bl.int32 if a.dtype == bl.int8 else bl.float32)
    for at in range(0, a.shape[1], BLOCK_K):
        total = bl.dot(a.load([i * BLOCK_M, at]), b.load([j * BLOCK_N, at]).T, total)
    c.store([i * BLOCK_M, j * BLOCK_N], total.to(c.dtype))


@blocklang.jit
def factors(a, b, m, n, k, TRANSPOSED: bl.constexpr, BLOCK_M: bl.constexpr, BLOCK_N: bl.constexpr,
            BLOCK_K: bl.constexpr):  # fmt: skip
    """Descriptors of both matrices."""
    x = bl.make_tensor_descriptor(a, [m, k], [k, 1], [BLOCK_M, BLOCK_K])
    if TRANSPOSED:
        y = bl.make_tensor_descriptor(b, [n, k], [k, 1], [BLOCK_N, BLOCK_K])
    else:
        y = bl.make_tensor_descriptor(b, [k, n], [n, 1], [BLOCK_K, BLOCK_N])
    return x, y


@blocklang.jit
def multiply(x, y, row, column, first, last, TRANSPOSED: bl.constexpr):
    """The sum of a tile over the steps from `first` to `last`."""
    BLOCK_K: bl.constexpr = x.block_shape[1]
    BLOCK_N: bl.constexpr = y.block_shape[0] if TRANSPOSED else y.block_shape[1]
    kind: bl.constexpr = bl.int32 if x.dtype == bl.int8 else bl.float32
    total = bl.zeros((x.block_shape[0], BLOCK_N), kind)
    for step in range(first, last):
        p = x.load([row, step * BLOCK_K])
        if TRANSPOSED:
            q = y.load([column, step * BLOCK_K]).T
        else:
            q = y.load([step * BLOCK_K, column])
        total = bl.dot(p, q, total)
    return total


@blocklang.jit
def gemm(
    a, b, c, m, n, k, TRANSPOSED: bl.constexpr,
    BLOCK_M: bl.constexpr, BLOCK_N: bl.constexpr, BLOCK_K: bl.constexpr, GROUP: bl.constexpr,
):  # fmt: skip
    """Programs that stay, and walk over the tiles; TRANSPOSED says that b is n x k."""
    x, y = factors(a, b, m, n, k, TRANSPOSED, BLOCK_M, BLOCK_N, BLOCK_K)
    z = bl.make_tensor_descriptor(c, [m, n], [n, 1], [BLOCK_M, BLOCK_N])
    rows, columns = bl.cdiv(m, BLOCK_M), bl.cdiv(n, BLOCK_N)
    for tile in bl.range(bl.program_id(0), rows * columns, bl.num_programs(0)):
        i, j = place(tile, rows, columns, GROUP)
        total = multiply(x, y, i * BLOCK_M, j * BLOCK_N, 0, bl.cdiv(k, BLOCK_K), TRANSPOSED)
        z.store([i * BLOCK_M, j * BLOCK_N], total.to(z.dtype))


@blocklang.jit
def gemm_fused(
    a, b, c, bias, residual, row_scale, column_scale, m, n, k, scale,
    TRANSPOSED: bl.constexpr, ACTIVATION: bl.constexpr,
    BLOCK_M: bl.constexpr, BLOCK_N: bl.constexpr, BLOCK_K: bl.constexpr, GROUP: bl.constexpr,
):  # fmt: skip
    """c = activation(scale * row_scale * column_scale * (a @ b) + bias) + residual.

    `bias` and `column_scale` have n elements, `row_scale` has m, `residual` is m x n; each may be
    None.
    """
    x, y = factors(a, b, m, n, k, TRANSPOSED, BLOCK_M, BLOCK_N, BLOCK_K)
    z = bl.make_tensor_descriptor(c, [m, n], [n, 1], [BLOCK_M, BLOCK_N])
    rows, columns = bl.cdiv(m, BLOCK_M), bl.cdiv(n, BLOCK_N)
    for tile in bl.range(bl.program_id(0), rows * columns, bl.num_programs(0)):
        i, j = place(tile, rows, columns, GROUP)
        total = multiply(x, y, i * BLOCK_M, j * BLOCK_N, 0, bl.cdiv(k, BLOCK_K), TRANSPOSED)
        v = total.to(bl.float32) * scale
        row = i * BLOCK_M + bl.arange(0, BLOCK_M)
        column = j * BLOCK_N + bl.arange(0, BLOCK_N)
        if row_scale is not None:
            v = v * bl.load(row_scale + row, mask=row < m, other=0)[:, None]
        if column_scale is not None:
            v = v * bl.load(column_scale + column, mask=column < n, other=0)[None, :]
        if bias is not None:
            v = v + bl.load(bias + column, mask=column < n, other=0)[None, :]
        v = activate(v, ACTIVATION)
        if residual is not None:
            extra = bl.make_tensor_descriptor(residual, [m, n], [n, 1], [BLOCK_M, BLOCK_N])
            v = v + extra.load([i * BLOCK_M, j * BLOCK_N])
        z.store([i * BLOCK_M, j * BLOCK_N], v.to(z.dtype))


@blocklang.jit
def gemm_batched(
    a, b, c, batch, m, n, k,
    BLOCK_M: bl.constexpr, BLOCK_N: bl.constexpr, BLOCK_K: bl.constexpr, GROUP: bl.constexpr,
):  # fmt: skip
    """`batch` products at once: a is batch x m x k, b is batch x n x k, c is batch x m x n."""
    x = bl.make_tensor_descriptor(a, [batch, m, k], [m * k, k, 1], [1, BLOCK_M, BLOCK_K])
    y = bl.make_tensor_descriptor(b, [batch, n, k], [n * k, k, 1], [1, BLOCK_N, BLOCK_K])
    z = bl.make_tensor_descriptor(c, [batch, m, n], [m * n, n, 1], [1, BLOCK_M, BLOCK_N])
    rows, columns = bl.cdiv(m, BLOCK_M), bl.cdiv(n, BLOCK_N)
    for tile in bl.range(bl.program_id(0), batch * rows * columns, bl.num_programs(0)):
        which = tile // (rows * columns)
        i, j = place(tile % (rows * columns), rows, columns, GROUP)
        total = bl.zeros((BLOCK_M, BLOCK_N), bl.int32 if x.dtype == bl.int8 else bl.float32)
        for at in range(0, k, BLOCK_K):
            p = x.load([which, i * BLOCK_M, at]).reshape((BLOCK_M, BLOCK_K))
            q = y.load([which, j * BLOCK_N, at]).reshape((BLOCK_N, BLOCK_K))
            total = bl.dot(p, q.T, total)
        v = total.to(z.dtype).reshape((1, BLOCK_M, BLOCK_N))
        z.store([which, i * BLOCK_M, j * BLOCK_N], v)


@blocklang.jit
def gemm_split(
    a, b, parts, m, n, k, splits, TRANSPOSED: bl.constexpr, ADD: bl.constexpr,
    BLOCK_M: bl.constexpr, BLOCK_N: bl.constexpr, BLOCK_K: bl.constexpr, GROUP: bl.constexpr,
):  # fmt: skip
    """The sum over k in `splits` parts, which are independent: `parts` is splits x m x n. With ADD
    it is m x n, zero before, and all parts are added to it, in no order.
    """
    x, y = factors(a, b, m, n, k, TRANSPOSED, BLOCK_M, BLOCK_N, BLOCK_K)
    if ADD:
        z = bl.make_tensor_descriptor(parts, [m, n], [n, 1], [BLOCK_M, BLOCK_N])
    else:
        size = [splits, m, n]
        z = bl.make_tensor_descriptor(parts, size, [m * n, n, 1], [1, BLOCK_M, BLOCK_N])
    rows, columns = bl.cdiv(m, BLOCK_M), bl.cdiv(n, BLOCK_N)
    steps = bl.cdiv(k, BLOCK_K)
    share = bl.cdiv(steps, splits)
    for tile in bl.range(bl.program_id(0), splits * rows * columns, bl.num_programs(0)):
        part = tile // (rows * columns)
        i, j = place(tile % (rows * columns), rows, columns, GROUP)
        last = bl.minimum(steps, part * share + share)
        total = multiply(x, y, i * BLOCK_M, j * BLOCK_N, part * share, last, TRANSPOSED)
        v = total.to(z.dtype)
        if ADD:
            z.atomic_add([i * BLOCK_M, j * BLOCK_N], v)
        else:
            z.store([part, i * BLOCK_M, j * BLOCK_N], v.reshape((1, BLOCK_M, BLOCK_N)))


@blocklang.jit
def add_parts(parts, c, splits, size, BLOCK: bl.constexpr):
    """c is the sum of `splits` arrays of `size` elements that follow each other in `parts`."""
    index = bl.program_id(0) * BLOCK + bl.arange(0, BLOCK)
    total = bl.zeros((BLOCK,), parts.dtype.element_ty)
    for part in range(splits):
        total += bl.load(parts + part * size + index, mask=index < size, other=0)
    bl.store(c + index, total.to(c.dtype.element_ty), mask=index < size)


def configurations(ctas=(1,)):
    """Tiles of 64 x 64 to 256 x 128 elements, each with the warps that can hold it. Where `ctas`
    has 2, also pairs of large ones, whose blocks of threads share what they read of b.
    """
    tiles = (
        (128, 128, 4), (128, 128, 8), (128, 256, 8), (256, 128, 8), (64, 256, 4), (128, 64, 4),
        (64, 128, 4), (64, 64, 4), (32, 64, 4), (16, 64, 4), (16, 128, 4),
    )  # fmt: skip
    return [
        blocklang.Config(
            {"BLOCK_M": m * count, "BLOCK_N": n, "BLOCK_K": k, "GROUP": group},
            num_warps=w,
            num_stages=stages,
            num_ctas=count,
        )
        for count in ctas
        for m, n, w in tiles
        if count == 1 or w == 8
        for k in (64, 32, 128, 256)
        for stages in (2, 3, 4, 6)
        # Of large tiles, more at a time may be better for the second-level cache.
        for group in ((8, 16) if m * n == 32768 else (8,))
    ]


def suitable(configs, arguments, **_):
    """The configurations worth trying for the arguments of a launch, given by name.

    On the CPU, where there are neither stages nor warps, that is one. Else steps have 128 or 256
    bytes, tiles are neither much larger than the result nor thousands, and there are as many stages
    as fit into shared memory beside a piece of the tile that is stored, or hardly fewer.
    """
    a = arguments["a"]
    device = gpu(a)
    if device is None:
        return configs[:1]
    # Only warpgroups multiply what is in shared memory; others have the factors in registers, too.
    sums = 128 if device.capability[0] == 9 else 64
    result = arguments["c"] if "c" in arguments else arguments["parts"]
    found = []
    for each in configs:
        m, n, k = (each.kwargs[name] for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K"))
        m //= each.num_ctas
        step = k * a.dtype.itemsize
        # What is stored by pointers passes through the bytes of the stages, which are done then; by
        # descriptors, 128 bytes of each row at a time, or more where there is room.
        stored = 0 if "stride_cm" in arguments else m * min(128, n * result.dtype.itemsize)
        # A residual passes through shared memory, too.
        added = 0 if arguments.get("residual") is None else 4 * m * n
        free = device.shared_bytes_per_block - stored - added - 2048  # for barriers
        deepest = min(6, free // ((m + n) * step))
        suits = m * each.num_ctas < max(65, 2 * arguments["m"]) and n < max(65, 2 * arguments["n"])
        # Only of a flat result are tiles flat.
        suits = suits and m >= min(64, arguments["m"])
        suits = suits and m * n <= sums * 32 * each.num_warps
        suits = suits and (m * n >= 32768 or tiles({**arguments, **each.kwargs})[0] <= 4096)
        if step in (128, 256) and suits and deepest // 2 < each.num_stages <= deepest:
            found.append(each)
    return found


def tune(kernel, ctas=(1,), **settings):
    """The kernel with whichever configuration is fastest for the sizes at hand; `ctas` is that of
    `configurations`, `settings` are those of `blocklang.autotune`.
    """
    sizes = ("m", "n", "k", "batch", "splits", "TRANSPOSED", "ACTIVATION", "ADD")
    parameters = {parameter.name for parameter in kernel.parameters}
    return blocklang.autotune(
        configurations(ctas),
        key=[name for name in sizes if name in parameters],
        prune_configs_by={"early_config_prune": suitable},
        # Of parts that are added to a result, every run would add once more.
        reset_to_zero=["parts"] if "parts" in parameters else None,
        **{"warmup": 5, "rep": 20, **settings},
    )(kernel)


tuned_gemm, tuned_fused, tuned_batched, tuned_split = map(
    tune, (gemm, gemm_fused, gemm_batched, gemm_split)
)


def gpu(x):
    """The facts about the GPU that the array is on; None for the CPU."""
    ordinal = -1 if isinstance(x, np.ndarray) else x.get_device()
    return cuda.device(ordinal) if ordinal >= 0 else None


def tiles(meta):
    """How many tiles there are: the grid of kernels with one a program. `meta` is the arguments."""
    count = blocklang.cdiv(meta["m"], meta["BLOCK_M"]) * blocklang.cdiv(meta["n"], meta["BLOCK_N"])
    return (count * meta.get("batch", 1) * meta.get("splits", 1),)


def programs(meta):
    """The grid of kernels that walk over tiles: as many programs as run at a time."""
    (count,) = tiles(meta)
    device = gpu(meta["a"])
    most = device.multiprocessors // meta.get("num_ctas", 1) if device else count
    return (min(count, most),)


def launch(a, b, c, transposed=True):
    """c = a @ b, or a @ b.T if `transposed`, in the fastest way that is known for the shapes.

    Contiguous matrices of NumPy, torch or blocklang; returns the launched kernel.
    """
    (m, k), n = a.shape, c.shape[1]
    return tuned_gemm[programs](a, b, c, m, n, k, TRANSPOSED=transposed)


def launch_pointers(a, b, c, transposed=True):
    """The same by `gemm_pointers`."""
    (m, k), n = a.shape, c.shape[1]
    strides = (k, 1, 1, k, n, 1) if transposed else (k, 1, n, 1, n, 1)
    step = 128 // a.dtype.itemsize
    return gemm_pointers[tiles](
        a, b, c, m, n, k, *strides, BLOCK_M=64, BLOCK_N=64, BLOCK_K=step, GROUP=8
    )


def launch_described(a, b, c):
    """c = a @ b.T by `gemm_described`."""
    (m, n), step = c.shape, 128 // a.dtype.itemsize
    shapes = ((a, [128, step]), (b, [128, step]), (c, [128, 128]))
    described = [blocklang.TensorDescriptor.from_tensor(*each) for each in shapes]
    grid = tiles({"m": m, "n": n, "BLOCK_M": 128, "BLOCK_N": 128})
    return gemm_described[grid](*described, GROUP=8, num_warps=8)


def launch_fused(
    a, b, c, bias=None, residual=None, row_scale=None, column_scale=None, scale=1.0,
    activation=None, transposed=True,
):  # fmt: skip
    """c = activation(scale * row_scale * column_scale * (a @ b) + bias) + residual; what is None
    is left out.
    """
    (m, k), n = a.shape, c.shape[1]
    extras = (bias, residual, row_scale, column_scale)
    return tuned_fused[programs](
        a, b, c, *extras, m, n, k, scale, TRANSPOSED=transposed, ACTIVATION=activation
    )


def launch_batched(a, b, c):
    """c[i] = a[i] @ b[i].T for every i."""
    batch, m, k = a.shape
    return tuned_batched[programs](a, b, c, batch, m, c.shape[2], k)


def launch_split(a, b, c, parts, transposed=True):
    """c = a @ b, the sum in as many parts as the workspace `parts` (float32, or int32 for 8-bit
    integers; splits x m x n) has.
    """
    (m, k), (splits, _, n) = a.shape, parts.shape
    return [
        tuned_split[programs](a, b, parts, m, n, k, splits, TRANSPOSED=transposed, ADD=False),
        add_parts[(blocklang.cdiv(m * n, 1024),)](parts, c, splits, m * n, BLOCK=1024),
    ]


class Gemm:
    """A product of matrices; `harness.py` says what each part is."""

    title = "matrix product, tuned"
    run_by = staticmethod(launch)

    def inputs(self, x):
        self.dtype = x.dtype
        n = 8 * blocklang.cdiv(3 * len(x), 32)
        b = np.random.default_rng(1).standard_normal((n, x.shape[1]), np.float32)
        return {"a": x, "b": b.astype(x.dtype)}

    def results(self, a, b, **others):
        return {"c": np.full((len(a), len(b)), np.nan, self.dtype)}

    def run(self, a, b, c):
        return [self.run_by(a, b, c)]

    def formula(self, a, b):
        return {"c": product(a, b, self.dtype)}

    def operations(self, a, b, **others):
        return 2 * np.prod(a.shape) * b.shape[-2]


class ByPointers(Gemm):
    """The plain kernel."""

    title = "matrix product by pointers"
    run_by = staticmethod(launch_pointers)


class ByDescriptors(Gemm):
    """The kernel with descriptors of the host."""

    title = "matrix product by descriptors of the host"
    run_by = staticmethod(launch_described)


class Fused(Gemm):
    """A layer of a network."""

    title = "gelu(a @ b.T / sqrt(k) + bias) + residual"

    def inputs(self, x):
        found = super().inputs(x)
        generator = np.random.default_rng(2)
        n = len(found["b"])
        bias = generator.standard_normal(n, np.float32)
        residual = generator.standard_normal((len(x), n), np.float32).astype(x.dtype)
        return {**found, "bias": bias, "residual": residual}

    def run(self, a, b, bias, residual, c):
        scale = a.shape[1] ** -0.5
        return [launch_fused(a, b, c, bias, residual, scale=scale, activation="gelu")]

    def formula(self, a, b, bias, residual):
        v = product(a, b, self.dtype) * a.shape[1] ** -0.5 + bias
        return {"c": v / (1 + np.exp(-1.5957691216 * (v + 0.044715 * v * v * v))) + residual}


class Quantised(Gemm):
    """Factors of 8 bits, with a scale for each row of a and each of b."""

    title = "matrix product of 8-bit floats, scaled"
    narrow = np.dtype(ml_dtypes.float8_e4m3fn)
    largest = 448.0

    def inputs(self, x):
        found = super().inputs(x)
        a, row_scale = self.quantise(found["a"])
        b, column_scale = self.quantise(found["b"])
        return {"a": a, "b": b, "row_scale": row_scale, "column_scale": column_scale}

    def quantise(self, x):
        """Numbers of 8 bits, and the scale of each row."""
        wide = x.astype(np.float32)
        scale = np.maximum(np.abs(wide).max(axis=1), 1e-30) / np.float32(self.largest)
        return (wide / scale[:, None]).astype(self.narrow), scale

    def run(self, a, b, row_scale, column_scale, c):
        return [launch_fused(a, b, c, row_scale=row_scale, column_scale=column_scale)]

    def formula(self, a, b, row_scale, column_scale):
        return {"c": product(a, b, self.narrow) * row_scale[:, None] * column_scale[None, :]}


class Integers(Quantised):
    """Factors that are integers, whose sum is exact."""

    title = "matrix product of 8-bit integers, scaled"
    narrow = np.dtype(np.int8)
    largest = 127.0


class Batched(Gemm):
    """Four products at once."""

    title = "four matrix products at once"

    def inputs(self, x):
        found = super().inputs(x)
        return {name: np.stack([np.roll(each, i, axis=0) for i in range(4)])
                for name, each in found.items()}  # fmt: skip

    def results(self, a, b):
        return {"c": np.full((4, a.shape[1], b.shape[1]), np.nan, self.dtype)}

    def run(self, a, b, c):
        return [launch_batched(a, b, c)]


class Split(Gemm):
    """The sum shared by three programs."""

    title = "matrix product, the sum in three parts"

    def results(self, a, b):
        parts = np.full((3, len(a), len(b)), np.nan, np.float32)
        return {**super().results(a, b), "parts": parts}

    def run(self, a, b, c, parts):
        return launch_split(a, b, c, parts)


def product(a, b, dtype):
    """a @ b.T in NumPy; of `Rounded` matrices, with what the hardware may lose of factors or sums
    of that dtype.
    """
    if not isinstance(a, Rounded):
        return a @ b.swapaxes(-1, -2)
    if dtype == np.float32:
        # Tensor cores look at no more than 10 bits of each factor's fraction.
        a, b = (Rounded(x.value, x.error + 2.0**-10 * np.abs(x.value)) for x in (a, b))
    found = a @ b.swapaxes(-1, -2)
    if dtype == ml_dtypes.float8_e4m3fn:
        # They sum 32 products at a time, with 13 bits of fraction; sums of products of random sign
        # are below six deviations.
        largest = DEVIATIONS * np.sqrt(a.value**2 @ b.value.swapaxes(-1, -2) ** 2)
        found.error = found.error + 2.0**-12 * blocklang.cdiv(a.shape[-1], 32) * largest
    return found


EXAMPLES = (Gemm, ByPointers, ByDescriptors, Fused, Quantised, Integers, Batched, Split)

if __name__ == "__main__":
    import harness  # lies beside this file

    sys.exit(harness.main([example() for example in EXAMPLES], rows=1000, columns=712))
