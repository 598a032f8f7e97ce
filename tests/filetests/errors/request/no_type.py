"""A parameter of which nobody says the type."""

import blocklang
import blocklang.language as bl


@blocklang.jit
def scale(x, factor: bl.float32):
    bl.store(x, bl.load(x) * factor)


def act():
    scale.compile()

# expected:
# no_type.py:8:11: error[BL702]: the type of 'x' is not known
#     def scale(x, factor: bl.float32):
#               ^
#   help: state it: signature={'x': '*fp32:16'}, or --signature x=*fp32:16 with blc
