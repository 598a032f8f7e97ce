"""A number of warps that cannot be counted in bits."""

import blocklang
import blocklang.language as bl


@blocklang.jit
def scale(x, factor):
    bl.store(x, bl.load(x) * factor)


def act():
    scale.compile({"x": "*fp32", "factor": "fp32"}, num_warps=6)

# expected:
# error[BL710]: num_warps is 6
#   help: it is a power of two: 1, 2, 4, 8, ...
