"""Pruning leaves nothing."""

import numpy as np

import blocklang
import blocklang.language as bl


@blocklang.autotune(
    [blocklang.Config({"BLOCK": 32}), blocklang.Config({"BLOCK": 64})],
    key=["n"],
    prune_configs_by={"early_config_prune": lambda configs, arguments: []},
)
@blocklang.jit
def scale(x, n, BLOCK: bl.constexpr):
    i = bl.arange(0, BLOCK)
    bl.store(x + i, 2 * bl.load(x + i, mask=i < n), mask=i < n)


def act():
    scale[(1,)](np.zeros(20, np.float32), 20)

# expected:
# error[BL715]: early_config_prune leaves no configuration of scale
#   help: let it return at least one of the 2 that it is given
