"""The ops, rules and invariants of the IR."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from pathlib import Path

from blocklang.frontend.lower import lower_kernel
from blocklang.frontend.text import load_file
from blocklang.ir import verify
from blocklang.ir.core import Module
from blocklang.ir.op import REGISTRY, Effect, Field, Op
from blocklang.ir.passes import canonicalize
from blocklang.ir.printer import print_module
from blocklang.ir.rewrite import Rule
from blocklang.signature import bind_signature

from .markdown import ROOT, fenced, first_sentence, table


def invariants() -> str:
    """The numbered list of the verifier."""
    _, _, listed = (verify.__doc__ or "").partition("\n\n")
    items = re.split(r"^(?=\d+\. )", listed, flags=re.MULTILINE)
    return "\n".join(" ".join(item.split()) for item in items if item.strip()) + "\n"


def ops(module: str) -> str:
    """The ops of one module of blocklang/ir/ops: declaration in short, and meaning."""
    found = [op for op in REGISTRY.values() if op.__module__.endswith(f".ops.{module}")]
    rows = [
        (
            f"`{op.mnemonic}`",
            _fields(op),
            _effects(op),
            first_sentence(inspect.cleandoc(op.__doc__ or "")),
        )
        for op in found
    ]
    return table(("Op", "Operands, `{attributes}`, (regions)", "Effects", "Meaning"), rows)


def _fields(op: type[Op]) -> str:
    operands = [_operand(field) for field in op.fields_of("operand")]
    attributes = [field.name for field in op.fields_of("attribute")]
    regions = [field.name for field in op.fields_of("region")]
    text = ", ".join(operands)
    text += f" `{{{', '.join(attributes)}}}`" if attributes else ""
    text += f" ({', '.join(regions)})" if regions else ""
    return text.strip()


def _operand(field: Field) -> str:
    mark = {"single": "", "optional": "?", "variadic": "*"}[field.mode]
    return f"{field.name}{mark}"


def _effects(op: type[Op]) -> str:
    if op.is_terminator:
        return "terminator"
    return ", ".join(str(e.name).lower() for e in Effect if e in op.effects)


def rules(kind: str) -> str:
    """The rules of canonicalize: name, the ops they are for, and what they do."""
    assert kind == "canonicalize"
    return table(("Rule", "Ops", "What it does"), map(_rule, canonicalize.CANONICALIZATIONS))


def _rule(rule: Rule) -> Iterable[str]:
    text = " ".join(inspect.cleandoc(rule.apply.__doc__ or "").split())
    classes = ", ".join(_name(each) for each in rule.classes)
    return f"`{rule.name}`", classes, text


def _name(op: type[Op]) -> str:
    return f"`{op.mnemonic}`" if op.mnemonic else "any" if op is Op else op.__name__


def lowered(path: str) -> str:
    """A .bl file and the block IR of its last kernel."""
    module = block_ir(ROOT / path)
    text = print_module(module, locations=False)
    return fenced((ROOT / path).read_text(encoding="utf-8"), "bl") + "\n" + fenced(text, "blir")


def block_ir(path: Path) -> Module:
    """The last kernel of a .bl file as block IR; its signature says everything."""
    *_, kernel = load_file(path).kernels.values()
    bound = bind_signature(kernel, {}, {})
    return lower_kernel(kernel, bound.types, bound.facts, bound.constexprs)
