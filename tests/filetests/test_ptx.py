"""The PTX of small kernels: CHECK lines for what matters, and the whole text as it is now.

`ptx/*.bl` are kernels; the first line has the options of the compilation. The text beside each
(`.ptx`) is for people who review changes of code generation, and depends on the version of LLVM:
with another one, only the CHECK lines are looked at. `--bless` rewrites it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from blocklang.codegen import llvm
from blocklang.kernel import load
from tests.filetests.test_filetests import Case, check

FOLDER = Path(__file__).parent / "ptx"
FILES = sorted(FOLDER.glob("*.bl"))


def options_of(source: str) -> dict[str, Any]:
    """`name=value` pairs of the first line."""
    options: dict[str, Any] = {"line_info": False}
    for name, value in re.findall(r"(\w+)=(\S+)", source.splitlines()[0]):
        options[name] = value if name == "target" else ast.literal_eval(value)
    return options


def text_of(ptx: str) -> str:
    """PTX without what says nothing: blank lines, LLVM's comments and tabs."""
    lines = (re.sub(r"\s+", " ", line).strip() for line in ptx.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//")) + "\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_ptx(path: Path, bless: bool) -> None:
    source = path.read_text(encoding="utf-8")
    kernel = getattr(load(path), path.stem)
    # The path of the source file, which line information has, differs from checkout to checkout.
    ptx = text_of(kernel.compile(**options_of(source)).asm["ptx"]).replace(str(path.parent), "")
    assert "CHECK" in source
    check(Case(path, 1, "", source.replace("# CHECK", "// CHECK")), ptx)
    version = f"// {llvm.version().partition(', ')[2]}"
    expected = path.with_suffix(".ptx")
    if bless:
        expected.write_text(f"{version}\n{ptx}", encoding="utf-8")
    blessed_version, _, text = expected.read_text(encoding="utf-8").partition("\n")
    if blessed_version == version:
        assert ptx == text, "the PTX has changed: review it, then run pytest --bless"


def test_there_is_a_text_for_each_kernel() -> None:
    assert FILES
    assert [path.with_suffix(".ptx") for path in FILES] == sorted(FOLDER.glob("*.ptx"))
