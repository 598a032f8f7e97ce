"""A signature that names no parameter."""

import blocklang
import blocklang.language as bl


@blocklang.jit
def scale(x, factor):
    bl.store(x, bl.load(x) * factor)


def act():
    scale.compile({"x": "*fp32", "facotr": "fp32"})

# expected:
# unknown_parameter.py:8:1: error[BL704]: scale has no parameter 'facotr'
#     def scale(x, factor):
#     ^^^^^^^^^^^^^^^^^^^^^
#   help: did you mean 'factor'?
