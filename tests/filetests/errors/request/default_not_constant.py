"""A default that only running Python would tell."""

import blocklang
import blocklang.language as bl


@blocklang.jit
def scale(x, factor=len("abc")):
    bl.store(x, bl.load(x) * factor)


def act():
    scale.parameters  # noqa: B018

# expected:
# default_not_constant.py:8:21: error[BL707]: a default value must be a literal, a constant or a dtype
#     def scale(x, factor=len("abc")):
#                         ^^^^^^^^^^
#   help: pass the value at the launch
