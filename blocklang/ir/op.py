"""The declaration kit: an op is one class, and everything generic is derived from it.

    class Load(Op, mnemonic="load", effects=Effect.READ):
        '''What it does.'''
        pointer: Value = operand()
        mask: Value | None = operand(optional=True)
        vector: int = attribute(default=1)
        result = output()

        def infer(self) -> list[Type]: ...       # result types, where operands determine them
        def check(self) -> None: ...             # further invariants: `require(condition, text)`

The constructor takes operands and attributes in order of declaration and the keywords `loc`
(required), `result_types` (where `infer` cannot know) and `regions`. Printing, parsing, cloning,
verifying and walking need nothing more. A missing docstring or a repeated mnemonic fails at
import. `REGISTRY` is the one list of ops; sets of ops are queries over it.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, ClassVar, cast, dataclass_transform

from .core import Operation, Region, Result, Value
from .location import Location
from .types import Type


class Effect(enum.Flag):
    """What executing an op does besides computing its results."""

    NONE = 0
    READ = enum.auto()  # reads global memory
    WRITE = enum.auto()  # writes global memory
    READ_SHARED = enum.auto()
    WRITE_SHARED = enum.auto()
    SYNCHRONIZE = enum.auto()  # all threads of a program meet here
    OBSERVABLE = (
        enum.auto()
    )  # printing, traps, hints to the compiler: must stay, may not be repeated


class IRError(Exception):
    """An op that breaks its declaration: a mistake in the compiler, never in a kernel."""


def require(condition: bool, text: str) -> None:
    """Raise IRError with `text` unless `condition` holds."""
    if not condition:
        raise IRError(text)


class Field:
    """One declared part of an op, and the descriptor that reads it."""

    def __init__(self, kind: str, mode: str = "single", default: Any = ...) -> None:
        self.kind, self.mode, self.default = kind, mode, default
        self.name = ""
        self.index = 0

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, op: Any, owner: type | None = None) -> Any:
        if op is None:
            return self
        if self.kind == "attribute":
            return op.attributes[self.name]
        if self.kind == "region":
            return op.regions[self.index]
        if self.kind == "result":
            return tuple(op.results) if self.mode == "variadic" else op.results[self.index]
        start = sum(op.segments[: self.index])
        values = tuple(op._operands[start : start + op.segments[self.index]])
        if self.mode == "variadic":
            return values
        return values[0] if values else None

    def __set__(self, op: Any, value: Any) -> None:
        assert self.kind == "attribute", f"{self.name} cannot be assigned"
        op.attributes[self.name] = value


def operand(
    *, optional: bool = False, variadic: bool = False, default: Any = None, kw_only: bool = False
) -> Any:
    """Declare an operand: one value, `Value | None` (then with `default=None`), or a tuple of
    values.
    """
    return Field("operand", "optional" if optional else "variadic" if variadic else "single")


def attribute(*, default: Any = ..., kw_only: bool = False) -> Any:
    """Declare a compile-time attribute: int, float, bool, str, dtype, type, None, or a tuple of
    them.
    """
    return Field("attribute", default=default)


def output() -> Result:
    """Declare the only result (unannotated: it is no argument of the constructor)."""
    return cast(Result, Field("result"))


def outputs() -> tuple[Result, ...]:
    """Declare all results of an op that has any number of them (unannotated)."""
    return cast(tuple[Result, ...], Field("result", "variadic"))


def region() -> Any:
    """Declare a region of one block (unannotated); given to the constructor with the keyword
    `regions`.
    """
    return Field("region")


def keyword(*, kw_only: bool, default: Any = None) -> Any:
    """A keyword of every constructor."""
    return None


@dataclass_transform(field_specifiers=(operand, attribute, keyword))
class _Declared(Operation):
    """Makes type checkers derive constructors from the declarations."""


REGISTRY: dict[str, type[Op]] = {}


class Op(_Declared):
    """Base of all ops; see the module's text for how to declare one."""

    loc: Location = keyword(kw_only=True)
    result_types: Sequence[Type] | None = keyword(kw_only=True, default=None)
    regions: list[Region] = keyword(kw_only=True, default=())

    fields: ClassVar[dict[str, Field]] = {}
    effects: ClassVar[Effect] = Effect.NONE
    is_terminator: ClassVar[bool] = False
    is_commutative: ClassVar[bool] = False

    def __init_subclass__(
        cls,
        mnemonic: str | None = None,
        effects: Effect | None = None,
        terminator: bool | None = None,
        commutative: bool | None = None,
    ) -> None:
        own = {name: field for name, field in vars(cls).items() if isinstance(field, Field)}
        cls.fields = {**cls.fields, **own}
        for kind in ("operand", "result", "region"):
            for index, field in enumerate(f for f in cls.fields.values() if f.kind == kind):
                field.index = index
        if effects is not None:
            cls.effects = effects
        if terminator is not None:
            cls.is_terminator = terminator
        if commutative is not None:
            cls.is_commutative = commutative
        if mnemonic is None:
            return
        assert cls.__doc__, f"{cls.__name__} needs a docstring"
        assert mnemonic not in REGISTRY, f"{mnemonic} is declared twice"
        cls.mnemonic = mnemonic
        REGISTRY[mnemonic] = cls

    def __init__(
        self,
        *arguments: Any,
        loc: Location,
        result_types: Sequence[Type] | None = None,
        regions: Sequence[Region] = (),
        **keywords: Any,
    ) -> None:
        declared = [f for f in self.fields.values() if f.kind in ("operand", "attribute")]
        given = dict(zip((f.name for f in declared), arguments, strict=False))
        assert not given.keys() & keywords.keys()
        assert len(arguments) <= len(declared)
        given.update(keywords)
        operands: list[Value] = []
        segments: list[int] = []
        attributes: dict[str, Any] = {}
        for field in declared:
            if field.kind == "attribute":
                value = given.pop(field.name, field.default)
                assert value is not ..., f"{self.mnemonic} needs {field.name}"
                attributes[field.name] = value
                continue
            value = given.pop(field.name, None)
            values = () if value is None else tuple(value) if field.mode == "variadic" else (value,)
            assert values or field.mode != "single", f"{self.mnemonic} needs {field.name}"
            operands.extend(values)
            segments.append(len(values))
        assert not given, f"{self.mnemonic} has no {', '.join(given)}"
        self.segments = tuple(segments)
        self._initialise(operands, attributes, loc)
        for inner in regions:
            inner.op = self
            self.regions.append(inner)
        for index, type in enumerate(self.infer() if result_types is None else result_types):
            self.results.append(Result(self, index, type))

    def infer(self) -> Sequence[Type]:
        """The result types that operands and attributes determine; ops without a rule need
        `result_types`.
        """
        if any(f.kind == "result" for f in self.fields.values()):
            raise IRError(f"{self.mnemonic} cannot infer its result types")
        return ()

    def check(self) -> None:
        """Raise IRError where an invariant of the op is broken."""

    def fold(self) -> Value | None:
        """An existing value that equals the only result, if there is one."""
        return None

    @classmethod
    def fields_of(cls, kind: str) -> list[Field]:
        """The declared operands, attributes, results or regions, in order."""
        return [f for f in cls.fields.values() if f.kind == kind]

    def all_effects(self) -> Effect:
        """Effects of the op and of everything inside its regions."""
        effects = self.effects
        for inner in self.regions:
            for op in inner.block.ops:
                assert isinstance(op, Op)
                effects |= op.all_effects()
        return effects

    @property
    def is_pure(self) -> bool:
        """No effects at all: may be removed when unused, merged with an equal op, and moved."""
        return not self.all_effects() and not self.is_terminator
