"""A loop inside the function of a reduction, which CPUs do not do."""

import blocklang
import blocklang.language as bl


@blocklang.jit
def power(a, b):
    for _ in range(2):
        a = a * b
    return a


@blocklang.jit
def kernel(x):
    bl.store(x, bl.reduce(bl.load(x + bl.arange(0, 64)), 0, power))


def act():
    kernel.compile({"x": "*i32"}, target="cpu")

# expected:
# not_on_target.py:9:5: error[BL601]: `for` inside a reduction is not available on CPUs
#   called from not_on_target.py:16:17:
#         bl.store(x, bl.reduce(bl.load(x + bl.arange(0, 64)), 0, power))
#                     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
#         for _ in range(2):
#         ^^^^^^^^^^^^^^^^^^
#   help: compile for another target, or convert to a dtype for which it is
