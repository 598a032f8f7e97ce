"""A block of 48 rows is no power of two."""

import numpy as np

from blocklang.frontend.text import load_text
from blocklang.kernel import JitFunction


def act():
    scope = load_text("kernel k(x: tensordesc<f32[48, 64]>):\n    pass\n", "rows.bl")
    JitFunction(None, scope["k"])[1](np.zeros((4, 4), np.float32))

# expected:
# rows.bl:1:10: error[BL720]: the type of 'x' is not that of a tensor descriptor
#     kernel k(x: tensordesc<f32[48, 64]>):
#              ^^^^^^^^^^^^^^^^^^^^^^^^^^
#   help: write for example tensordesc<f16[64, 64]>, or tensordesc<f16[ROWS, 64], nan>
