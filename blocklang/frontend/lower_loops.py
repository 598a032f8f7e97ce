"""Loops that run at run time: `for` over a range, and `while`.

A loop carries each variable that was assigned before it and that its body assigns, in one type.
The body is compiled with a first guess (all of them, with the types that they have at the start;
compile-time values are not carried). Where that turns out wrong (a compile-time value is assigned,
or a known number takes another type in the body), the body is forgotten and compiled again.

`break` and `continue` end an iteration; a loop with `break` is a `while` that also carries a flag.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from blocklang.ir.core import Block, Region, Value
from blocklang.ir.location import Location
from blocklang.ir.ops.control import Condition, For, If, While, Yield
from blocklang.ir.types import DType, i1, i64

from . import analysis, constexpr, emission, operators, syntax
from .carried import (
    Plan,
    Retry,
    better_types,
    is_runtime,
    runtime_leaves,
    same_types,
    unchanged,
    with_leaves,
)
from .conversion import cast, tensor
from .errors.types import CompileTimeChange, LoopTypeChange
from .lower_statements import Statements
from .merge import adapt
from .scope import Binding
from .typing_rules import integer_promotion
from .values import Range, Tensor, Unset, describe, known, leaves, literal, same

BROKEN = "broken."
INDEX = "index."
MAX_ATTEMPTS = 8


class Loops(Statements):
    """The runtime loops of a function."""

    def runtime_for(self, node: syntax.For, iterable: Range) -> None:
        builder = self.session.builder
        builder.loc = node.iterable.location
        bounds = [tensor(v) for v in (iterable.start, iterable.end, iterable.step)]
        kinds = [b.type for b in bounds if isinstance(b.type, DType)]
        kind = integer_promotion(integer_promotion(kinds[0], kinds[1]), kinds[2])
        # The IR counts upwards only: a falling loop counts its distance from the start.
        falls = bounds[2].constant is not None and bounds[2].constant < 0
        kind = i64 if falls and not kind.is_signed else kind
        start, end, step = (cast(bound, kind) for bound in bounds)
        origin = start
        if falls:
            step = known(-int(step.constant or 0), kind)
            start, end = known(0, kind), operators.binary("-", start, end)

        def bind(index: Value) -> None:
            value = Tensor(kind, index)
            builder.loc = node.target.location
            value = operators.binary("-", origin, value) if falls else value
            self.assign(node.target, value, node.target.location)

        if analysis.has_break(node.body):
            self._for_with_break(node, (start, end, step), bind)
        else:
            handles = [emission.ir(bound) for bound in (start, end, step)]
            self._plain_for(node, handles, iterable, bind)
        for name in analysis.target_names(node.target):
            reason = "it is the variable of a loop, which may not have run"
            self._unset(name, reason, "use it inside of the loop only", node.target.location)

    def _plain_for(
        self,
        node: syntax.For,
        bounds: Sequence[Value],
        iterable: Range,
        bind: Callable[[Value], None],
    ) -> None:
        targets = set(analysis.target_names(node.target))

        def attempt(plan: Plan) -> tuple[Any, Callable[[list[Tensor]], Sequence[Value]]]:
            region = Region()
            index = region.block.add_argument(bounds[0].type, node.target.location)
            arguments = self._carried_arguments(plan, region.block, node.location)
            with emission.inside(region):
                bind(index)
                ends = self.run_loop_body(node.body, list(plan.candidates))
            self._check(plan, arguments, ends, [region], {})

            def build(initial: list[Tensor]) -> Sequence[Value]:
                self._yield(plan, ends, region)
                handles = tuple(emission.ir(value) for value in initial)
                loc = node.location
                lower, upper, step = bounds
                op = For(
                    lower,
                    upper,
                    step,
                    handles,
                    iterable.num_stages,
                    iterable.warp_specialize,
                    loc=loc,
                    regions=[region],
                )
                return emission.builder().insert(op).results

            return ends, build

        self._loop(node, attempt, targets)

    def _for_with_break(
        self, node: syntax.For, bounds: Sequence[Tensor], bind: Callable[[Value], None]
    ) -> None:
        start, end, step = bounds
        end = Tensor(end.type, emission.ir(end))
        variables = self.scope.variables
        hidden = {name: variables.get(name) for name in (INDEX, BROKEN)}
        self.scope.assign(INDEX, Tensor(start.type, emission.ir(start)), node.location)
        self.scope.assign(BROKEN, Tensor(i1, emission.ir(literal(False))), node.location)

        def condition() -> Tensor:
            more = operators.compare("<", self.scope.lookup(INDEX), end)
            return operators.logical("and", operators.unary("not", self._broken()), more)

        def enter() -> None:
            bind(emission.ir(self.scope.lookup(INDEX)))

        def finish(names: Sequence[str], ends: tuple[Any, ...]) -> tuple[Any, ...]:
            position = list(names).index(INDEX)
            following = operators.binary("+", ends[position], step)
            return (*ends[:position], following, *ends[position + 1 :])

        self._while(node, condition, enter, finish)
        self._restore_hidden(hidden)

    def statement_While(self, node: syntax.While) -> None:
        hidden = {BROKEN: self.scope.variables.get(BROKEN)}
        breaks = analysis.has_break(node.body)
        if breaks:
            self.scope.assign(BROKEN, Tensor(i1, emission.ir(literal(False))), node.location)

        def condition() -> Tensor:
            if not breaks:
                return self._while_condition(node)
            # After a break the condition is not evaluated again: it may load from memory.
            builder, then, otherwise = self.session.builder, Region(), Region()
            with emission.inside(then):
                builder.insert(Yield((emission.ir(literal(False)),), loc=node.location))
            with emission.inside(otherwise):
                truth = self._while_condition(node)
                builder.insert(Yield((emission.ir(truth),), loc=node.location))
            return emission.emit(
                If(emission.ir(self._broken()), loc=node.location, result_types=[i1],
                   regions=[then, otherwise])
            )  # fmt: skip

        self._while(node, condition, lambda: None, lambda names, ends: ends)
        self._restore_hidden(hidden)

    def _while_condition(self, node: syntax.While) -> Tensor:
        value = self.condition(node.condition)
        return literal(value) if isinstance(value, bool) else value

    def _broken(self) -> Tensor:
        value: Tensor = self.scope.lookup(BROKEN)
        return value

    def set_broken(self, location: Location) -> None:
        self.scope.assign(BROKEN, literal(True), location)

    def _restore_hidden(self, hidden: dict[str, Binding | None]) -> None:
        for name, binding in hidden.items():
            self.scope.variables.pop(name, None)
            if binding is not None:
                self.scope.variables[name] = binding

    def _while(
        self,
        node: syntax.For | syntax.While,
        condition: Callable[[], Tensor],
        enter: Callable[[], None],
        finish: Callable[[Sequence[str], tuple[Any, ...]], tuple[Any, ...]],
    ) -> None:
        targets = set(analysis.target_names(node.target)) if isinstance(node, syntax.For) else set()

        def attempt(plan: Plan) -> tuple[Any, Callable[[list[Tensor]], Sequence[Value]]]:
            before, body = Region(), Region()
            passed = self._carried_arguments(plan, before.block, node.location)
            with emission.inside(before):
                emission.builder().loc = node.location
                truth = condition()
                emission.builder().loc = node.location
                decision = emission.ir(truth)
            arguments = self._carried_arguments(plan, body.block, node.location)
            with emission.inside(body):
                enter()
                ends = self.run_loop_body(node.body, list(plan.candidates))
                emission.builder().loc = node.location
                ends = finish(list(plan.candidates), ends)
            self._check(plan, arguments, ends, [before, body], passed)

            def build(initial: list[Tensor]) -> Sequence[Value]:
                self._yield(plan, ends, body)
                handles = tuple(emission.ir(value) for value in initial)
                with emission.inside(before):
                    leave = Condition(decision, tuple(before.block.arguments), loc=node.location)
                    emission.builder().insert(leave)
                op = While(handles, loc=node.location, regions=[before, body])
                return emission.builder().insert(op).results

            return ends, build

        self._loop(node, attempt, targets)

    # ------------------------------------------------------------ carried variables

    def run_loop_body(self, statements: Sequence[syntax.Statement], names: Sequence[str]) -> Any:
        outer, self.exit_names = (self.exit_names, self.in_loop), names
        self.in_loop = True
        try:
            ended = self.run(statements)
            return ended.value if ended is not None else self.exit_values()
        finally:
            self.exit_names, self.in_loop = outer

    def _loop(
        self,
        node: syntax.For | syntax.While,
        attempt: Callable[[Plan], tuple[Any, Callable[[list[Tensor]], Sequence[Value]]]],
        targets: set[str],
    ) -> None:
        """Compile a loop, again until the guess of what it carries holds; bind the results."""
        before = dict(self.scope.variables)
        assigned = analysis.assigned_names(node.body)
        names = [*(name for name in (INDEX, BROKEN) if name in before), *assigned]
        candidates = {
            name: before[name]
            for name in names
            if name in before and name not in targets and not isinstance(before[name].value, Unset)
        }
        if not isinstance(node, syntax.For) or not analysis.has_break(node.body):
            candidates.pop(INDEX, None)
        if not analysis.has_break(node.body):
            candidates.pop(BROKEN, None)
        carried = {n: b.value for n, b in candidates.items() if is_runtime(b.value)}
        plan = Plan(candidates, carried)
        messages = len(self.session.messages)
        for attempts_left in reversed(range(MAX_ATTEMPTS)):
            self.scope.variables = dict(before)
            exits = self.exit_count
            try:
                ends, build = attempt(plan)
                break
            except Retry:
                assert attempts_left, "a loop's types did not settle"
                self.exit_count = exits
                del self.session.messages[messages:]
        assigned_in = self.scope.variables
        self.scope.variables = before
        self.session.builder.loc = node.location
        results = iter([Tensor(r.type, r) for r in build(plan.initial)])
        for name, value in plan.carried.items():
            place = assigned_in[name].location if name in assigned_in else node.location
            self.scope.assign(name, with_leaves(value, results), place)
        self._unset_others(plan, ends, assigned, assigned_in, node)

    def _unset_others(
        self,
        plan: Plan,
        ends: Any,
        assigned: dict[str, None],
        assigned_in: dict[str, Binding],
        node: syntax.For | syntax.While,
    ) -> None:
        """Variables that the loop assigns without carrying them have no value after it."""
        finals = dict(zip(plan.candidates, ends, strict=True))
        for name in assigned:
            if name in plan.carried:
                continue
            if name in finals and same(finals[name], plan.candidates[name].value):
                continue
            place = assigned_in[name].location if name in assigned_in else node.location
            if name in plan.candidates:
                reason = "it changes its type in a loop"
                instead = "use another name inside of the loop"
            else:
                reason = "it is assigned in a loop only, which may not have run"
                instead = f"assign '{name}' before the loop"
            self._unset(name, reason, instead, place)

    def _unset(self, name: str, reason: str, instead: str, place: Location) -> None:
        value = Unset(reason, instead, (("it is assigned here", place),))
        self.scope.assign(name, value, place)

    def _carried_arguments(
        self, plan: Plan, block: Block, location: Location
    ) -> dict[str, list[Value]]:
        """Add a block argument for each carried leaf, and bind the variables to them."""
        arguments: dict[str, list[Value]] = {}
        for name, value in plan.carried.items():
            added: list[Value] = []
            for leaf in runtime_leaves(value):
                added.append(block.add_argument(leaf.type, location, name.rstrip(".")))
            tensors = iter([Tensor(a.type, a) for a in added])
            place = plan.candidates[name].location
            self.scope.assign(name, with_leaves(value, tensors), place)
            arguments[name] = added
        return arguments

    def _check(
        self,
        plan: Plan,
        arguments: dict[str, list[Value]],
        ends: tuple[Any, ...],
        regions: Sequence[Region],
        mirrored: Mapping[str, list[Value]],
    ) -> None:
        """Compare what the body leaves with the plan; raise Retry with a better plan, or an error.

        `mirrored` are arguments that stand for the same variables in another of the `regions`.
        """
        changed = False
        for name, end in zip(list(plan.candidates), ends, strict=True):
            binding = plan.candidates[name]
            if name not in plan.carried:
                if same(end, binding.value) or isinstance(end, Unset):
                    continue
                value = constexpr.runtime_value(binding.value)
                if name in plan.dropped:
                    continue
                if not runtime_leaves(value):
                    self._compile_time_change(name, binding, end)
                plan.carried[name] = value
                changed = True
                continue
            if name not in plan.settled and unchanged(end, arguments[name]):
                # Only assigned where a compile-time condition does not hold.
                plan.settled.add(name)
                del plan.carried[name]
                changed = True
                continue
            better = better_types(plan.carried[name], end)
            if better is None:
                if any(a.uses for a in (*arguments[name], *mirrored.get(name, ()))):
                    self._type_change(name, binding, end)
                plan.dropped.add(name)
                del plan.carried[name]
                changed = True
            elif not same_types(better, plan.carried[name]):
                plan.carried[name] = better
                changed = True
        if changed:
            for region in regions:
                region.drop()
            raise Retry

    def _type_change(self, name: str, binding: Binding, end: Any) -> None:
        place = self.scope.variables[name].location if name in self.scope.variables else None
        if isinstance(end, Unset):
            after, instead = f"not one value ({end.reason})", end.instead
        else:
            after = describe(end)
            instead = "start with the type of the later value, or convert with .to(dtype)"
        raise LoopTypeChange(
            place,
            name=name,
            before=describe(binding.value),
            after=after,
            instead=instead,
            notes=(("before the loop it is assigned here", binding.location),),
        )

    def _compile_time_change(self, name: str, binding: Binding, end: Any) -> None:
        place = self.scope.variables[name].location if name in self.scope.variables else None
        raise CompileTimeChange(
            place,
            name=name,
            before=describe(binding.value),
            after=describe(end),
            notes=(("before the loop it is assigned here", binding.location),),
        )

    def _yield(self, plan: Plan, ends: tuple[Any, ...], region: Region) -> None:
        """End the body with the next values of what is carried."""
        finals = dict(zip(plan.candidates, ends, strict=True))
        with emission.inside(region):
            handles: list[Value] = []
            for name, start in plan.carried.items():
                for first, last in zip(leaves(start), leaves(finals[name]), strict=True):
                    if isinstance(first, Tensor):
                        value = adapt(constexpr.runtime_value(last), first.type)
                        assert value is not None
                        handles.append(emission.ir(value))
            emission.builder().insert(Yield(tuple(handles), loc=emission.location()))
