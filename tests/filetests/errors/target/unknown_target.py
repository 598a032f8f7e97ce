"""A target that does not exist."""

import blocklang
import blocklang.language as bl


@blocklang.jit
def scale(x, factor):
    bl.store(x, bl.load(x) * factor)


def act():
    scale.compile({"x": "*fp32", "factor": "fp32"}, target="sm_9")

# expected:
# error[BL603]: unknown target 'sm_9'
#   help: known targets: cpu, sm_75, sm_80, sm_86, sm_87, sm_89, sm_90, sm_90a, sm_100, sm_100a, sm_103, sm_103a, sm_110, sm_110a, sm_120, sm_120a, sm_121, sm_121a
