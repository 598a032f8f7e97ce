"""Expressions: from syntax to front-end values, with the IR that computes them.

Each method is named after the node that it compiles. Errors raised without a location get that of
the node, or of the argument that they are about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from blocklang.ir.core import Operation, Region
from blocklang.ir.diagnostics import CompileError
from blocklang.ir.op import Op
from blocklang.ir.ops.elementwise import Divide, Remainder
from blocklang.ir.types import DType, PointerType, element_type, i1, with_element

from . import constexpr, emission, merge, operators, syntax
from .builtins.python import iterate
from .conversion import truth
from .errors.names import (
    NotCallable,
    RepeatedArgument,
    UnknownKeyword,
)
from .errors.types import BranchTypes
from .lower_parts import Parts
from .values import BoundMethod, Tensor, describe, is_number, known, same

SWAPPED = {"==", "!="}


class Expressions(Parts):
    """The expressions of a function."""

    def evaluate(self, node: syntax.Expression) -> Any:
        """The value of an expression."""
        builder = self.session.builder
        before, builder.loc = builder.loc, node.location
        try:
            return getattr(self, "expression_" + type(node).__name__)(node)
        except CompileError as error:
            if error.location is None:
                error.location = node.location
            raise
        finally:
            builder.loc = before

    def expression_Literal(self, node: syntax.Literal) -> Any:
        return node.value

    def expression_Captured(self, node: syntax.Captured) -> Any:
        return self.scope.usable(node.value, "the default")

    def expression_Name(self, node: syntax.Name) -> Any:
        return self.scope.lookup(node.name)

    def expression_Tuple(self, node: syntax.Tuple) -> Any:
        return tuple(map(self.evaluate, node.items))

    def expression_FormatString(self, node: syntax.FormatString) -> Any:
        parts = []
        for part in node.parts:
            value = self.evaluate(part)
            what = "a value in an f-string"
            instead = "print runtime values with device_print()"
            parts.append(constexpr.text(constexpr.static_value(value, what, instead)))
        return "".join(parts)

    # ------------------------------------------------------------ operators

    def expression_Unary(self, node: syntax.Unary) -> Any:
        if node.operator == "*":
            return self._pointer_type(node)
        value = self.evaluate(node.operand)
        if isinstance(value, Tensor):
            return operators.unary(node.operator, value)
        return constexpr.unary(node.operator, value)

    def _pointer_type(self, node: syntax.Unary) -> PointerType:
        element = self.evaluate(node.operand)
        if not isinstance(element, DType | PointerType):
            instead = "write '*' and a dtype: *float32"
            raise NotCallable(what=f"'*' before {describe(element)}", instead=instead)
        return PointerType(element)

    def expression_Binary(self, node: syntax.Binary) -> Any:
        return self.binary(node.operator, self.evaluate(node.left), self.evaluate(node.right))

    def binary(self, operator: str, left: Any, right: Any) -> Any:
        """`left operator right` at compile time where that is possible, else at run time."""
        if isinstance(left, Tensor) or isinstance(right, Tensor):
            return operators.binary(operator, left, right)
        return constexpr.binary(operator, left, right)

    def expression_Compare(self, node: syntax.Compare) -> Any:
        left, right = self.evaluate(node.left), self.evaluate(node.right)
        spelling = node.operator
        if not (isinstance(left, Tensor) or isinstance(right, Tensor)):
            return constexpr.binary(spelling, left, right)
        if spelling in ("is", "is_not"):
            return same(left, right) == (spelling == "is")
        if spelling in ("in", "not_in"):
            what = f"the left side of '{spelling.replace('_', ' ')}'"
            return constexpr.binary(spelling, constexpr.static_value(left, what), right)
        if spelling in SWAPPED and not all(
            isinstance(v, Tensor) or is_number(v) for v in (left, right)
        ):
            # A runtime value never equals None, a string or a dtype.
            return spelling == "!="
        return operators.compare(spelling, left, right)

    def expression_Boolean(self, node: syntax.Boolean) -> Any:
        value = self.evaluate(node.operands[0])
        for operand in node.operands[1:]:
            decided = _known_truth(value)
            if decided is (node.operator == "or"):
                return value
            other = self.evaluate(operand)
            if decided is not None:
                value = other
                continue
            # A known operand on the right decides as well, or has no influence.
            known_other = _known_truth(other)
            if known_other is None:
                value = operators.logical(node.operator, value, other)
            elif known_other is (node.operator == "or"):
                value = known(known_other, with_element(value.type, i1))
            else:
                value = truth(value)
        return value

    def expression_Conditional(self, node: syntax.Conditional) -> Any:
        condition = self.evaluate(node.condition)
        decided = _known_truth(condition)
        if decided is not None:
            return self.evaluate(node.then if decided else node.otherwise)
        if condition.is_block:
            return operators.select(
                condition, self.evaluate(node.then), self.evaluate(node.otherwise)
            )
        decision = emission.ir(truth(condition))
        then, otherwise = Region(), Region()
        with emission.inside(then):
            left = self.evaluate(node.then)
        with emission.inside(otherwise):
            right = self.evaluate(node.otherwise)
        try:
            value = merge.unify(left, right)
        except merge.Mismatch as mismatch:
            raise BranchTypes(
                then=describe(mismatch.left), otherwise=describe(mismatch.right)
            ) from None
        if all(map(_may_run_always, (*then.block.ops, *otherwise.block.ops))):
            return self._select(Tensor(decision.type, decision), then, otherwise, value)
        return merge.finish_if(decision, then, otherwise, value)

    def _select(self, condition: Tensor, then: Region, otherwise: Region, value: Any) -> Any:
        """Both choices computed before the choice: cheaper than a branch."""
        for region in (then, otherwise):
            for op in list(region.block.ops):
                region.block.ops.remove(op)
                op.parent = None
                self.session.builder.insert(op)

        return merge.replace_merged(
            value, lambda leaf: operators.select(condition, leaf.left, leaf.right)
        )

    # ------------------------------------------------------------ calls

    def expression_Starred(self, node: syntax.Starred) -> Any:
        return iterate(self.evaluate(node.value))

    def expression_Call(self, node: syntax.Call) -> Any:
        function = self.evaluate(node.function)
        arguments: list[Any] = []
        places: list[syntax.Node] = []
        for argument in node.arguments:
            value = self.evaluate(argument)
            values = value if isinstance(argument, syntax.Starred) else (value,)
            arguments += values
            places += [argument] * len(values)
        keywords = {keyword.name: self.evaluate(keyword.value) for keyword in node.keywords}
        if isinstance(function, BoundMethod):
            receiver = node.function.value if isinstance(node.function, syntax.Attribute) else node
            method = function
            function, arguments = method.function, [method.value, *arguments]
            places.insert(0, receiver)
        try:
            return self.call(function, arguments, keywords)
        except CompileError as error:
            if error.location is None:
                error.location = self._argument_place(error, function, node, places)
            raise

    def _argument_place(
        self,
        error: CompileError,
        function: Callable[..., Any],
        node: syntax.Call,
        places: list[syntax.Node],
    ) -> Any:
        """Where the argument is that the error is about; else the call."""
        name = getattr(error, "argument", None)
        for keyword in node.keywords:
            if keyword.name == name:
                about_name = isinstance(error, UnknownKeyword | RepeatedArgument)
                return keyword.location if about_name else keyword.value.location
        signature = getattr(function, "__blocklang_signature__", None)
        names = [p.name for p in signature.parameters] if signature is not None else []
        if name in names and names.index(name) < len(places):
            return places[names.index(name)].location
        return node.location


def _known_truth(value: Any) -> bool | None:
    """Whether a value is true, where that is known at compile time."""
    if not isinstance(value, Tensor):
        return bool(value)
    return None if value.constant is None else bool(value.constant)


def _may_run_always(op: Operation) -> bool:
    """Whether an op may be executed where the program would not: no effects, and no trap."""
    if not isinstance(op, Op) or not op.is_pure or op.regions:
        return False
    element = element_type(op.results[0].type)
    divides = isinstance(op, Divide | Remainder)
    return not (divides and isinstance(element, DType) and element.is_integer)
