"""A plan as text for people: one line for each thing that happens, values named as in the IR."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from blocklang.ir.core import Function, Result, Value
from blocklang.ir.op import Op
from blocklang.ir.ops.memory import Load
from blocklang.ir.printer import Printer

from .plan import Control, Evaluate, Nest, Plan


def show(plan: Plan, kernel: Function) -> str:
    """The plan of `kernel` as text."""
    printer = Printer(locations=False)
    printer.function(kernel, [])
    return "\n".join(_Show(printer).plan(plan, 0)) + "\n"


class _Show:
    def __init__(self, printer: Printer) -> None:
        self.printer = printer

    def plan(self, plan: Plan, depth: int) -> Iterator[str]:
        pad = "  " * depth
        for level in plan.levels:
            yield from (pad + self.op(op) for op in level.scalars)
            if isinstance(level.step, Nest):
                yield from (pad + line for line in self.nest(level.step))
            elif isinstance(level.step, Control):
                yield pad + self.op(level.step.op)
                for field, region in zip(
                    level.step.op.fields_of("region"), level.step.regions, strict=True
                ):
                    yield f"{pad}  {field.name}:"
                    yield from self.plan(region, depth + 2)

    def nest(self, nest: Nest) -> Iterator[str]:
        shape = " x ".join(map(str, nest.shape))
        along = f", vectors along dimension {nest.vector}" if nest.shape else ""
        yield f"nest over {shape or 'nothing'}{along}"
        for value, buffer in nest.reads.items():
            yield f"  reads {self.names([value])} at scratch + {buffer.storage.offset}"
        for value in dict.fromkeys(v for v, _ in nest.seen):
            if isinstance(value, Result) and isinstance(value.op, Load):
                yield f"  loads {self.op(value.op)}"
        for action in nest.actions:
            if isinstance(action, Evaluate):
                if action.buffer is not None:
                    place = f"scratch + {action.buffer.storage.offset}"
                    yield f"  keeps {self.names([action.value])} at {place}"
            else:
                later = "afterwards " if action.op in nest.staged else ""
                yield f"  {later}{self.op(action.op)}"
        if nest.guards:
            yield f"  stores in the same pass if {len(nest.guards)} pairs of accesses do not meet"

    def op(self, op: Op) -> str:
        results = f"{self.names(op.results)} = " if op.results else ""
        shown = self.printer.operands(op)
        if not op.operands and op.attributes:
            shown = self.printer.attributes(op.attributes)
        return f"{results}{op.mnemonic} {shown}"

    def names(self, values: Iterable[Value]) -> str:
        return ", ".join(map(self.printer.name, values))
