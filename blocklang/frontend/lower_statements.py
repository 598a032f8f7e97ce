"""Statements, one after the other: branches, unrolled loops, and the ways out of a list of them.

A compile-time `if` is replaced by the statements of its live branch, and an unrolled loop by its
iterations, so that one list holds whatever comes next. A runtime `if` that may leave the list
(return, break, continue) is compiled with everything that follows in both of its branches; each
branch ends the list, and the results are merged. Any other runtime `if` merges the variables.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from blocklang.ir.core import Region
from blocklang.ir.diagnostics import CompileError, located
from blocklang.ir.location import Location

from . import analysis, constexpr, conversion, emission, merge, syntax
from .builtins.python import iterate
from .errors.operations import ReturnInLoop, TooManyExits
from .errors.types import NotACondition, ReturnTypes
from .lower_simple import SimpleStatements
from .scope import Binding
from .values import Range, Tensor, Unset, describe

MAX_EXITS = 100
"""Runtime branches with an exit in one function: what follows them is compiled several times."""


@dataclass(frozen=True)
class Bind(syntax.Statement):
    """Starts an iteration of an unrolled loop: binds its variable."""

    target: syntax.Expression
    value: Any


@dataclass(frozen=True)
class Mark(syntax.Statement):
    """Ends an iteration of an unrolled loop, or the loop: where `continue` and `break` lead."""

    is_end: bool


@dataclass(frozen=True)
class Exit:
    """A list of statements ended with a way out, or in all its branches; `value` comes out."""

    value: Any
    location: Location


class Statements(SimpleStatements):
    """The statements of a function."""

    exit_count = 0
    in_loop = False
    """Whether a runtime loop is around."""
    exit_names: Sequence[str] | None = None
    """The variables that come out of the list being compiled; None where it is a function's."""

    def run(self, statements: Iterable[syntax.Statement]) -> Exit | None:
        """Compile statements; None if their end is reached."""
        pending = deque(statements)
        builder = self.session.builder
        while pending:
            statement = pending.popleft()
            builder.loc = statement.location
            try:
                ended = self._statement(statement, pending)
            except CompileError as error:
                if error.location is None:
                    error.location = statement.location
                raise
            if ended is not None:
                return ended
        return None

    def _statement(
        self, statement: syntax.Statement, pending: deque[syntax.Statement]
    ) -> Exit | None:
        if isinstance(statement, syntax.If):
            return self._if(statement, pending)
        if isinstance(statement, syntax.Return):
            return self._return(statement)
        if isinstance(statement, syntax.Break | syntax.Continue):
            return self._leave(statement, pending)
        if isinstance(statement, syntax.For):
            self._for(statement, pending)
        elif isinstance(statement, Bind):
            self.assign(statement.target, statement.value, statement.target.location)
        elif not isinstance(statement, Mark):
            getattr(self, "statement_" + type(statement).__name__)(statement)
        return None

    # ------------------------------------------------------------ ways out

    def _return(self, node: syntax.Return) -> Exit:
        if self.in_loop:
            raise ReturnInLoop()
        value = None if node.value is None else self.evaluate(node.value)
        return Exit(constexpr.runtime_value(value), node.location)

    def _leave(
        self, node: syntax.Break | syntax.Continue, pending: deque[syntax.Statement]
    ) -> Exit | None:
        is_break = isinstance(node, syntax.Break)
        while pending:
            statement = pending.popleft()
            if isinstance(statement, Mark) and (statement.is_end or not is_break):
                return None
        if is_break:
            self.set_broken(node.location)
        return Exit(self.exit_values(), node.location)

    def set_broken(self, location: Location) -> None:
        """Note that the innermost runtime loop ends."""
        raise NotImplementedError

    def exit_values(self) -> tuple[Any, ...]:
        """What the variables that come out of the list hold now."""
        assert self.exit_names is not None
        unset = Unset("it is assigned on some ways only", "assign it before")
        variables = self.scope.variables
        return tuple(
            variables[name].value if name in variables else unset for name in self.exit_names
        )

    def end_value(self) -> Any:
        """What comes out where the end of the statements is reached."""
        return None if self.exit_names is None else self.exit_values()

    # ------------------------------------------------------------ if

    def condition(self, node: syntax.Expression) -> Any:
        value = self.evaluate(node)
        if not isinstance(value, Tensor):
            return bool(value)
        if value.constant is not None:
            return bool(value.constant)
        if value.is_block:
            instead = "select elements with where(), or reduce it: 'max(x, axis=0) != 0'"
            raise NotACondition(node.location, found=describe(value), instead=instead)
        before, self.session.builder.loc = self.session.builder.loc, node.location
        truth = conversion.truth(value)
        self.session.builder.loc = before
        return truth

    def _if(self, node: syntax.If, pending: deque[syntax.Statement]) -> Exit | None:
        condition = self.condition(node.condition)
        if isinstance(condition, bool):
            pending.extendleft(reversed(node.then if condition else node.otherwise))
            return None
        if analysis.exits(node):
            return self._exiting_if(node, condition, tuple(pending))
        before = dict(self.scope.variables)
        then, otherwise = Region(), Region()
        ends = []
        for region, statements in ((then, node.then), (otherwise, node.otherwise)):
            self.scope.variables = dict(before)
            with emission.inside(region):
                self._run_branch(statements)
            ends.append(self.scope.variables)
        self.scope.variables = before
        self.session.builder.loc = node.location
        self._merge_variables(node, emission.ir(condition), (then, otherwise), ends)
        return None

    def _run_branch(self, statements: Sequence[syntax.Statement]) -> None:
        """Compile a branch, whose only ways out are those of unrolled loops in it."""
        before = dict(self.scope.variables)
        names = list(analysis.assigned_names(statements))
        outer, self.exit_names = self.exit_names, names
        try:
            ended = self.run(statements)
        finally:
            self.exit_names = outer
        if ended is not None:
            self.scope.variables = before
            for name, value in zip(names, ended.value, strict=True):
                self.scope.assign(name, value, ended.location)

    def _merge_variables(
        self,
        node: syntax.If,
        condition: Any,
        regions: tuple[Region, Region],
        ends: list[dict[str, Binding]],
    ) -> None:
        """Give each variable that a branch assigned its value after the `if`."""
        names: list[str] = []
        values: list[Any] = []
        places: list[Location] = []
        for name in dict.fromkeys((*ends[0], *ends[1])):
            sides = [end.get(name) for end in ends]
            if sides[0] is sides[1]:
                continue
            value = self._merge_variable(name, node, sides)
            names.append(name)
            values.append(value)
            places.append(next(s.location for s in reversed(sides) if s is not None))
        merged = merge.finish_if(condition, *regions, tuple(values))
        for name, value, place in zip(names, merged, places, strict=True):
            self.scope.assign(name, value, place)

    def _merge_variable(self, name: str, node: syntax.If, sides: list[Binding | None]) -> Any:
        present = [s for s in sides if s is not None and not isinstance(s.value, Unset)]
        if len(present) < 2:
            unset = next((s.value for s in sides if s and isinstance(s.value, Unset)), None)
            place = present[0].location if present else None
            notes = (("it is assigned here only", place),) if place else ()
            return Unset(
                unset.reason if unset else "it is assigned on one way through an 'if' only",
                unset.instead if unset else f"assign '{name}' before the 'if', or in both branches",
                unset.notes if unset else notes,
            )
        try:
            return merge.unify(present[0].value, present[1].value)
        except merge.Mismatch as mismatch:
            left, right = describe(mismatch.left), describe(mismatch.right)
            return Unset(
                f"the branches of an 'if' leave it as {left} and {right}",
                "give it the same type in both branches",
                tuple((f"here it is {describe(s.value)}", s.location) for s in present),
            )

    def _exiting_if(
        self, node: syntax.If, condition: Tensor, rest: tuple[syntax.Statement, ...]
    ) -> Exit:
        self.exit_count += 1
        if self.exit_count > MAX_EXITS:
            raise TooManyExits(limit=MAX_EXITS)
        before = dict(self.scope.variables)
        ways: list[tuple[Region, Any, Location]] = []
        for statements in (node.then, node.otherwise):
            self.scope.variables = dict(before)
            region = Region()
            with emission.inside(region):
                ended = self.run((*statements, *rest))
                end = ended or Exit(self.end_value(), node.location)
            ways.append((region, end.value, end.location))
        (then, left, left_place), (otherwise, right, right_place) = ways
        self.session.builder.loc = node.location
        try:
            value = self._unify_exits(left, right)
        except merge.Mismatch as mismatch:
            raise ReturnTypes(
                right_place,
                then=describe(mismatch.left),
                otherwise=describe(mismatch.right),
                notes=(("the other way ends here", left_place),),
            ) from None
        return Exit(merge.finish_if(emission.ir(condition), then, otherwise, value), node.location)

    def _unify_exits(self, left: Any, right: Any) -> Any:
        if self.exit_names is None:
            return merge.unify(left, right)
        # Variables: a mismatch matters only where the variable is used again.
        values = []
        for name, a, b in zip(self.exit_names, left, right, strict=True):
            try:
                values.append(merge.unify(a, b))
            except merge.Mismatch:
                reason = f"the ways that meet here leave it as {describe(a)} and {describe(b)}"
                values.append(Unset(reason, f"give '{name}' the same type on all ways"))
        return tuple(values)

    # ------------------------------------------------------------ loops over compile-time values

    def _for(self, node: syntax.For, pending: deque[syntax.Statement]) -> None:
        iterable = self.evaluate(node.iterable)
        if isinstance(iterable, Range) and not iterable.static:
            self.runtime_for(node, iterable)
            return
        self.session.builder.loc = node.iterable.location
        with located(node.iterable.location):
            items = iterate(iterable)
        statements: list[syntax.Statement] = []
        for item in items:
            statements.append(Bind(node.target, item, location=node.location))
            statements += node.body
            statements.append(Mark(False, location=node.location))
        statements.append(Mark(True, location=node.location))
        pending.extendleft(reversed(statements))

    def runtime_for(self, node: syntax.For, iterable: Range) -> None:
        """Compile a loop that runs at run time."""
        raise NotImplementedError
