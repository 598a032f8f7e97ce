"""Divisibility of integers in what a launch knows, and what it is good for: rows that the tensor
memory accelerator copies.
"""

from __future__ import annotations

import pytest

import blocklang
import blocklang.language as bl
from blocklang.runtime.arrays import Argument
from blocklang.runtime.specialise import ArgumentFacts, Parameter, argument_facts
from blocklang.signature import bind_facts


@pytest.mark.parametrize(
    ("value", "divisor"), [(0, 16), (328, 8), (-24, 8), (336, 16), (332, 1), (1, 1), (2**40 + 8, 8)]
)
def test_divisors_of_integers(value: int, divisor: int) -> None:
    def known(**settings: bool) -> int:
        argument = Argument("integer", "i64", value)
        return argument_facts(Parameter("n", **settings), argument, "k").divisible

    assert known() == divisor
    assert known(specialize=False) == known(specialize_alignment=False) == 1


@pytest.mark.parametrize(("value", "divisor"), [(4096, 16), (4104, 1)])
def test_addresses_are_divisible_by_16_or_not(value: int, divisor: int) -> None:
    facts = argument_facts(Parameter("x"), Argument("array", "f32", value), "k")
    assert facts.divisible == divisor


@blocklang.jit
def copy(x, y, rows, columns):
    source = bl.make_tensor_descriptor(x, [rows, columns], [columns, 1], [64, 64])
    target = bl.make_tensor_descriptor(y, [rows, columns], [columns, 1], [64, 64])
    target.store([0, 0], source.load([0, 0]))


@pytest.mark.parametrize(
    ("dtype", "columns", "possible"),
    [("bf16", 328, True), ("bf16", 332, False), ("f32", 328, True), ("i8", 328, False),
     ("i8", 336, True)],
)  # fmt: skip
def test_rows_that_are_multiples_of_16_bytes(dtype: str, columns: int, possible: bool) -> None:
    """So are 328 elements of 16 bits, though 16 does not divide 328."""
    number = argument_facts(Parameter("n"), Argument("integer", "i32", columns), "copy")
    array = ArgumentFacts("array", dtype, 16)
    rows = ArgumentFacts("integer", "i32")
    bound = bind_facts(copy.__blocklang_function__, (array, array, rows, number))
    divisible = bound.facts["columns"].get("divisible", 1)
    types = {"x": f"*{dtype}:16", "y": f"*{dtype}:16", "rows": "i32"}
    found = copy.compile({**types, "columns": f"i32:{divisible}"}, target="sm_90a")
    assert ("cp.async.bulk.tensor" in found.asm["ptx"]) == possible
