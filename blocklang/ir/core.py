"""SSA values, ops, blocks, regions, functions and modules: the data structure that everything else
works on.

Invariants (checked by `verify`): each value is defined once, before its uses, in a block that
encloses them; `Value.uses` is exact; every op but the last of a block is no terminator; an op
belongs to one block at most. What an op is (operands, attributes, types) is declared with the kit
in `op.py`, on top of this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from .location import Location
from .types import Type


class Value:
    """A result of an op or an argument of a block. `name` is a hint for printing only."""

    def __init__(self, type: Type, name: str = "") -> None:
        self.type = type
        self.name = name
        self.uses: dict[tuple[Operation, int], None] = {}

    def replace_all_uses_with(self, other: Value) -> None:
        """Make every user of this value use `other` instead."""
        for user, index in list(self.uses):
            user.set_operand(index, other)
        if not other.name:
            other.name = self.name

    @property
    def users(self) -> list[Operation]:
        """The distinct ops that use this value, in order of first use."""
        return list(dict.fromkeys(user for user, _ in self.uses))

    @property
    def owner(self) -> Operation | Block:
        """The op or block that defines the value."""
        raise NotImplementedError

    @property
    def location(self) -> Location:
        """Where the value comes from."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


class Result(Value):
    """Result number `index` of `op`."""

    def __init__(self, op: Operation, index: int, type: Type, name: str = "") -> None:
        super().__init__(type, name)
        self.op = op
        self.index = index

    @property
    def owner(self) -> Operation:
        return self.op

    @property
    def location(self) -> Location:
        return self.op.loc


class Argument(Value):
    """Argument number `index` of `block`; `facts` holds what is known of a kernel's argument."""

    def __init__(self, block: Block, index: int, type: Type, loc: Location, name: str = "") -> None:
        super().__init__(type, name)
        self.block = block
        self.index = index
        self.loc = loc
        self.facts: dict[str, int] = {}

    @property
    def owner(self) -> Block:
        return self.block

    @property
    def location(self) -> Location:
        return self.loc


class Operation:
    """The state that all ops share. Subclasses are declared through `op.Op`."""

    mnemonic: ClassVar[str] = ""
    is_terminator: ClassVar[bool] = False

    loc: Location
    attributes: dict[str, Any]
    segments: tuple[int, ...]  # how many operands each declared operand field has
    results: list[Result]
    regions: list[Region]
    parent: Block | None

    def _initialise(
        self, operands: Sequence[Value], attributes: dict[str, Any], loc: Location
    ) -> None:
        self._operands: list[Value] = []
        self.attributes = attributes
        self.results = []
        self.regions = []
        self.parent = None
        self.loc = loc
        for value in operands:
            self._append_operand(value)

    def _append_operand(self, value: Value) -> None:
        value.uses[(self, len(self._operands))] = None
        self._operands.append(value)

    @property
    def operands(self) -> tuple[Value, ...]:
        """All operands, flattened in order of declaration."""
        return tuple(self._operands)

    def set_operand(self, index: int, value: Value) -> None:
        """Replace operand `index`."""
        del self._operands[index].uses[(self, index)]
        self._operands[index] = value
        value.uses[(self, index)] = None

    @property
    def result(self) -> Result:
        """The only result."""
        (result,) = self.results
        return result

    def walk(self) -> Iterator[Operation]:
        """This op, then all ops inside its regions, in order."""
        return walk_ops([self])

    def detach(self) -> None:
        """Take the op out of its block, keeping operands and results."""
        assert self.parent is not None
        self.parent.ops.remove(self)
        self.parent = None

    def erase(self) -> None:
        """Delete an op whose results have no uses left, with all that it contains."""
        for result in self.results:
            assert not result.uses, f"erasing {self.mnemonic} whose result %{result.name} is used"
        if self.parent is not None:
            self.detach()
        for region in self.regions:
            region.drop()
        self.drop_operands()

    def drop_operands(self) -> None:
        """Forget all operands (and their uses)."""
        for index, value in enumerate(self._operands):
            del value.uses[(self, index)]
        self._operands = []

    def replace_with(self, values: Sequence[Value]) -> None:
        """Replace each result by the value at the same position, and erase the op."""
        assert len(values) == len(self.results)
        for result, value in zip(self.results, values, strict=True):
            result.replace_all_uses_with(value)
        self.erase()

    @property
    def holders(self) -> Iterator[Operation]:
        """The ops around this one, innermost first."""
        op = self.parent_op
        while op is not None:
            yield op
            op = op.parent_op

    @property
    def parent_op(self) -> Operation | None:
        """The op whose region holds this one; None at the top of a function."""
        return self.parent.region.op if self.parent is not None and self.parent.region else None


class Block:
    """A straight list of ops with arguments; ends with a terminator."""

    def __init__(self) -> None:
        self.arguments: list[Argument] = []
        self.ops: list[Operation] = []
        self.region: Region | None = None

    def add_argument(self, type: Type, loc: Location, name: str = "") -> Argument:
        """Append an argument of `type`."""
        argument = Argument(self, len(self.arguments), type, loc, name)
        self.arguments.append(argument)
        return argument

    def remove_argument(self, index: int) -> None:
        """Remove an argument that has no uses left."""
        assert not self.arguments[index].uses
        del self.arguments[index]
        for position, argument in enumerate(self.arguments):
            argument.index = position

    def append(self, op: Operation) -> None:
        """Put `op` at the end."""
        self.insert(len(self.ops), op)

    def insert(self, index: int, op: Operation) -> None:
        """Put `op` before position `index`."""
        assert op.parent is None
        self.ops.insert(index, op)
        op.parent = self

    @property
    def terminator(self) -> Operation:
        """The last op."""
        return self.ops[-1]

    def walk(self) -> Iterator[Operation]:
        """All ops, with those of nested regions; safe against erasing the op just seen."""
        return walk_ops(self.ops)


def walk_ops(ops: Sequence[Operation]) -> Iterator[Operation]:
    """`ops`, each followed by all ops inside its regions. One generator, since one inside the other
    would hand every op through all levels.
    """
    pending = [*reversed(ops)]
    while pending:
        op = pending.pop()
        yield op
        for region in reversed(op.regions):
            pending += reversed(region.block.ops)


class Region:
    """What an op contains: one block (structured control flow needs no more)."""

    def __init__(self, block: Block | None = None) -> None:
        self.block = block or Block()
        self.block.region = self
        self.op: Operation | None = None

    def walk(self) -> Iterator[Operation]:
        """All ops inside."""
        return self.block.walk()

    def drop(self) -> None:
        """Break all uses made inside, so that everything can be forgotten."""
        for op in self.walk():
            op.drop_operands()


class Function:
    """A kernel, or a function that kernels call until `inline` has run.

    `attributes` holds compile options that passes need (num_warps, ...) as plain attribute values.
    """

    def __init__(self, name: str, loc: Location, is_kernel: bool = True) -> None:
        self.name = name
        self.loc = loc
        self.is_kernel = is_kernel
        self.result_types: tuple[Type, ...] = ()
        self.attributes: dict[str, Any] = {}
        self.body = Region()

    @property
    def block(self) -> Block:
        """The body."""
        return self.body.block

    @property
    def arguments(self) -> list[Argument]:
        """Arguments of the body."""
        return self.body.block.arguments

    def walk(self) -> Iterator[Operation]:
        """All ops, nested ones included."""
        return self.body.walk()


class Module:
    """Functions by name, in order; one compilation compiles one kernel and what it calls."""

    def __init__(self, attributes: dict[str, Any] | None = None) -> None:
        self.functions: dict[str, Function] = {}
        self.attributes: dict[str, Any] = attributes or {}

    def add(self, function: Function) -> Function:
        """Append a function; its name must be new."""
        assert function.name not in self.functions
        self.functions[function.name] = function
        return function

    @property
    def kernel(self) -> Function:
        """The only kernel."""
        (kernel,) = (f for f in self.functions.values() if f.is_kernel)
        return kernel

    def walk(self) -> Iterator[Operation]:
        """All ops of all functions."""
        for function in self.functions.values():
            yield from function.walk()


def is_inside(op: Operation, region: Region) -> bool:
    """Whether `op` is somewhere in `region`, at any depth."""
    current: Operation | None = op
    while current is not None:
        if current.parent is not None and current.parent.region is region:
            return True
        current = current.parent_op
    return False


def clone(
    op: Operation, mapping: dict[Value, Value], loc: Callable[[Location], Location] | None = None
) -> Operation:
    """A copy of `op` with its regions, operands looked up in `mapping`, which learns the new
    results.

    `loc` maps locations (inlining adds the call); without it they are copied.
    """
    copy = object.__new__(type(op))
    operands = [mapping.get(value, value) for value in op.operands]
    copy._initialise(operands, dict(op.attributes), loc(op.loc) if loc else op.loc)
    copy.segments = op.segments
    for result in op.results:
        new = Result(copy, result.index, result.type, result.name)
        copy.results.append(new)
        mapping[result] = new
    for region in op.regions:
        target = clone_region(region, mapping, loc)
        target.op = copy
        copy.regions.append(target)
    return copy


def clone_module(module: Module) -> Module:
    """A copy of a module that shares nothing that changes with it."""
    copy = Module(dict(module.attributes))
    for function in module.functions.values():
        made = Function(function.name, function.loc, function.is_kernel)
        made.result_types = function.result_types
        made.attributes = dict(function.attributes)
        made.body = clone_region(function.body, {})
        copy.add(made)
    return copy


def clone_region(
    region: Region, mapping: dict[Value, Value], loc: Callable[[Location], Location] | None = None
) -> Region:
    """A copy of `region` that belongs to no op yet; see `clone`."""
    target = Region()
    for argument in region.block.arguments:
        place = loc(argument.loc) if loc else argument.loc
        new = target.block.add_argument(argument.type, place, argument.name)
        new.facts = dict(argument.facts)
        mapping[argument] = new
    for inner in region.block.ops:
        target.block.append(clone(inner, mapping, loc))
    return target
