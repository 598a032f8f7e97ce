"""Random kernels on a GPU do what the reference evaluator does, bit by bit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from blocklang import compile as pipeline
from blocklang.ir.printer import print_module
from blocklang.runtime import cuda, device_array, module
from blocklang.runtime.launcher import Launcher
from blocklang.runtime.specialise import Parameter
from tests.random_gpu_kernels import program

pytestmark = pytest.mark.gpu

SEEDS = range(200)


class Kernel:
    """What a launcher needs to know of compiled code."""

    parameters = ((0, "ptr"), (1, "ptr"), (2, "ptr"), (3, "i32"))
    written = frozenset({0, 1, 2})
    tensor_maps = None
    num_ctas = 1

    def __init__(self, files: dict[str, bytes], num_warps: int, specialisation: Any) -> None:
        metadata = json.loads(files["metadata"])
        self.specialisation = specialisation
        self.threads = 32 * num_warps
        self.function = module.load(
            files.get("cubin", files["ptx"].decode()),
            metadata["symbol"],
            device=specialisation.device,
            shared_bytes=metadata["shared_bytes"],
        )


@pytest.mark.parametrize("seed", SEEDS)
def test_random_kernel(seed: int) -> None:
    made = program(seed)
    files = made.compile(cuda.device(0).target)
    names = [Parameter(name) for name in "xyk"] + [Parameter("n", dtype="i32", specialize=False)]
    launcher = Launcher("random", names, {}, lambda s: Kernel(files, made.num_warps, s))
    arrays = [device_array(array) for array in made.arguments[:3]]
    launcher[(1,)](*arrays, made.arguments[3])
    cuda.synchronize()
    text = f"seed {seed}, {made.num_warps} warps\n{print_module(made.module, False)}"
    for found, expected in zip(arrays, made.expected, strict=True):
        np.testing.assert_array_equal(found.to_host(), expected, text)


def test_there_is_an_assembler_or_the_driver() -> None:
    files = program(0).compile(cuda.device(0).target)
    assert ("cubin" in files) == (pipeline.ptxas() is not None)
