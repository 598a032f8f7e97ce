"""The stage `bl` of a compiled kernel: a `.bl` file that compiles to the same block IR.

The text is compiled again and its block IR compared with that of the kernel before it is shown. A
text that does not say the same, because the language has no words for something or because Python's
globals have changed since, says so in its first lines.
"""

from __future__ import annotations

import re

from blocklang.frontend import syntax
from blocklang.frontend.lower import lower_kernel
from blocklang.frontend.standalone import Binding, Seen, standalone
from blocklang.frontend.unparse import unparse
from blocklang.ir.core import Module
from blocklang.ir.diagnostics import CompileError
from blocklang.ir.parser import parse
from blocklang.ir.printer import print_module
from blocklang.signature import Bound, bind_signature


def kernel_text(tree: syntax.Function, bound: Bound, debug: bool, ir: str) -> str:
    """The `.bl` text of a kernel, compiled for `bound` to the block IR `ir`."""
    seen = Seen()
    notes: list[str] = []
    try:
        _lower(tree, bound, debug, seen)
    except CompileError as error:
        notes.append(
            f"Python's globals have changed since the kernel was compiled: {error.message}"
        )
    file, unwritten = standalone(tree, Binding(bound.types, bound.facts, bound.constexprs), seen)
    text = unparse(file)
    notes += unwritten
    difference = _difference(text, file.functions[-1].name, debug, ir)
    if difference:
        notes.append(difference)
    return "".join(f"# {' '.join(note.split())}\n" for note in notes) + text + "\n"


def comparable(module: Module) -> str:
    """The text of block IR without places, names of values and functions, and launch options."""
    for function in module.functions.values():
        function.attributes.clear()
        for block in (function.block, *(r.block for op in function.walk() for r in op.regions)):
            for value in (*block.arguments, *(result for op in block.ops for result in op.results)):
                value.name = ""
    names: dict[str, str] = {}
    return re.sub(
        r"(?<=@)\w+|(?<=callee = \")\w+",
        lambda match: names.setdefault(match[0], f"f{len(names)}"),
        print_module(module, locations=False),
    )


def _lower(tree: syntax.Function, bound: Bound, debug: bool, seen: Seen | None = None) -> Module:
    observe = seen.record if seen else None
    return lower_kernel(
        tree,
        bound.types,
        bound.facts,
        bound.constexprs,
        {"debug": debug},
        observe=observe,
        say=_silent,
    )


def _silent(_text: str) -> None:
    """Take what a kernel prints when it is compiled; it was printed the first time."""


def _difference(text: str, name: str, debug: bool, ir: str) -> str:
    """What is wrong with the text; empty if it compiles to the same."""
    from blocklang.frontend.text import load_text
    from blocklang.parser_tables import prepare_parser

    prepare_parser()
    try:
        tree = load_text(text, f"{name}.bl").kernels[name]
        again = _lower(tree, bind_signature(tree, {}, {}), debug)
    except CompileError as error:
        return f"this text does not compile: {error.message}"
    if comparable(again) != comparable(parse(ir)):
        return "this text compiles to other code than the kernel"
    return ""
