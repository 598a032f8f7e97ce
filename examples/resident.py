"""How `softmax_resident` and `layernorm_resident` cut rows, and how many programs share them.

These kernels are for rows whose alignment changes from row to row. Row r + ALIGN is aligned as row
r is, so all rows of a program are aligned alike where the number of programs is a multiple of
ALIGN, and can be cut at the same columns: into COUNT blocks of BLOCK elements that begin at a
multiple of ALIGN elements, and what is left at both ends. No kernel is here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import blocklang
from blocklang.runtime import cuda

Pieces = tuple[int, int, int, int, int]
"""ALIGN, BLOCK, COUNT, EDGE, THREADS: EDGE is the size of the block that holds both ends."""


def pieces(n: int, itemsize: int, warps: int, align: int = 0) -> Pieces:
    """How programs of `warps` warps cut rows of n elements.

    Each thread moves 16 bytes of a block, or 8 where blocks would get longer than 4096 elements.
    Blocks start at multiples of `align` elements, a power of two; by default these are 16 bytes.
    """
    align = align or 16 // itemsize
    threads = 32 * warps
    block = max(threads, min(threads * 16 // itemsize, 4096))
    count = max(0, n - align + 1) // block
    edge = max(threads, blocklang.next_power_of_2(n - count * block))
    return align, block, count, edge, threads


def resident_programs(rows: int, sizes: Pieces, multiprocessors: int, most: int) -> int:
    """How many programs share the rows: at most one a multiprocessor.

    0 where another kernel suits the matrix better. `most` is how many elements of a row a thread
    can keep in registers, with the next row and whatever else the kernel keeps there.
    """
    align, block, count, edge, threads = sizes
    programs = multiprocessors // align * align
    # Fewer elements a thread would leave memory idle.
    suits = 16 < (count * block + edge) // threads <= most
    # The ends are slow, and so is what a program does before its first row.
    suits = suits and edge < block and rows >= 8 * programs
    return programs if suits else 0


def multiprocessors(x: Any) -> int:
    """How many the GPU has that the array is on; 0 for the CPU."""
    ordinal = -1 if isinstance(x, np.ndarray) else x.get_device()
    return cuda.device(ordinal).multiprocessors if ordinal >= 0 else 0
