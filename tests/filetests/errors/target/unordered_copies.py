"""A module whose consumer gives a slot back before it has it, as only a defect of the compiler
could make it.
"""

from blocklang.ir.parser import parse
from blocklang.ir.passes.prove_rings import ProveRings

TEXT = """\
#tile = layout<[8, 64], offset=[[0,1], [0,2], [0,4], [0,8], [0,16], [0,32], [1,8], [2,16], [4,32]]>
module {stage = "shared"}
kernel @k(%x: ptr<f16>, %n: i64) {num_warps = 4, shared_bytes = 1056} {
  %h = constant {value = 64} : i32
  %i1 = constant {value = 1} : i64
  %rows = make_tensor_descriptor %x, shape = [%h, %h], strides = [%n, %i1]
    {block_shape = [8, 64]} : descriptor<8x64xf16>
  %map = tensor_map %rows {axes = [0, 1], box = [8, 64], swizzle = 128} : tensor_map
  %zero = constant {value = 0} : i32
  %one = constant {value = 1} : i32
  %buffer = shared_alloc {offset = 0} : shared<8x64xf16, #tile>
  %full = mbarrier_alloc {arrivals = 1, offset = 1024} : mbarriers<1>
  %empty = mbarrier_alloc {arrivals = 4, offset = 1040} : mbarriers<1>
  warp_specialize consumer() {
    mbarrier_arrive %empty, %zero @1
    mbarrier_wait %full, %zero, %zero
    yield
  } producer() {
    mbarrier_wait %empty, %zero, %one
    mbarrier_expect %full, %zero {bytes = 1024}
    %slot = shared_slot %buffer, %zero : shared<8x64xf16, #tile>
    tma_load %map, indices = [%zero, %zero], %slot, %full, %zero
    yield
  }
  return
}
@1 = "k.bl":2:5-2:20
"""


def act():
    ProveRings()(parse(TEXT, "k.blir"))

# expected:
# k.bl:2:5: error[BL804]: a slot is given back that is not held
#   help: this is a mistake in the compiler: please report it with the kernel
