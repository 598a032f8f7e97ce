"""A launch that breaks the promise of the signature (`n: i32 divisible 16`)."""

from pathlib import Path

import numpy as np

import blocklang

scale = blocklang.load(Path(__file__).with_name("files") / "facts.bl").scale


def act():
    scale[(1,)](np.zeros(64, np.float32), 10, 1)

# expected:
# files/facts.bl:1:23: error[BL706]: 'n' is not divisible by 16, which the signature demands
#     kernel scale(x: *f32, n: i32 divisible 16, stride: i32 is 1):
#                           ^^^^^^^^^^^^^^^^^^^
#   help: pass a multiple, or state less in the signature (launches know divisibility by 16 at most)
