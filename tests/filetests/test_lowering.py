"""The block IR of each kind of statement and function, pinned: one kernel a file (README.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocklang.frontend.lower import lower_kernel
from blocklang.frontend.text import load_file
from blocklang.ir.parser import parse
from blocklang.ir.printer import print_module
from blocklang.signature import bind_signature

FOLDER = Path(__file__).parent / "lower"
MARK = "# expected:"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.bl")), ids=lambda path: path.stem)
def test_block_ir(path: Path, bless: bool) -> None:
    text = path.read_text(encoding="utf-8")
    source, _, comment = text.partition(f"\n{MARK}\n")
    expected = "\n".join(line.removeprefix("#")[1:] for line in comment.splitlines())
    (kernel,) = load_file(path).kernels.values()
    module = lower_kernel(kernel, bind_signature(kernel, {}, {}).types)
    assert print_module(parse(print_module(module))) == print_module(module)
    actual = print_module(module, locations=False).rstrip()
    if bless and actual != expected:
        pinned = "\n".join(f"# {line}".rstrip() for line in actual.splitlines())
        path.write_text(f"{source.rstrip()}\n\n{MARK}\n{pinned}\n", encoding="utf-8")
    else:
        assert actual == expected
