"""One kernel, as it was compiled, as a `.bl` file of its own.

The kernel's signature states the types and values that it was compiled for; the functions that it
calls stand before it; names of modules, aliases and captured objects become names of the language,
literals and names of the file. What an expression was while the kernel was compiled (`Seen`)
decides where its spelling depends on that, and replaces what has no spelling but a known value.

Everything is written twice: the first time finds out which functions and names of the language
appear, the second knows by which names to call the others. What `.bl` cannot say is left as it was
and put into the notes; whether the text means the same is for its user to check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from blocklang.ir.core import Module
from blocklang.ir.types import DType, PointerType

from . import emission, syntax
from .analysis import assigned_names
from .descriptors import DescriptorForm, part_names
from .lower import FunctionLowering
from .lower_calls import State
from .scope import Scope
from .spoken import is_default, number, spoken, type_expression
from .unparse import RESERVED_NAMES
from .written import FunctionWriter


@dataclass
class Seen:
    """What a compilation met: the values of each expression, by the identity of the node.

    `outside` and `inside` are the names that were read around their function, and as its variables.
    """

    values: dict[int, list[Any]] = field(default_factory=dict)
    outside: set[int] = field(default_factory=set)
    inside: set[int] = field(default_factory=set)
    _nodes: list[syntax.Expression] = field(default_factory=list)

    def record(self, scope: Scope, node: syntax.Expression, value: Any) -> None:
        """What `lower_kernel` calls for every expression."""
        if id(node) not in self.values:
            # An id is that of one node only as long as the node exists.
            self._nodes.append(node)
        self.values.setdefault(id(node), []).append(value)
        if isinstance(node, syntax.Name):
            (self.inside if node.name in scope.variables else self.outside).add(id(node))


@dataclass(frozen=True)
class Binding:
    """What the parameters of the kernel were bound to, by name, as `lower_kernel` takes it."""

    types: Mapping[str, Any]
    facts: Mapping[str, Mapping[str, int]]
    constexprs: Mapping[str, Any]


def standalone(
    kernel: syntax.Function, binding: Binding, seen: Seen
) -> tuple[syntax.File, list[str]]:
    """The file, the kernel last in it, and notes on what could not be written."""
    session = emission.Session(Module(), {})
    with emission.active(session):
        first = _Writing(kernel, binding, seen, session, {}, {})
        first.file()
        variables = {key: _variables(first, key, tree) for key, tree in first.trees.items()}
        second = _Writing(kernel, binding, seen, session, _names(first, variables), variables)
        file = second.file()
    return file, [*_changes(second), *second.notes]


def _changes(writing: _Writing) -> list[str]:
    """How the kernel differs for who launches it."""
    kernel, written = writing.kernel, writing.names[id(writing.kernel)]
    notes = []
    if written != kernel.name:
        notes.append(
            f"the kernel {kernel.name!r} uses that name of the language; here: {written!r}"
        )
    for old, new in writing.variables[id(kernel)].items():
        if any(parameter.name == old for parameter in kernel.parameters):
            notes.append(f"the parameter {old!r} has a name that the language uses; here: {new!r}")
    return notes


def _variables(writing: _Writing, key: int, tree: syntax.Function) -> dict[str, str]:
    """New names for the variables that would hide a name of the language used beside them."""
    hidden = writing.language[key] | RESERVED_NAMES
    taken = set(local_names(tree)) | hidden
    return {name: _free(name, taken) for name in local_names(tree) if name in hidden}


def _names(writing: _Writing, variables: Mapping[int, Mapping[str, str]]) -> dict[int, str]:
    """The names of the functions: their own, unless these mean something else in the file."""
    taken = RESERVED_NAMES.union(*writing.language.values())
    kernel = id(writing.kernel)
    names = {kernel: _free(writing.kernel.name, set(taken))}
    taken |= {names[kernel]}
    for key, tree in writing.trees.items():
        taken |= {variables[key].get(name, name) for name in local_names(tree)}
    reserved = set(taken)
    for key, tree in writing.trees.items():
        if key != kernel:
            names[key] = _free(tree.name, reserved)
    return names


def _free(name: str, taken: set[str]) -> str:
    """`name` or, where it is taken, one like it; taken from now on."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def local_names(tree: syntax.Function) -> dict[str, None]:
    """The names that belong to a function: parameters and what it assigns."""
    names = dict.fromkeys(parameter.name for parameter in tree.parameters)
    return names | assigned_names(tree.body)


class _Writing:
    """One file being written. `names` and `variables` are the names to use, by function."""

    def __init__(
        self,
        kernel: syntax.Function,
        binding: Binding,
        seen: Seen,
        session: emission.Session,
        names: Mapping[int, str],
        variables: Mapping[int, Mapping[str, str]],
    ) -> None:
        self.kernel = kernel
        self.binding = binding
        self.seen = seen
        self.session = session
        self.names = names
        self.variables = variables
        self.trees: dict[int, syntax.Function] = {id(kernel): kernel}
        self.language: dict[int, set[str]] = {}
        self.notes: dict[str, None] = {}

    def file(self) -> syntax.File:
        """The file."""
        functions: list[syntax.Function] = []
        # Writing a function adds those that it calls.
        for key in (pending := list(self.trees)):
            functions.append(self._function(self.trees[key]))
            pending += [other for other in self.trees if other not in pending]
        return syntax.File((), (), tuple(reversed(functions)), location=self.kernel.location)

    def note(self, text: str) -> None:
        """Say what could not be written."""
        self.notes[text] = None

    def reference(self, tree: syntax.Function) -> str | None:
        """The name of a function, which becomes part of the file."""
        if tree.is_kernel or tree is self.kernel:
            return None
        self.trees.setdefault(id(tree), tree)
        return self.names.get(id(tree), tree.name)

    def _function(self, tree: syntax.Function) -> syntax.Function:
        lowering = FunctionLowering(self.session, State(), tree)
        is_kernel = tree is self.kernel
        parameters, pinned = (
            self._kernel_parameters(lowering.scope) if is_kernel else (tree.parameters, {})
        )
        writer = FunctionWriter(self, tree, lowering.scope, pinned)
        if not is_kernel:
            parameters = tuple(map(writer.parameter, parameters))
        body = writer.statements(tree.body)
        self.language[id(tree)] = writer.language
        return syntax.Function(
            self.names.get(id(tree), tree.name),
            tuple(self._renamed(tree, parameter) for parameter in parameters),
            body,
            is_kernel,
            tree.documentation,
            location=tree.location,
        )

    def _renamed(self, tree: syntax.Function, parameter: syntax.Parameter) -> syntax.Parameter:
        name = self.variables.get(id(tree), {}).get(parameter.name, parameter.name)
        return syntax.Parameter(
            name,
            parameter.annotation,
            parameter.default,
            parameter.is_constexpr,
            parameter.facts,
            location=parameter.location,
        )

    # -- the signature of the kernel -----------------------------------------------------------

    def _kernel_parameters(
        self, scope: Scope
    ) -> tuple[tuple[syntax.Parameter, ...], dict[str, Any]]:
        """The parameters as they were bound; and those of which only the uses can be written."""
        parameters, pinned = [], {}
        for parameter in self.kernel.parameters:
            name = parameter.name
            if name in self.binding.types:
                parameters.append(self._runtime(parameter))
                continue
            value = scope.usable(self.binding.constexprs[name], name)
            known = self._constant(parameter, value)
            if known is None:
                pinned[name] = value
                self.note(f"the value of {name} is compiled in: a parameter cannot have it in .bl")
            else:
                parameters.append(known)
        return tuple(parameters), pinned

    def _runtime(self, parameter: syntax.Parameter) -> syntax.Parameter:
        name, place = parameter.name, parameter.location
        type = self.binding.types[name]
        if isinstance(type, DescriptorForm):
            return self._descriptor(parameter, type)
        if not isinstance(type, DType | PointerType):
            self.note(f"the type of the parameter {name} cannot be written in .bl")
        annotation = type_expression(type, place)
        facts = tuple(self.binding.facts.get(name, {}).items())
        default = parameter.default
        if not isinstance(default, syntax.Literal):
            default = None
        return syntax.Parameter(name, annotation, default, facts=facts, location=place)

    def _descriptor(self, parameter: syntax.Parameter, type: DescriptorForm) -> syntax.Parameter:
        name, place = parameter.name, parameter.location
        if type.fixed:
            self.note(f"sizes and strides of {name} that are 1 are compiled in")
        pointer, *others = part_names(name, type.rank, [p.name for p in self.kernel.parameters])
        known = [self.binding.facts.get(n, {}) for n in (pointer, *others[type.rank :])]
        divisible = min(facts.get("divisible", 1) for facts in known)
        facts = (("divisible", divisible),) if divisible > 1 else ()
        annotation = syntax.TensorDescriptor(
            type_expression(type.element, place),
            tuple(syntax.Literal(size, location=place) for size in type.block_shape),
            type.padding,
            location=place,
        )
        return syntax.Parameter(name, annotation, facts=facts, location=place)

    def _constant(self, parameter: syntax.Parameter, value: Any) -> syntax.Parameter | None:
        """A parameter that has a value: `is 1` where the host passes it, else `constexpr`."""
        name, place, value = parameter.name, parameter.location, number(value)
        if not parameter.is_constexpr and type(value) is int and value >= 0:
            annotation = syntax.Name("i32" if value < 2**31 else "i64", location=place)
            return syntax.Parameter(name, annotation, facts=(("value", value),), location=place)
        default = spoken(value, self.reference, place)
        if default is None or not is_default(default):
            return None
        marker = syntax.Name("constexpr", location=place)
        return syntax.Parameter(name, marker, default, is_constexpr=True, location=place)
