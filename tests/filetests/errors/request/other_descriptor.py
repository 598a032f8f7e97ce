"""A descriptor whose blocks are not those of the signature."""

import numpy as np

from blocklang import TensorDescriptor
from blocklang.frontend.text import load_text
from blocklang.kernel import JitFunction


def act():
    scope = load_text("kernel k(x: tensordesc<f32[16, 64]>):\n    pass\n", "rows.bl")
    rows = TensorDescriptor.from_tensor(np.zeros((4, 4), np.float32), [32, 64])
    JitFunction(None, scope["k"])[1](rows)

# expected:
# rows.bl:1:10: error[BL721]: 'x' is tensordesc<f32[32, 64]>, and the signature says tensordesc<f32[16, 64]>
#     kernel k(x: tensordesc<f32[16, 64]>):
#              ^^^^^^^^^^^^^^^^^^^^^^^^^^
#   help: make a descriptor of that kind, or pass the array itself
