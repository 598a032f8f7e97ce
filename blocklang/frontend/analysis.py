"""What is known of statements before they are compiled: assigned names, and ways out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from . import syntax


def target_names(target: syntax.Expression) -> Iterator[str]:
    """The names in an assignment's target."""
    if isinstance(target, syntax.Name):
        yield target.name
    elif isinstance(target, syntax.Tuple):
        for item in target.items:
            yield from target_names(item)


def assigned_names(statements: Iterable[syntax.Statement]) -> dict[str, None]:
    """The names that statements may assign, in order of first appearance."""
    names: dict[str, None] = {}
    for statement in statements:
        for node, _ in syntax.walk(statement):
            if isinstance(node, syntax.Assign):
                for target in node.targets:
                    names.update(dict.fromkeys(target_names(target)))
            elif isinstance(node, syntax.AugmentedAssign | syntax.AnnotatedAssign | syntax.For):
                names.update(dict.fromkeys(target_names(node.target)))
    return names


def exits(statement: syntax.Statement) -> bool:
    """Whether `statement` may leave the statements around it: return, break or continue."""
    if isinstance(statement, syntax.Return | syntax.Break | syntax.Continue):
        return True
    if isinstance(statement, syntax.If):
        return any(map(exits, (*statement.then, *statement.otherwise)))
    if isinstance(statement, syntax.For | syntax.While):
        # Its `break` and `continue` are its own.
        return any(isinstance(node, syntax.Return) for node, _ in syntax.walk(statement))
    return False


def has_break(statements: Iterable[syntax.Statement]) -> bool:
    """Whether the loop with this body has a `break` of its own."""
    for statement in statements:
        if isinstance(statement, syntax.Break):
            return True
        if isinstance(statement, syntax.If) and has_break((*statement.then, *statement.otherwise)):
            return True
    return False
