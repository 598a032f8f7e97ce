"""The attention of examples/ on a real GPU, forward and backward, against float64: every
configuration, odd lengths, grouped queries, head sizes and dtypes.

What many launches are held to is computed once a process: tests that share it follow each other.
"""

from __future__ import annotations

import functools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import blocklang
from blocklang.runtime import cuda, device_array
from examples import flash_attention as attention
from tests.unit.test_flash_attention import TABLES, given, judge, reference

pytestmark = pytest.mark.gpu

BF16 = ml_dtypes.bfloat16
MASKS = pytest.mark.parametrize("causal", [False, True])
# Heads of queries and of keys; queries, keys.
SHAPES = pytest.mark.parametrize(
    "shape",
    [(2, 2, 256, 512), (4, 2, 300, 300), (6, 2, 129, 517), (1, 1, 1, 1), (3, 3, 64, 1000),
     (2, 1, 400, 200)],
    ids=lambda shape: "x".join(map(str, shape)),
)  # fmt: skip


def placed(arrays: dict[str, Any]) -> dict[str, Any]:
    """Copies on the GPU."""
    return {name: device_array(array) for name, array in arrays.items()}


@functools.lru_cache(maxsize=4)
def known(shape: tuple[int, ...], dtype: Any, causal: bool, backward: bool) -> Any:
    """What `given` gives, which is not to be written to, and the exact results."""
    example, inputs, results = given(shape, dtype, causal, backward)
    return example, inputs, results, reference(example, inputs)


def right(found: dict[str, Any], example: Any, inputs: Any, exact: dict[str, Any]) -> None:
    """Hold arrays on the GPU to what rounding allows."""
    kept = {name: exact[name] for name in exact if name in found}
    judge(example, inputs, {name: array.to_host() for name, array in found.items()}, kept)


def run(shape: tuple[int, ...], dtype: Any, causal: bool, backward: bool) -> None:
    """Launch as the examples do."""
    example, inputs, results, exact = known(shape, dtype, causal, backward)
    out = placed(results)
    example.run(**placed(inputs), **out)
    right(out, example, inputs, exact)


@pytest.fixture
def first_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of each table without measuring: to compile all takes several times as long."""
    choices = attention.choices
    monkeypatch.setattr(attention, "choices", lambda *given, **more: choices(*given, **more)[:1])


@MASKS
@SHAPES
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("size", [16, 64, 128, 256])
@pytest.mark.usefixtures("first_choice")
def test_shapes(shape: tuple[int, ...], size: int, causal: bool, backward: bool) -> None:
    run((*shape, size), BF16, causal, backward)


@MASKS
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("size", [16, 64, 128, 256])
def test_tuned(size: int, causal: bool, backward: bool) -> None:
    """For sizes that no other test has: what is remembered for these was not measured."""
    run((4, 2, 260, 420, size), BF16, causal, backward)


@MASKS
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.usefixtures("first_choice")
def test_dtypes(dtype: Any, backward: bool, causal: bool) -> None:
    run((4, 2, 200, 333, 64), dtype, causal, backward)


CONFIGURATIONS = [
    pytest.param(name, size, row, id=f"{name}-{size}-{'x'.join(map(str, row))}")
    for size in attention.FORWARD
    for name, table in TABLES.items()
    for row in table[size]
]


@pytest.mark.parametrize(("name", "size", "row"), CONFIGURATIONS)
@MASKS
@pytest.mark.parametrize("lengths", [(512, 512), (700, 901)], ids=["even", "odd"])
def test_configurations(
    lengths: tuple[int, int], name: str, size: int, row: tuple[int, ...], causal: bool
) -> None:
    """Few programs, so that each has several units and its rings go round."""
    if cuda.device(0).capability[0] != 9:
        pytest.skip("these are for GPUs with warpgroups")
    backward = name != "attention"
    example, inputs, results, exact = known((4, 2, *lengths, size), BF16, causal, backward)
    there, out = placed(inputs), placed(results)
    rows, columns, warps, stages = row
    heads, group, length, keys, scale, _ = attention.sizes(inputs["q"], inputs["k"], None)
    options = {"D": size, "CAUSAL": causal, "BM": rows, "BN": columns}
    options |= {"num_warps": warps, "num_stages": stages}
    if name != "attention_backward_keys":
        options["EVEN"] = keys % columns == 0
    if not backward:
        attention.attention[(5,)](
            *there.values(), *out.values(), heads, group, length, keys, scale, **options
        )
        right(out, example, inputs, exact)
        return
    room = out["stats"].shape[-1]
    attention.attention_backward_rows[(room // 32, heads)](
        there["o"], there["do"], there["lse"], out["stats"], length, room, D=size, BM=32
    )
    arrays = [there[each] for each in ("q", "k", "v", "do")]
    counts = (out["stats"], heads, group, length, room, keys, scale)
    if name == "attention_backward_queries":
        attention.attention_backward_queries[(5,)](*arrays, out["dq"], *counts, **options)
        kept = ("dq",)
    else:
        grid = (blocklang.cdiv(keys, columns), heads // group)
        attention.attention_backward_keys[grid](*arrays, out["dk"], out["dv"], *counts, **options)
        kept = ("dk", "dv")
    right({each: out[each] for each in kept}, example, inputs, exact)


def test_gradients_are_the_same_in_each_run() -> None:
    example, inputs, results = given((4, 2, 1000, 1000, 128), BF16, True, True)
    there, runs = placed(inputs), [placed(results) for _ in range(3)]
    for out in runs:
        example.run(**there, **out)
    for name in ("dq", "dk", "dv"):
        first, *others = (out[name].to_host() for out in runs)
        for other in others:
            np.testing.assert_array_equal(first.view(np.int16), other.view(np.int16))
