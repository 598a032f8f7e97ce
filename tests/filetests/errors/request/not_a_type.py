"""A signature with a misspelt type."""

import blocklang
import blocklang.language as bl


@blocklang.jit
def scale(x, factor):
    bl.store(x, bl.load(x) * factor)


def act():
    scale.compile({"x": "*fp32", "factor": "fp33"})

# expected:
# not_a_type.py:8:14: error[BL703]: 'fp33' is not a type
#     def scale(x, factor):
#                  ^^^^^^
#   help: write for example '*fp32:16', 'i32', 'i64:16' or a number
