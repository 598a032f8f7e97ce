"""A compile-time parameter without a value."""

import blocklang
import blocklang.language as bl


@blocklang.jit
def scale(x, factor: bl.float32, BLOCK: bl.constexpr):
    cols = bl.arange(0, BLOCK)
    bl.store(x + cols, bl.load(x + cols) * factor)


def act():
    scale.compile({"x": "*fp32:16"})

# expected:
# no_value.py:8:34: error[BL701]: the compile-time parameter 'BLOCK' of scale has no value
#     def scale(x, factor: bl.float32, BLOCK: bl.constexpr):
#                                      ^^^^^^^^^^^^^^^^^^^
#   help: give it one: constexprs={'BLOCK': ...}, or -D BLOCK=... with blc
