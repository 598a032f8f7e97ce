"""Statements, one after the other: assignments, branches, and the ways out of a list of statements.

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
from .builtins.debug import device_assert
from .builtins.python import iterate
from .errors.names import WrongUnpacking
from .errors.operations import RaiseReached, ReturnInLoop, StaticAssertion, TooManyExits
from .errors.types import NotACondition, ReturnTypes
from .lower_base import LoweringBase
from .scope import Binding
from .values import Range, Tensor, Unset, describe

MAX_EXITS = 200
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


class Statements(LoweringBase):
    """The statements of a function."""

    exit_count = 0
    loop_names: Sequence[str] | None = None
    """What the innermost runtime loop carries; None outside of loops."""

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
        if self.loop_names is not None:
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
        return Exit(self.loop_values(), node.location)

    def set_broken(self, location: Location) -> None:
        """Note that the innermost runtime loop ends."""
        raise NotImplementedError

    def loop_values(self) -> tuple[Any, ...]:
        """What the variables carried by the innermost runtime loop hold now."""
        assert self.loop_names is not None
        unset = Unset("", "")
        variables = self.scope.variables
        return tuple(
            variables[name].value if name in variables else unset for name in self.loop_names
        )

    def end_value(self) -> Any:
        """What comes out where the end of the statements is reached."""
        return None if self.loop_names is None else self.loop_values()

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
                self.run(statements)
            ends.append(self.scope.variables)
        self.scope.variables = before
        self.session.builder.loc = node.location
        self._merge_variables(node, emission.ir(condition), (then, otherwise), ends)
        return None

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
        if self.loop_names is None:
            return merge.unify(left, right)
        # Variables that a loop carries: a mismatch matters only where the variable is used again.
        values = []
        for name, a, b in zip(self.loop_names, left, right, strict=True):
            try:
                values.append(merge.unify(a, b))
            except merge.Mismatch:
                reason = f"the ways through a loop leave it as {describe(a)} and {describe(b)}"
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

    # ------------------------------------------------------------ assignments

    def statement_Assign(self, node: syntax.Assign) -> None:
        value = constexpr.runtime_value(self.evaluate(node.value))
        for target in node.targets:
            self.assign(target, value, target.location)

    def assign(self, target: syntax.Expression, value: Any, location: Location) -> None:
        if isinstance(target, syntax.Name):
            self.scope.assign(target.name, value, location)
            return
        assert isinstance(target, syntax.Tuple)
        if not isinstance(value, tuple) or len(value) != len(target.items):
            instead = "a tuple with one item for each name is needed"
            raise WrongUnpacking(
                target.location,
                found=describe(value),
                expected=len(target.items),
                instead=instead,
            )
        for item, part in zip(target.items, value, strict=True):
            self.assign(item, part, item.location)

    def statement_AugmentedAssign(self, node: syntax.AugmentedAssign) -> None:
        left = self.evaluate(node.target)
        value = self.binary(node.operator, left, self.evaluate(node.value))
        self.scope.assign(node.target.name, constexpr.runtime_value(value), node.target.location)

    def statement_AnnotatedAssign(self, node: syntax.AnnotatedAssign) -> None:
        if node.value is None:
            return
        value = self.evaluate(node.value)
        if syntax.is_constexpr(node.annotation):
            what = f"'{node.target.name}', which is marked 'constexpr',"
            try:
                value = constexpr.static_value(value, what, "remove the annotation")
            except CompileError as error:
                error.location = error.location or node.value.location
                raise
        else:
            value = constexpr.runtime_value(value)
        self.scope.assign(node.target.name, value, node.target.location)

    # ------------------------------------------------------------ other statements

    def statement_ExpressionStatement(self, node: syntax.ExpressionStatement) -> None:
        self.evaluate(node.value)

    def statement_Pass(self, node: syntax.Pass) -> None:
        pass

    def statement_Assert(self, node: syntax.Assert) -> None:
        condition = self.evaluate(node.condition)
        message = "" if node.message is None else constexpr.text(self.evaluate(node.message))
        if isinstance(condition, Tensor) and condition.constant is None:
            device_assert(condition, message)
        elif not (condition.constant if isinstance(condition, Tensor) else condition):
            text = f": {message}" if message else ""
            instead = "compile the kernel with other compile-time arguments"
            raise StaticAssertion(node.condition.location, text=text, instead=instead)

    def statement_Raise(self, node: syntax.Raise) -> None:
        raise RaiseReached(text=self._raise_text(node.value))

    def _raise_text(self, value: syntax.Expression | None) -> str:
        if not isinstance(value, syntax.Call):
            return value.name if isinstance(value, syntax.Name) else "an exception"
        name = value.function.name if isinstance(value.function, syntax.Name) else "an exception"
        texts = [
            constexpr.text(self.evaluate(argument))
            for argument in value.arguments
            if isinstance(argument, syntax.Literal | syntax.FormatString)
        ]
        return f"{name}: {' '.join(texts)}" if texts else name
