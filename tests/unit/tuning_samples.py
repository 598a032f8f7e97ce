"""Kernels for tests of the autotuner, and a measure that does not depend on the machine."""

import numpy as np

import blocklang
import blocklang.language as bl
from blocklang import Config


@blocklang.jit
def increment(x, n, BLOCK: bl.constexpr):
    i = bl.program_id(0) * BLOCK + bl.arange(0, BLOCK)
    bl.store(x + i, bl.load(x + i, mask=i < n) + 1, mask=i < n)


@blocklang.jit
def repeat(x, n, TIMES: bl.constexpr):
    i = bl.arange(0, 1024)
    v = bl.load(x + i, mask=i < n)
    for _ in range(TIMES):
        v = bl.sqrt(v + 1.5)
    bl.store(x + i, v, mask=i < n)


def blocks(*sizes):
    return [Config({"BLOCK": size}) for size in sizes]


def programs(meta):
    return (blocklang.cdiv(meta["n"], meta["BLOCK"]),)


class Measure:
    """In place of `do_bench`: runs each configuration once; the first to be given is the slowest.

    `runs` counts the configurations that it was given.
    """

    def __init__(self):
        self.runs = 0

    def __call__(self, run, quantiles):
        self.runs += 1
        run()
        return [1 / self.runs for _ in quantiles]


def zeros(n=100, dtype=np.float32):
    return np.zeros(n, dtype)
