"""Simple statements: assignments, expressions, assertions and `raise`."""

from __future__ import annotations

from typing import Any

from blocklang.ir.diagnostics import CompileError
from blocklang.ir.location import Location

from . import constexpr, syntax
from .builtins.debug import device_assert
from .errors.names import WrongUnpacking
from .errors.operations import RaiseReached, StaticAssertion
from .lower_base import LoweringBase
from .values import Tensor, describe


class SimpleStatements(LoweringBase):
    """The statements that contain no others."""

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
