"""The passes: each with its docstring and an example that it is run on.

The examples are `docs/examples/passes/NAME.blir`. Comments at the top of one say in plain words
what to look at; `// first:` names the passes that run before the one that is shown, `// as:` gives
that one options, and `// shows:` and `// hides:` say what its result must and must not contain.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
from dataclasses import dataclass, fields, replace

from blocklang import compile as pipelines
from blocklang.codegen.targets import gpu_target
from blocklang.ir import passes
from blocklang.ir.parser import parse
from blocklang.ir.passes.manager import PASSES, Pass, PassManager
from blocklang.ir.printer import print_module
from blocklang.ir.verify import verify

from .markdown import ROOT, fenced

TARGET = gpu_target("sm_90a")
FOLDER = ROOT / "docs" / "examples" / "passes"


def pipeline() -> str:
    """The lists of passes, as blocklang/compile.py has them."""
    functions = (
        pipelines.simplify, pipelines.layouts, pipelines.overlap, pipelines.shared_memory,
        pipelines.instructions, pipelines.proofs,
    )  # fmt: skip
    return fenced("\n\n".join(inspect.getsource(f).rstrip() for f in functions), "python source")


def in_order() -> list[Pass]:
    """Every pass once: those of the pipelines in their order, then the others."""
    for found in pkgutil.iter_modules(passes.__path__, f"{passes.__name__}."):
        importlib.import_module(found.name)
    run = [
        *pipelines.simplify(TARGET),
        *pipelines.layouts(TARGET),
        *pipelines.overlap(TARGET),
        *pipelines.shared_memory(TARGET),
        *pipelines.instructions(TARGET),
        *pipelines.proofs(TARGET),
    ]
    once = {each.name: each for each in reversed(run)}
    listed = [once.pop(each.name) for each in run if each.name in once]
    return [*listed, *(PASSES[name]() for name in sorted(PASSES) if name not in _names(listed))]


def _names(listed: list[Pass]) -> set[str]:
    return {each.name for each in listed}


def sections() -> str:
    """A section for each pass."""
    return "\n".join(map(_section, in_order()))


def _section(each: Pass) -> str:
    module = sys.modules[type(each).__module__]
    name, colon, documentation = (module.__doc__ or "").partition(": ")
    assert colon, f"the docstring of {name} starts with the name of the pass"
    path = f"blocklang/{module.__name__.removeprefix('blocklang.').replace('.', '/')}.py"
    text = documentation.strip()
    lines = [f"## {each.name}", "", text[0].upper() + text[1:], ""]
    options = [f"`{field.name}`" for field in fields(each)]
    source = f"Source: `{path}`."
    lines += [f"Options: {', '.join(options)}. {source}" if options else source, ""]
    shown = read_example(each)
    before, after = shown.run()
    lines += [shown.caption, "", fenced(before, "blir")]
    if before != after:
        lines += ["becomes", "", fenced(after, "blir")]
    return "\n".join(lines)


def excerpt(name: str, first: str, last: str) -> str:
    """Part of what a pass makes of its example: from the line with `first` to one with `last`."""
    (each,) = (each for each in in_order() if each.name == name)
    _, after = read_example(each).run()
    lines = after.splitlines()
    start = next(i for i, line in enumerate(lines) if first in line)
    end = next(i for i in range(start, len(lines)) if last in lines[i])
    return fenced(textwrap.dedent("\n".join(lines[start : end + 1])), "blir")


@dataclass(frozen=True)
class Example:
    """The example of a pass: what to look at, what runs before, the IR, and what must be seen.

    `shows` are texts that the result contains, and `hides` texts that it does not: so that the
    caption stays true.
    """

    caption: str
    shown: Pass
    first: tuple[Pass, ...]
    text: str
    shows: tuple[str, ...]
    hides: tuple[str, ...]

    def run(self) -> tuple[str, str]:
        """The text before and after the pass."""
        module = parse(self.text)
        verify(module)
        PassManager(check=2).run(module, self.first)
        # Printing and parsing again gives values the names that they have in the text.
        before = print_module(module, locations=False)
        PassManager(check=2).run(module, [self.shown])
        return before, print_module(module, locations=False)


_COMMAND = re.compile(r"// (first|as|shows|hides): (.*)")


def read_example(each: Pass) -> Example:
    """The example of a pass, from its file."""
    text = (FOLDER / f"{each.name}.blir").read_text(encoding="utf-8")
    commands: dict[str, list[str]] = {"first": [], "as": [], "shows": [], "hides": []}
    caption = []
    for line in text.splitlines():
        found = _COMMAND.fullmatch(line)
        if found:
            commands[found[1]].append(found[2])
        elif line.startswith("//"):
            caption.append(line.removeprefix("//").strip())
    known = {p.name: p for p in in_order()}
    return Example(
        " ".join(caption),
        _with_options(each, commands["as"][0]) if commands["as"] else each,
        tuple(
            _with_options(known[p.partition("{")[0]], p)
            for p in " ".join(commands["first"]).split()
        ),
        text,
        tuple(commands["shows"]),
        tuple(commands["hides"]),
    )


def _with_options(each: Pass, text: str) -> Pass:
    """The pass with the options of `name{option=number}`."""
    pairs = re.findall(r"(\w+)=(\d+)", text)
    return replace(each, **{name: int(value) for name, value in pairs})
