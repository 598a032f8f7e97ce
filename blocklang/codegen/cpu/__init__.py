"""Native code for CPUs, from the block IR before layouts.

    code = compile_cpu(module, host_target())      # module: stage "block", math expanded
    code.address                                   # of i32 (parameters, grid_x, ..., scratch)

A kernel becomes a function that runs a range of the grid's programs, one after the other. How:

- `planner` makes a `plan`: `grouping` puts ops with effects and reductions into loop nests,
  `keeping` decides which values are stored between nests and which are computed again (`cost`,
  `strides`, `places`), `products` how the operands of matrix products are stored, `conflicts`
  which accesses may be interleaved, `vectors` along which dimension chunks extend, `scratch` where
  buffers lie. `show` prints it.
- The `emitter` computes values chunk by chunk; `nest` writes loops, `reduce` accumulators, `memory`
  and `atomics` accesses, `dot` matrix products, `guards` run-time checks of addresses, `control`
  branches and loops, `debug` prints and assertions, `division` quotients of integers, `program`
  indices.
- `kernel` puts it together and `host` makes object code of it and loads it.
"""

from .host import cpu_target, host_target
from .kernel import CpuCode, CpuOptions, compile_cpu

__all__ = ["CpuCode", "CpuOptions", "compile_cpu", "cpu_target", "host_target"]
