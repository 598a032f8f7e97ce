"""A module whose barrier is missing, as only a defect of the compiler could make it."""

from blocklang.ir.parser import parse
from blocklang.ir.passes.prove_barriers import ProveBarriers

TEXT = """\
#block = layout<[32], register=[], lane=[1, 2, 4, 8, 16], warp=[]>
#buffer = layout<[32], offset=[1, 2, 4, 8, 16]>
module {stage = "shared"}
kernel @k(%x: block<32xi32, #block>) {num_warps = 1, shared_bytes = 128} {
  %buffer = shared_alloc {offset = 0} : shared<32xi32, #buffer>
  shared_store %buffer, value = %x @1
  %y = shared_load %buffer : block<32xi32, #block> @2
  return
}
@1 = "k.bl":2:5-2:20
@2 = "k.bl":3:5-3:20
"""


def act():
    ProveBarriers()(parse(TEXT, "k.blir"))

# expected:
# k.bl:3:5: error[BL803]: bytes 0 to 127 of shared memory are written, then read without a barrier
#   note: written here by shared_store (k.bl:2:5)
#   note: read here by shared_load (k.bl:3:5)
#   help: this is a mistake in the compiler: please report it with the kernel
