"""Kernels of Python files that are tuned or have heuristics: `blc` compiles the kernel itself."""

from __future__ import annotations

SOURCE = """\
import blocklang
import blocklang.language as bl


@blocklang.autotune([blocklang.Config({"BLOCK": 64}), blocklang.Config({"BLOCK": 128})], key=["n"])
@blocklang.heuristics({"EVEN": lambda arguments: arguments["n"] % arguments["BLOCK"] == 0})
@blocklang.jit
def fill(x: "*fp32", n: "i32", BLOCK: bl.constexpr, EVEN: bl.constexpr):
    i = bl.arange(0, BLOCK)
    if EVEN:
        bl.store(x + i, 1)
    else:
        bl.store(x + i, 1, mask=i < n)
"""


def test_values_are_those_of_the_command_line(blc):
    blc.write("fill.py", SOURCE)
    blc("fill.py", "-o", "fill.ptx", "--target", "sm_80", "-D", "BLOCK=256", "-D", "EVEN=True")
    assert ".entry fill" in (blc.folder / "fill.ptx").read_text()


def test_what_would_be_chosen_has_to_be_given(blc):
    blc.write("fill.py", SOURCE)
    outcome = blc("fill.py", "-o", "fill.ptx", "--target", "sm_80", "-D", "EVEN=True", code=1)
    assert "the compile-time parameter 'BLOCK' of fill has no value" in outcome.err
