"""expand-descriptors keeps what accesses mean: random tensors, blocks and places, evaluated before
and after.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from blocklang.ir.evaluate import evaluate
from blocklang.ir.parser import parse
from blocklang.ir.passes.canonicalize import Canonicalize
from blocklang.ir.passes.expand_descriptors import ExpandDescriptors
from blocklang.ir.passes.manager import PassManager

FAR = 2**31


@st.composite
def accesses(draw: Any) -> dict[str, Any]:
    """A tensor within an array of its own, in any order of axes, and a block somewhere near it."""
    rank = draw(st.integers(1, 3))
    shape = [draw(st.integers(0, 5)) for _ in range(rank)]
    order = draw(st.permutations(range(rank)))
    strides, step = [0] * rank, 1
    for axis in order:
        strides[axis] = step
        step *= max(shape[axis], 1) + draw(st.integers(0, 2))
    block = [draw(st.sampled_from([1, 2, 4])) for _ in range(rank)]
    near = [draw(st.integers(-5, 6) | st.sampled_from([-FAR, FAR - 1, FAR - 3])) for _ in block]
    inside = [
        axis for axis in range(rank) if near[axis] >= 0 and near[axis] + block[axis] <= shape[axis]
    ]
    return {
        "shape": shape,
        "strides": strides,
        "block": block,
        "indices": near,
        "unchecked": sorted(draw(st.sets(st.sampled_from(inside)))) if inside else [],
        "padding": draw(st.sampled_from(["zero", "nan"])),
        "constants": draw(st.booleans()),
        "size": step,
    }


def kernel(case: dict[str, Any]) -> tuple[str, list[int]]:
    """The text of a kernel that loads, stores and adds, and its arguments besides the arrays."""
    numbers = [(f"n{i}", "i32", n) for i, n in enumerate(case["shape"])]
    numbers += [(f"s{i}", "i64", n) for i, n in enumerate(case["strides"])]
    numbers += [(f"i{i}", "i32", n) for i, n in enumerate(case["indices"])]
    given, lines = [(f"%{name}: {kind}", n) for name, kind, n in numbers], []
    if case["constants"]:
        lines = [f"%{name} = constant {{value = {n}}} : {kind}" for name, kind, n in numbers]
        given = []
    rank = range(len(case["block"]))
    shape = "x".join(map(str, case["block"]))
    block = f"block<{shape}xf32>"
    sizes, steps, places = (", ".join(f"%{kind}{i}" for i in rank) for kind in "nsi")
    options = f"unchecked = {case['unchecked']}"
    made = f"shape = [{sizes}], strides = [{steps}] {{block_shape = {case['block']}"
    lines += [
        f'%d = make_tensor_descriptor %x, {made}, padding = "{case["padding"]}"}}'
        f" : descriptor<{shape}xf32>",
        f"%v = descriptor_load %d, indices = [{places}] {{{options}}} : {block}",
        f"%c = constant {{value = 1.5}} : {block}",
        f"%w = add %v, %c : {block}",
        f"descriptor_store %d, indices = [{places}], %w {{{options}}}",
        f'descriptor_reduce %d, indices = [{places}], %c {{kind = "add", {options}}}',
        # What was loaded, padding included.
        f"%o = make_tensor_descriptor %y, shape = [{', '.join(f'%b{i}' for i in rank)}], "
        f"strides = [{', '.join(f'%t{i}' for i in rank)}] {{block_shape = {case['block']}}}"
        f" : descriptor<{shape}xf32>",
        f"descriptor_store %o, indices = [{', '.join('%zero' for _ in rank)}], %v",
    ]
    own = ["%zero = constant {value = 0} : i32"]
    for i in rank:
        own.append(f"%b{i} = constant {{value = {case['block'][i]}}} : i32")
        own.append(f"%t{i} = constant {{value = {math.prod(case['block'][i + 1 :])}}} : i64")
    head = ", ".join(["%x: ptr<f32>", "%y: ptr<f32>", *(text for text, _ in given)])
    body = "".join(f"  {line}\n" for line in (*own, *lines))
    return f"kernel @k({head}) {{\n{body}  return\n}}\n", [n for _, n in given]


@settings(max_examples=150, deadline=None)
@given(accesses())
def test_expansion_keeps_the_meaning(case: dict[str, Any]) -> None:
    text, numbers = kernel(case)
    results = []
    for passes in ([], [Canonicalize(), ExpandDescriptors(), Canonicalize()]):
        module = parse(text)
        PassManager(check=2).run(module, passes)
        x = np.arange(case["size"], dtype=np.float32) + 1
        y = np.zeros(math.prod(case["block"]), np.float32)
        evaluate(module, [x, y, *numbers])
        results.append((x, y))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
