"""A launch with another value than the signature promises (`stride: i32 is 1`)."""

from pathlib import Path

import numpy as np

import blocklang

scale = blocklang.load(Path(__file__).with_name("files") / "facts.bl").scale


def act():
    scale[(1,)](np.zeros(64, np.float32), 32, 2)

# expected:
# files/facts.bl:1:44: error[BL705]: 'stride' must be 1: the signature says so
#     kernel scale(x: *f32, n: i32 divisible 16, stride: i32 is 1):
#                                                ^^^^^^^^^^^^^^^^
#   help: pass 1
