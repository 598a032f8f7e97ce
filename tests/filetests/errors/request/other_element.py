"""Arrays of two dtypes for one type parameter."""

import numpy as np

from blocklang.frontend.text import load_text
from blocklang.kernel import JitFunction


def act():
    scope = load_text("kernel k(x: *T, y: *T, T: constexpr = f16):\n    pass\n", "two.bl")
    JitFunction(None, scope["k"])[1](np.zeros(4, np.float32), np.zeros(4, np.float64))

# expected:
# two.bl:1:17: error[BL722]: 'y' is of f64, and T is f32 because of 'x'
#     kernel k(x: *T, y: *T, T: constexpr = f16):
#                     ^^^^^
#   help: pass arguments of one dtype, or give the kernel two type parameters
