"""Rewrite rules and the driver that applies them until nothing changes.

A rule is a function decorated with `@rule(OpClass)` that takes the op and a builder standing
before it, and returns None (no match), a value, or a list of values that replace the op's results.
Rules are directional and never make code worse. Ops with effects are only offered to rules that
name their class. Every rule counts its hits; a test lists rules that no test fires.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .builder import Builder
from .core import Function, Operation, Value
from .op import Op

Replacement = Value | Sequence[Value] | None


@dataclass(eq=False)
class Rule:
    """One rewrite: the classes it applies to, and what it does."""

    classes: tuple[type[Op], ...]
    apply: Callable[..., Replacement]
    hits: int = 0

    @property
    def name(self) -> str:
        """The name of the rule's function."""
        return self.apply.__name__


RULES: list[Rule] = []


def rule(*classes: type[Op]) -> Callable[[Callable[..., Replacement]], Rule]:
    """Declare a rewrite rule for ops of `classes` (subclasses included)."""

    def declare(function: Callable[..., Replacement]) -> Rule:
        made = Rule(classes, function)
        RULES.append(made)
        return made

    return declare


def rewrite(function: Function, rules: Iterable[Rule]) -> bool:
    """Apply `rules` everywhere in `function` until none matches, removing pure ops that become
    unused.
    """
    rules = list(rules)
    by_class: dict[type, list[Rule]] = {}
    changed = False
    # The list is a stack: operands of a replaced op and users of its replacement are looked at
    # again.
    pending = dict.fromkeys(reversed(list(function.walk())))
    while pending:
        op, _ = pending.popitem()
        if op.parent is None:
            continue
        assert isinstance(op, Op)
        if op.is_pure and not any(r.uses for r in op.results):
            again = _sources(op)
            _forget(op, pending)
            op.erase()
            pending.update(again)
            changed = True
            continue
        kind = type(op)
        if kind not in by_class:
            by_class[kind] = [r for r in rules if issubclass(kind, r.classes)]
        if not by_class[kind]:
            continue
        builder = Builder.before(op)
        start = builder.index
        for each in by_class[kind]:
            replacement = each.apply(op, builder)
            if replacement is None:
                assert builder.index == start, f"rule {each.name} built ops and gave up"
                continue
            each.hits += 1
            changed = True
            again = dict.fromkeys(user for result in op.results for user in result.users)
            again |= _sources(op)
            if op.parent_op is not None:
                again[op.parent_op] = None  # may have lost its effects
            for made in op.parent.ops[start : builder.index]:
                again |= dict.fromkeys(made.walk())
            _forget(op, pending)
            op.replace_with([replacement] if isinstance(replacement, Value) else replacement)
            pending.update(again)
            break
    return changed


def _sources(op: Operation) -> dict[Operation, None]:
    """The ops outside `op` that define what it and its regions read."""
    inside = dict.fromkeys(op.walk())
    owners = [value.owner for inner in inside for value in inner.operands]
    return {o: None for o in owners if isinstance(o, Operation) and o not in inside}


def _forget(op: Operation, pending: dict[Operation, None]) -> None:
    for inner in op.walk():
        pending.pop(inner, None)
