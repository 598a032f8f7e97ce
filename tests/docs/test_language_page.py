"""docs/language.md: every function has an example, and every example compiles."""

from __future__ import annotations

import linecache
import re

import pytest

from blocklang.frontend.attributes import ATTRIBUTES
from blocklang.frontend.builtins import BUILTINS
from tools.docs import language, markdown

# What the names of the examples stand for: one kernel per example begins with this.
PRELUDE = """\
import blocklang
import blocklang.language as bl

@blocklang.jit
def multiply(a, b):
    return a * b

@blocklang.jit
def kernel(x_pointer, y_pointer, counts, n, n_rows, start, stride, BLOCK: bl.constexpr,
           BLOCK_M: bl.constexpr, BLOCK_N: bl.constexpr):
    cols = bl.arange(0, BLOCK)
    rows = bl.arange(0, BLOCK)
    offsets = bl.program_id(0) * BLOCK + cols
    index = offsets
    bucket = cols % 16
    words = cols
    a = bl.load(x_pointer + cols)
    b = bl.load(x_pointer + cols)
    acc = bl.zeros((BLOCK,), bl.float32)
    row = a
    scores = a
    distances = a
    total = bl.sum(a)
    x = a
"""
TYPES = {"x_pointer": "*fp32:16", "y_pointer": "*fp32:16", "counts": "*i32:16"}
NUMBERS = dict.fromkeys(("n", "n_rows", "start", "stride"), "i32")
BLOCKS = {"BLOCK": 64, "BLOCK_M": 8, "BLOCK_N": 8}
DESCRIBED = [
    "rows = bl.make_tensor_descriptor(x_pointer, [n, n], [n, 1], [8, 64])",
    "i, j = start, stride",
]
# Where an example needs another `x` (or other names) than most.
DIFFERENT = {
    "advance": ["rows = bl.make_block_ptr(x_pointer, [n, n], [n, 1], [0, 0], [8, 64], [1, 0])"],
    "load_tensor_descriptor": DESCRIBED,
    "make_block_ptr": ["m = n"],
    "make_tensor_descriptor": ["m = n"],
    "store_tensor_descriptor": [*DESCRIBED, "block = rows.load([i, j])"],
    "dot": ["a = bl.zeros((16, 16), bl.float16)", "b = a", "acc = bl.zeros((16, 16), bl.float32)"],
    "permute": ["x = bl.reshape(x, (4, 4, 4))"],
    "trans": ["rows = bl.reshape(x, (8, 8))"],
    "view": ["x = bl.reshape(x, (8, 8))"],
    "to": ["total = x", "x = x.to(bl.float16)"],
}
# Those of which the example does not compile yet; the page says so.
NOT_YET = {"dot"}


def test_every_function_is_on_the_page() -> None:
    page = markdown.read("docs/language.md")
    for name in BUILTINS:
        assert f"\n### {name}\n" in page
    for name in ATTRIBUTES:
        assert f"`x.{name}`" in page


def test_every_function_has_an_example() -> None:
    assert set(language.examples()) == set(BUILTINS)


@pytest.mark.parametrize("name", sorted(set(language.examples()) - NOT_YET))
def test_example(name: str) -> None:
    lines = [*DIFFERENT.get(name, []), *language.examples()[name].split("\n")]
    if lines[-1].endswith(":"):
        lines.append("    pass")
    source = PRELUDE + "".join(f"    {line}\n" for line in lines)
    assert re.search(rf"\b{name}\(", source)
    file = f"<example of {name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    namespace: dict[str, object] = {}
    exec(compile(source, file, "exec"), namespace)
    namespace["kernel"].compile({**TYPES, **NUMBERS}, BLOCKS)  # type: ignore[attr-defined]
