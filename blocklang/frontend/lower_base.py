"""What the parts of the lowering share: its state, and what each part offers to the others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from blocklang.ir.location import Location

from . import syntax
from .emission import Session
from .scope import Scope


class LoweringBase(ABC):
    """The state of the lowering of one function, for one choice of argument types."""

    session: Session
    scope: Scope
    function: syntax.Function

    @abstractmethod
    def evaluate(self, node: syntax.Expression) -> Any:
        """The value of an expression."""

    @abstractmethod
    def binary(self, operator: str, left: Any, right: Any) -> Any:
        """`left operator right`."""

    @abstractmethod
    def call(self, function: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Call a function value."""

    @abstractmethod
    def assign(self, target: syntax.Expression, value: Any, location: Location) -> None:
        """Bind the names of a target."""

    @abstractmethod
    def run_loop_body(self, statements: Sequence[syntax.Statement], names: Sequence[str]) -> Any:
        """Compile an iteration; the values of `names` at its end."""

    @abstractmethod
    def condition(self, node: syntax.Expression) -> Any:
        """A condition: a bool where it is known, else a scalar int1 Tensor."""
