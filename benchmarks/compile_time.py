"""Time from a kernel's source to a launched kernel, with empty caches: ours and Triton's, in one
run.

    python -m benchmarks.compile_time results.json

A process compiles the kernels one after the other, behind another one that has warmed it up
(imports, driver, assembler found), as later kernels of a program are. Triton's figure includes its
launcher, as ours does. Medians over several processes, which both take in turns.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from benchmarks.record import Results, parser

PRODUCTS = ("product by pointers 128x256x64", "persistent product 128x256x64")
ATTENTION = "attention 128x128"
WARM_UP = "warm-up"
PROCESSES = 7


def kernels(provider: str) -> dict[str, Callable[[], object]]:
    """The first launches to be timed."""
    import torch

    if provider == "triton":
        from benchmarks.triton_rows import empty, layernorm, softmax
    else:
        from benchmarks.launch_overhead import empty
        from examples.layernorm import layernorm
        from examples.softmax import softmax
    x = torch.randn(64, 1024, device="cuda")
    long = torch.randn(2, 65536, device="cuda")
    w, mean = torch.randn(1024, device="cuda"), torch.empty(64, device="cuda")
    return {
        WARM_UP: lambda: empty[(1,)](x, x, x, 16, 2, 3, 4, 5),
        "softmax 1024": lambda: softmax[(64,)](x, x, 1024, 1024, BLOCK=1024, num_warps=4),
        "layernorm 1024": lambda: layernorm[(64,)](
            x, x, w, w, mean, mean, 1024, 1024, 1e-5, BLOCK=1024, num_warps=4
        ),
        "softmax 65536": lambda: softmax[(2,)](long, long, 65536, 65536, BLOCK=65536, num_warps=4),
        **dict(zip(PRODUCTS, products(provider), strict=True)),
        ATTENTION: attention(provider),
    }


def attention(provider: str) -> Callable[[], object]:
    """The first launch of causal attention, 128 queries by 128 keys."""
    import torch

    q = torch.randn(16, 1024, 128, device="cuda", dtype=torch.bfloat16)
    lse = torch.empty(16, 1024, device="cuda")
    blocks = {"D": 128, "CAUSAL": True, "BM": 128, "BN": 128, "num_warps": 8, "num_stages": 2}
    if provider == "triton":
        from benchmarks import triton_attention as peer

        return lambda: peer.attention[(8, 16)](q, q, q, q, lse, 1024, 0.1, **blocks)
    from examples import flash_attention

    return lambda: flash_attention.attention[(64,)](
        q, q, q, q, lse, 16, 1, 1024, 1024, 0.1, EVEN=True, **blocks
    )


def products(provider: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """The first launches of matrix products: by pointers, and persistent with descriptors."""
    import torch

    a = torch.randn(1024, 1024, device="cuda", dtype=torch.bfloat16)
    strides = (1024, 1, 1024, 1, 1024, 1)
    options = {"GROUP": 8, "num_stages": 3, "num_warps": 8}
    if provider == "triton":
        from triton.tools.tensor_descriptor import TensorDescriptor

        from benchmarks import triton_gemm as peer

        tile = {"BM": 128, "BN": 256, "BK": 64, **options}
        blocks = ([128, 64], [256, 64], [128, 256])
        described = [TensorDescriptor.from_tensor(a, block) for block in blocks]
        return (
            lambda: peer.pointers[(32,)](a, a, a, 1024, 1024, 1024, *strides, **tile),
            lambda: peer.persistent[(32,)](*described, 1024, 1024, 1024, 32, PARTS=1, **tile),
        )
    from examples import gemm

    tile = {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, **options}
    return (
        lambda: gemm.gemm_pointers[(32,)](a, a, a, 1024, 1024, 1024, *strides, **tile),
        lambda: gemm.gemm[(32,)](a, a, a, 1024, 1024, 1024, TRANSPOSED=True, **tile),
    )


def child(provider: str) -> None:
    """Time each first launch in this process and print milliseconds as JSON."""
    found = {}
    for name, launch in kernels(provider).items():
        gc.collect()  # what others have left is not this compilation's to clear away
        start = time.perf_counter()
        launch()
        found[name] = (time.perf_counter() - start) * 1e3
    print(json.dumps(found))


def run(provider: str) -> dict[str, float]:
    """What a fresh process with empty caches measures."""
    with tempfile.TemporaryDirectory() as folder:
        caches = {"BLOCKLANG_CACHE_DIR": folder, "TRITON_CACHE_DIR": folder}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.compile_time", "--child", provider],
            capture_output=True, text=True, check=True, env={**os.environ, **caches},
        )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure both providers, or be one of their processes."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2])
        return
    arguments = parser(__doc__.splitlines()[0]).parse_args()
    results = Results(arguments.commit)
    runs: dict[str, list[dict[str, float]]] = {"triton": [], "blocklang": []}
    for _ in range(PROCESSES):
        for provider, found in runs.items():
            found.append(run(provider))
    for provider, found in runs.items():
        for case in found[0]:
            if case != WARM_UP:
                each = [one[case] for one in found]
                results.add(
                    "first_launch", case, provider, ms=statistics.median(each), runs_ms=each
                )
    results.write(arguments.output)


if __name__ == "__main__":
    main()
