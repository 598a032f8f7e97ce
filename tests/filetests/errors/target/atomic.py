"""An atomic addition that older hardware does not have."""

import blocklang
import blocklang.language as bl


@blocklang.jit
def count(x):
    bl.atomic_add(x + bl.arange(0, 128), 1.0)


def act():
    count.compile({"x": "*bf16"}, target="sm_80")

# expected:
# atomic.py:9:5: error[BL602]: atomic_add on bf16 is not available on sm_80
#         bl.atomic_add(x + bl.arange(0, 128), 1.0)
#         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
#   help: accumulate in float32 or int32
