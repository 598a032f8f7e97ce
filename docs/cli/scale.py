"""A kernel in Python: y = s x."""

import blocklang
import blocklang.language as bl


@blocklang.jit
def scale(x, y, n, s, BLOCK: bl.constexpr = 256):
    """Multiply n numbers by s, BLOCK of them in each program."""
    i = bl.program_id(0) * BLOCK + bl.arange(0, BLOCK)
    bl.store(y + i, bl.load(x + i, mask=i < n) * s, mask=i < n)
