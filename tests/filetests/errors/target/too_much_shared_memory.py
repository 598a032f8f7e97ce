"""A block that is transposed through more shared memory than a program can have."""

import blocklang
import blocklang.language as bl


@blocklang.jit
def transpose(x, y):
    i = bl.arange(0, 256)
    offsets = i[:, None] * 256 + i[None, :]
    bl.store(y + offsets, bl.trans(bl.load(x + offsets)))


def act():
    types = {"x": "*fp32:16", "y": "*fp32:16"}
    transpose.compile(types, target="sm_90a", num_warps=8)

# expected:
# too_much_shared_memory.py:8:1: error[BL802]: kernel transpose needs 262144 bytes of shared memory, the target has 232448
#     def transpose(x, y):
#     ^^^^^^^^^^^^^^^^^^^^
#   note: 262144 bytes at offset 0 are for this (too_much_shared_memory.py:11:27)
#         bl.store(y + offsets, bl.trans(bl.load(x + offsets)))
#                               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
#   help: use smaller blocks, or fewer stages
