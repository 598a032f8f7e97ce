"""The sum of two vectors: z[i] = x[i] + y[i].

The smallest kernel that shows everything a kernel has: programs of a grid, a block of elements for
each, and a mask for the end of the vector.

Run it: `python examples/vector_add.py [--columns 10000000] [--dtype float32|float16|bfloat16]
[--device cpu|gpu] [--input matrix.npy]`. Without --input the vectors are random numbers.
"""

from __future__ import annotations

import sys

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.jit
def add(x, y, z, n, BLOCK: bl.constexpr):
    """Each program adds BLOCK elements; the last one may have fewer."""
    offsets = bl.program_id(0) * BLOCK + bl.arange(0, BLOCK)
    mask = offsets < n
    v = bl.load(x + offsets, mask=mask) + bl.load(y + offsets, mask=mask)
    bl.store(z + offsets, v, mask=mask)


def launch(x, y, z):
    """z = x + y for contiguous vectors of NumPy, torch or blocklang; returns the kernel."""
    n = x.shape[0]
    return add[(blocklang.cdiv(n, 4096),)](x, y, z, n, BLOCK=4096)


class VectorAdd:
    """What the program runs; `harness.py` says what each part is."""

    title = "the sum of two vectors"

    def inputs(self, x):
        return {"x": x.ravel(), "y": x.ravel()[::-1].copy()}

    def results(self, x, y):
        return {"z": np.full_like(x, np.nan)}

    def run(self, x, y, z):
        return [launch(x, y, z)]

    def formula(self, x, y):
        return {"z": x + y}


if __name__ == "__main__":
    import harness  # lies beside this file

    sys.exit(harness.main([VectorAdd()], rows=1, columns=10_000_000))
