"""Small integer helpers for host code that chooses grids and block sizes.

They are plain Python functions on plain integers; their counterparts inside kernels are in
`blocklang.language`.
"""

from __future__ import annotations


def cdiv(numerator: int, denominator: int) -> int:
    """Return numerator / denominator rounded up; ZeroDivisionError if the denominator is zero."""
    return -(-numerator // denominator)


def next_power_of_2(value: int) -> int:
    """Return the smallest power of two that is not below `value`; 1 for values below 1."""
    return 1 << max(value - 1, 0).bit_length()
