"""An option out of its range."""

import blocklang
import blocklang.language as bl


@blocklang.jit
def scale(x, factor):
    bl.store(x, bl.load(x) * factor)


def act():
    scale.compile({"x": "*fp32", "factor": "fp32"}, num_warps=64)

# expected:
# error[BL709]: num_warps is 64
#   help: it is an integer from 1 to 32
