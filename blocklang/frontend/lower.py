"""The semantic half of the front end: from the syntax tree of a kernel to verified block IR.

`lower_kernel` is the entry. One `FunctionLowering` compiles one function for one choice of argument
types; expressions, statements, loops and calls are in files of their own. Both languages come
through here, so that they mean the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from blocklang.ir import core
from blocklang.ir.ops.control import Call, Return
from blocklang.ir.types import BlockType, DType, PointerType, Type
from blocklang.ir.verify import verify

from . import emission, syntax
from .descriptors import DescriptorForm, add_arguments, part_names
from .errors.names import MissingArgument
from .errors.syntax import NestedTooDeeply
from .errors.types import KernelReturnsValue
from .lower_calls import Calls, State
from .lower_expressions import Expressions
from .lower_loops import Loops
from .scope import Scope
from .values import Tensor, describe


class FunctionLowering(Expressions, Loops, Calls):
    """The lowering of one function."""

    def __init__(self, session: emission.Session, state: State, function: syntax.Function) -> None:
        self.session = session
        self.state = state
        self.function = function
        self.scope = Scope(function, self.evaluate_in)

    def lower_body(self, tree: syntax.Function, bound: Mapping[str, Any]) -> Any:
        inner = type(self)(self.session, self.state, tree)
        for parameter in tree.parameters:
            inner.scope.assign(parameter.name, bound[parameter.name], parameter.location)
        builder, call = self.session.builder, self.session.call
        location = builder.loc
        self.state.stack.append(tree)
        self.session.call = inner.call
        try:
            return inner.run(tree.body)
        finally:
            self.state.stack.pop()
            self.session.call = call
            builder.loc = location

    def evaluate_in(self, node: syntax.Expression, names: Any) -> Any:
        function = syntax.Function(
            "",
            (),
            (),
            is_kernel=self.function.is_kernel,
            globals=names,
            location=node.location,
        )
        return type(self)(self.session, self.state, function).evaluate(node)


Observer = Callable[[Scope, syntax.Expression, Any], None]


def _observed(observe: Observer) -> type[FunctionLowering]:
    """A lowering that shows each expression to `observe`, with the names there and its value."""

    class Observed(FunctionLowering):
        def evaluate(self, node: syntax.Expression) -> Any:
            value = super().evaluate(node)
            observe(self.scope, node, value)
            return value

    return Observed


def lower_kernel(
    function: syntax.Function,
    argument_types: Mapping[str, Any],
    facts: Mapping[str, Mapping[str, int]] | None = None,
    constexprs: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    observe: Observer | None = None,
    say: Callable[[str], Any] | None = None,
) -> core.Module:
    """Compile a kernel for given argument types to a module of block IR (stage "block").

    `argument_types` gives the IR type of each runtime parameter, or a compile-time value for a
    parameter that is specialised to it; `constexprs` gives compile-time values (dtypes included).
    `facts` says what is known of runtime arguments ({"divisible": 16}). A parameter that is in
    neither takes its default. `observe` is shown the value of every expression; `say` gets what
    `static_print` prints (else standard output does). Raises CompileError for mistakes in the
    kernel.
    """
    module = core.Module()
    session = emission.Session(module, options or {})
    state = State()
    kernel = module.add(core.Function(state.unique_name(function.name), function.location))
    lowering = (_observed(observe) if observe else FunctionLowering)(session, state, function)
    with emission.active(session), session.builder.inside(kernel.block):
        try:
            bound = _bind(lowering, kernel, argument_types, facts or {}, constexprs or {})
            ended = lowering.lower_body(function, bound)
        except RecursionError:
            raise NestedTooDeeply(function.location, limit=syntax.MAX_DEPTH) from None
        finally:
            (say or sys.stdout.write)("".join(session.messages))
        if ended is not None and ended.value is not None:
            raise KernelReturnsValue(ended.location, found=describe(ended.value))
        end = ended.location if ended is not None else function.location
        session.builder.insert(Return((), loc=end))
    _remove_unused(module)
    verify(module)
    return module


def _bind(
    lowering: FunctionLowering,
    kernel: core.Function,
    argument_types: Mapping[str, Any],
    facts: Mapping[str, Mapping[str, int]],
    constexprs: Mapping[str, Any],
) -> dict[str, Any]:
    """The value of each parameter of the kernel; runtime ones become arguments of the function."""
    bound: dict[str, Any] = {}
    for parameter in lowering.function.parameters:
        name = parameter.name
        if name in constexprs:
            bound[name] = lowering.scope.usable(constexprs[name], name)
        elif isinstance(argument_types.get(name), DType | PointerType | BlockType):
            type: Type = argument_types[name]
            argument = kernel.block.add_argument(type, parameter.location, name)
            argument.facts = dict(facts.get(name, {}))
            bound[name] = Tensor(type, argument)
        elif isinstance(argument_types.get(name), DescriptorForm):
            form = argument_types[name]
            parts = part_names(name, form.rank, [p.name for p in lowering.function.parameters])
            bound[name] = add_arguments(kernel.block, form, parts, facts, parameter.location)
        elif name in argument_types:
            bound[name] = lowering.scope.usable(argument_types[name], name)
        elif parameter.default is not None:
            bound[name] = lowering.evaluate_in(parameter.default, lowering.function.globals)
        else:
            names = ", ".join(p.name for p in lowering.function.parameters)
            raise MissingArgument(
                parameter.location, function=lowering.function.name, name=name, parameters=names
            )
    return bound


def _remove_unused(module: core.Module) -> None:
    """Remove functions that were only called by attempts to compile a loop."""
    used, pending = set(), [module.kernel]
    while pending:
        function = pending.pop()
        used.add(function.name)
        for op in function.walk():
            if isinstance(op, Call) and op.callee not in used:
                pending.append(module.functions[op.callee])
    for name in [name for name in module.functions if name not in used]:
        del module.functions[name]
