"""The examples of docs/internals/passes.md show what their captions say."""

from __future__ import annotations

import pytest

from blocklang.ir.passes.manager import PASSES, Pass
from tools.docs import passes


def test_every_pass_is_described() -> None:
    assert {each.name for each in passes.in_order()} == set(PASSES)


@pytest.mark.parametrize("each", passes.in_order(), ids=lambda each: each.name)
def test_example(each: Pass) -> None:
    example = passes.read_example(each)
    _, after = example.run()
    for text in example.shows:
        assert text in after
    for text in example.hides:
        assert text not in after
    assert example.shows or example.hides or each.name == "prove-barriers"
    assert example.caption.endswith(".")
