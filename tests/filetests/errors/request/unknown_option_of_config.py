"""An option that configurations do not have."""

import blocklang


def act():
    blocklang.Config({"BLOCK": 32}, num_warp=8)

# expected:
# error[BL708]: unknown option 'num_warp'
#   help: options: num_warps, num_stages, num_ctas, fp_fusion, debug, line_info
