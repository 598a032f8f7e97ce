"""An option that does not exist."""

import blocklang
import blocklang.language as bl


@blocklang.jit
def scale(x, factor):
    bl.store(x, bl.load(x) * factor)


def act():
    scale.compile({"x": "*fp32", "factor": "fp32"}, num_warp=8)

# expected:
# error[BL708]: unknown option 'num_warp'
#   help: options: num_warps, num_stages, num_ctas, fp_fusion, debug, line_info
