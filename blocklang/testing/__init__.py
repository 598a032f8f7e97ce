"""Measuring and checking kernels: `do_bench`, `do_bench_cudagraph`, `perf_report`, `assert_close`.

Names, arguments and defaults are those of `triton.testing`; all of it also works on the CPU,
except CUDA graphs. Importing the package loads neither a GPU library nor Matplotlib.
"""

from __future__ import annotations

from blocklang.testing.compare import assert_close
from blocklang.testing.measure import do_bench, do_bench_cudagraph
from blocklang.testing.report import Benchmark, perf_report

__all__ = ["Benchmark", "assert_close", "do_bench", "do_bench_cudagraph", "perf_report"]
