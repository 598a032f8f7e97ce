"""The reference of the language, from the registry of its functions and the rules of its types."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

from blocklang.frontend import emission, typing_rules
from blocklang.frontend.attributes import ATTRIBUTES, TYPE_ATTRIBUTES, Query
from blocklang.frontend.builtins import BUILTINS, METHODS
from blocklang.frontend.builtins.descriptor import METHODS as DESCRIPTOR_METHODS
from blocklang.frontend.builtins.python import PYTHON
from blocklang.frontend.errors.types import MixedSignedness
from blocklang.frontend.values import Tensor, describe
from blocklang.ir.core import Module
from blocklang.ir.types import DTYPES, BlockType, DType, PointerType, dtype, f32, i32

from .markdown import fenced, paragraphs, table

# The order in which a reader wants the families; others follow.
_FAMILIES = (
    "program", "creation", "memory", "descriptor", "shape", "math", "reduce", "dot", "loops",
    "debug",
)  # fmt: skip


def families() -> dict[str, list[str]]:
    """The functions of the language by the module that defines them."""
    found: dict[str, list[str]] = {family: [] for family in _FAMILIES}
    for name, function in sorted(BUILTINS.items()):
        found.setdefault(function.__module__.rpartition(".")[2], []).append(name)
    return {family: names for family, names in found.items() if names}


def function_list() -> str:
    """Every function on one page's top, by family, with a link."""
    rows = [
        (f"[{family}](#functions-{family})", " ".join(f"[`{name}`](#{name})" for name in names))
        for family, names in families().items()
    ]
    return table(("", "Functions"), rows)


def functions() -> str:
    """A section for each family, with an entry for each function."""
    parts = []
    for family, names in families().items():
        module = import_module(BUILTINS[names[0]].__module__)
        parts.append(f"## Functions: {family}\n\n{paragraphs(module.__doc__ or '')[0]}\n")
        parts += [_entry(name) for name in names]
    return "\n".join(parts)


def _entry(name: str) -> str:
    function = BUILTINS[name]
    documentation = inspect.cleandoc(function.__doc__ or "")
    text, _, example = documentation.partition("\n\nExample: ")
    lines = [f"### {name}", "", fenced(signature(name), "python signature"), text, ""]
    fixed = [p.name for p in _parameters(function) if _is_static(p)]
    notes = []
    if fixed:
        are = "is a compile-time value" if len(fixed) == 1 else "are compile-time values"
        notes.append(f"{', '.join(f'`{p}`' for p in fixed)} {are}.")
    if name in METHODS:
        first, *others = [p.name for p in _parameters(function)]
        notes.append(f"Also a method of `{first}`: `{first}.{name}({'...' if others else ''})`.")
    if notes:
        lines += [" ".join(notes), ""]
    if example:
        lines += [fenced(code(example), "python example"), ""]
    return "\n".join(lines).rstrip() + "\n"


def descriptor_methods() -> str:
    """The methods of tensor descriptors."""
    rows = []
    for name, function in DESCRIPTOR_METHODS.items():
        _, *parameters = [p.name for p in _parameters(function)]
        text = inspect.cleandoc(function.__doc__ or "").partition("\n\nExample: ")[0]
        first = " ".join(text.partition("\n\n")[0].split())
        rows.append((f"`d.{name}({', '.join(parameters)})`", first))
    return table(("Method", "What it does"), rows)


def code(example: str) -> str:
    """The code of an example of a docstring, between one or three backquotes."""
    found = re.match(r"`([^`]+)`", example)
    assert found, f"not an example: {example}"
    return found[1]


def examples() -> dict[str, str]:
    """The example of each function that has one."""
    texts = {n: inspect.cleandoc(f.__doc__ or "") for n, f in BUILTINS.items()}
    found = {name: text.partition("\n\nExample: ")[2] for name, text in texts.items()}
    return {name: code(example) for name, example in found.items() if example}


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def _is_static(parameter: inspect.Parameter) -> bool:
    return str(parameter.annotation).startswith("Static")


def signature(name: str) -> str:
    """The signature as an author writes calls, without types."""
    parts = []
    only_keywords = False
    for parameter in _parameters(BUILTINS[name]):
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            parts.append(f"*{parameter.name}")
            only_keywords = True
            continue
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not only_keywords:
            parts.append("*")
            only_keywords = True
        default = parameter.default
        value = "" if default is inspect.Parameter.empty else f"={_value(default)}"
        parts.append(parameter.name + value)
    line = f"bl.{name}({', '.join(parts)})"
    if len(line) <= 96:
        return line
    return f"bl.{name}(\n" + "".join(f"    {part},\n" for part in parts) + ")"


def _value(default: Any) -> str:
    return f"bl.{default}" if isinstance(default, enum.Enum) else repr(default)


def dtypes() -> str:
    """The scalar types."""
    rows = []
    for kind in DTYPES.values():
        size = "1 byte in memory" if kind.is_bool else f"{kind.bytes} byte{'s' * (kind.bytes > 1)}"
        if kind.is_float:
            what = f"float, {kind.mantissa} fraction bits"
        elif kind.is_bool:
            what = "truth value"
        else:
            what = "integer, signed" if kind.is_signed else "integer, unsigned"
        rows.append((f"`bl.{kind.language_name}`", f"`{kind.name}`", what, size))
    return table(("In Python", "In `.bl` and IR text", "Values", "Size"), rows)


def promotion() -> str:
    """The common dtype of each two, as a table."""
    names = list(DTYPES)
    rows = []
    for left in names:
        cells = [common(left, right) for right in names]
        rows.append((f"**{left}**", *cells))
    return table(("`+ - *`", *names), rows)


def common(left: str, right: str, division: str = "") -> str:
    """The name of the common dtype of two dtypes, "error" where there is none."""
    try:
        return typing_rules.common_dtype(dtype(left), dtype(right), division=division).name
    except MixedSignedness:
        return "error"


def attributes() -> str:
    """The attributes of blocks and scalars, on an example."""
    example = Tensor(BlockType((4, 8), f32), None, 1.0)
    with emission.active(emission.Session(Module(), {})):
        rows = [(f"`x.{name}`", _shown(answer(example))) for name, answer in ATTRIBUTES.items()]
    return table(("Attribute", "Of a block `x` of float32 with shape (4, 8)"), rows)


def type_attributes() -> str:
    """The attributes and methods of types, on examples."""
    kinds = [f32, i32, dtype("i1"), PointerType(f32), BlockType((4, 8), f32)]
    rows = []
    single = []
    for name, answer in TYPE_ATTRIBUTES.items():
        answers = [answer(kind) for kind in kinds]
        call = "()" if isinstance(answers[0], Query) else ""
        if call and sum(answer(kind)() for kind in DTYPES.values()) == 1:
            single.append(f"`.{name}()`")
        else:
            rows.append((f"`.{name}{call}`", *map(_shown, answers)))
    header = ("", "float32", "int32", "int1", "pointer to float32", "block (4, 8) of float32")
    return f"{table(header, rows)}\nTrue of one dtype each: {', '.join(single)}.\n"


def _shown(answer: Any) -> str:
    if isinstance(answer, Query):
        return "yes" if answer() else ""
    if answer is None:
        return ""
    if isinstance(answer, Tensor):
        return describe(answer)
    if isinstance(answer, DType | PointerType | BlockType):
        return describe(answer).removeprefix("the type of ").removeprefix("the type ")
    return f"`{answer!r}`"


def python_functions() -> str:
    """Python's own functions that kernels can call."""
    names = [k.__name__ for k in PYTHON if getattr(k, "__module__", "") == "builtins"]
    return ", ".join(f"`{name}`" for name in sorted(names)) + "\n"
