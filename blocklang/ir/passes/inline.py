"""inline: replaces every call by the callee's body; locations gain the call as their caller.

Functions have no recursion (the front end refuses it) and one `return`, at the end. Functions that
nobody calls any more go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from blocklang.ir.core import Function, Module, Value, clone
from blocklang.ir.ops.control import Call

from .manager import Pass


@dataclass(frozen=True)
class Inline(Pass):
    """Inline all calls into the kernel."""

    name: ClassVar[str] = "inline"

    def _run(self, module: Module) -> None:
        for function in module.functions.values():
            _inline_calls(module, function)
        if any(f.is_kernel for f in module.functions.values()):
            module.functions = {n: f for n, f in module.functions.items() if f.is_kernel}


def _inline_calls(module: Module, function: Function) -> None:
    calls = [op for op in function.walk() if isinstance(op, Call)]
    for call in calls:
        callee = module.functions[call.callee]
        _inline_calls(module, callee)
        _inline(call, callee)


def _inline(call: Call, callee: Function) -> None:
    mapping: dict[Value, Value] = dict(zip(callee.arguments, call.operands, strict=True))
    block = call.parent
    assert block is not None
    position = block.ops.index(call)
    *body, terminator = callee.block.ops
    for op in body:
        block.insert(position, clone(op, mapping, lambda loc: loc.called_from(call.loc)))
        position += 1
    call.replace_with([mapping.get(v, v) for v in terminator.operands])
