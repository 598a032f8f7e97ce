"""Runs passes: verification, dumps, timing, bisection, and nothing of that anywhere else.

A pass is a frozen dataclass whose `name` is kebab-case and whose fields are its options. Authors
write `_run`; calling the pass runs and verifies. A failure names the pass.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

from blocklang.ir.core import Module
from blocklang.ir.diagnostics import CompileError
from blocklang.ir.op import IRError
from blocklang.ir.parser import parse
from blocklang.ir.printer import print_module
from blocklang.ir.verify import verify

PASSES: dict[str, type[Pass]] = {}


@dataclass(frozen=True)
class Pass:
    """Base of all passes."""

    name: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        if cls.name:
            assert cls.name not in PASSES, f"two passes are named {cls.name}"
            PASSES[cls.name] = cls

    def __call__(self, module: Module) -> None:
        """Change `module` in place; the result is verified."""
        self._run(module)
        verify(module)

    def _run(self, module: Module) -> None:
        raise NotImplementedError


class PassError(Exception):
    """A pass broke the IR or failed: a mistake in the compiler. `before` is the text of the IR that
    it was given, empty unless the manager's `check` is 2.
    """

    def __init__(self, name: str, problem: Exception, before: str) -> None:
        super().__init__(f"pass {name}: {problem}")
        self.name = name
        self.before = before


class Stopped(Exception):
    """`stop_after` has ended the compilation; `module` is as that pass has left it."""

    def __init__(self, module: Module) -> None:
        super().__init__("stopped on demand")
        self.module = module


@dataclass
class PassManager:
    """Runs lists of passes, one list after the other, for one compilation.

    `dump` has the names of the passes after which the IR goes to stderr, or "all"; `stop_after`,
    the name of a pass, or "name:2" for its second run, raises `Stopped` after it. `check` says how
    much is checked: 1 verifies after each pass, 0 once, behind the last one of all; 2 also reads
    the text of each result back and compares, and failures carry the IR before the pass.
    `on_pass(name, milliseconds, module)` observes every pass. `times` has the milliseconds of every
    step so far.
    """

    dump: Collection[str] = ()
    stop_after: str = ""
    check: int = 1
    on_pass: Callable[[str, float, Module], None] | None = None
    times: list[tuple[str, float]] = field(default_factory=list)
    _unverified: list[str] = field(default_factory=list)

    def run(self, module: Module, passes: Iterable[Pass], verified: bool = True) -> None:
        """Run `passes` in order on `module`. Raises PassError where one breaks the IR, at the end
        at the latest, unless that is to be `verified` with the next list.
        """
        for each in passes:
            self._unverified.append(each.name)
            before = print_module(module) if self.check > 1 else ""
            start = time.perf_counter()
            try:
                if self.check:
                    each(module)
                else:
                    each._run(module)
                if self.check > 1:
                    _check_round_trip(module)
            except (IRError, AssertionError) as problem:
                raise PassError(each.name, problem, before) from problem
            self._observe(each.name, 1e3 * (time.perf_counter() - start), module)
        if self.check or not verified:
            return
        names, self._unverified = self._unverified, []
        try:
            verify(module)
        except IRError as problem:
            raise PassError(f"one of {', '.join(names)}", problem, "") from problem

    @contextmanager
    def measure(self, step: str) -> Iterator[None]:
        """Time the body of a `with` statement as a step that is not a pass, such as LLVM."""
        start = time.perf_counter()
        yield
        self.times.append((step, 1e3 * (time.perf_counter() - start)))

    def _observe(self, name: str, milliseconds: float, module: Module) -> None:
        self.times.append((name, milliseconds))
        if name in self.dump or "all" in self.dump:
            print(f"// after {name}\n{print_module(module, locations=False)}", file=sys.stderr)
        if self.on_pass is not None:
            self.on_pass(name, milliseconds, module)
        wanted, _, run = self.stop_after.partition(":")
        if (
            wanted
            and name == wanted
            and sum(name == done for done, _ in self.times) == int(run or 1)
        ):
            raise Stopped(module)


def _check_round_trip(module: Module) -> None:
    text = print_module(module)
    try:
        again = print_module(parse(text))
    except CompileError as problem:
        raise IRError(f"its text cannot be read back: {problem}") from problem
    if again != text:
        raise IRError("its text reads back as another module")
