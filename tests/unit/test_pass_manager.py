"""The pass manager: how much it checks, and what its failures say."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from blocklang.ir.core import Module
from blocklang.ir.parser import parse
from blocklang.ir.passes.cse import CommonSubexpressionElimination
from blocklang.ir.passes.dce import DeadCodeElimination
from blocklang.ir.passes.manager import Pass, PassError, PassManager, Stopped
from blocklang.ir.types import Type, f32, i32

TEXT = """
kernel @k(%p: ptr<i32>) {
  %x = load %p : i32
  store %p, value = %x
  return
}
"""


@dataclass(frozen=True)
class Retype(Pass):
    """Gives the loaded value another type, which is wrong for all but i32."""

    to: Type = f32

    def _run(self, module: Module) -> None:
        module.kernel.block.ops[0].results[0].type = self.to


@pytest.mark.parametrize("check", [1, 2])
def test_a_failure_carries_the_ir_before_it(check):
    with pytest.raises(PassError, match="in: ") as caught:
        PassManager(check=check).run(parse(TEXT), [Retype(), Retype(i32)])
    assert ("%x = load %p : i32" in caught.value.before) is (check == 2)


def test_without_checks_only_the_last_result_counts():
    PassManager(check=0).run(parse(TEXT), [Retype(), Retype(i32)])
    with pytest.raises(PassError, match="one of cse, "):
        PassManager(check=0).run(parse(TEXT), [CommonSubexpressionElimination(), Retype()])


def test_lists_may_be_verified_together():
    passes, module = PassManager(check=0), parse(TEXT)
    passes.run(module, [Retype()], verified=False)
    with pytest.raises(PassError, match=r"one of .*, cse"):
        passes.run(module, [CommonSubexpressionElimination()])
    passes.run(module, [Retype(i32)])
    with pytest.raises(PassError):
        PassManager(check=1).run(module, [Retype()], verified=False)


def test_observers_see_every_pass_and_every_step_is_timed():
    seen = []
    passes = PassManager(on_pass=lambda name, milliseconds, module: seen.append(name))
    passes.run(parse(TEXT), [CommonSubexpressionElimination(), DeadCodeElimination()])
    with passes.measure("something else"):
        pass
    assert seen == ["cse", "dce"]
    assert [name for name, _ in passes.times] == ["cse", "dce", "something else"]


def test_a_compilation_can_end_after_the_second_run_of_a_pass():
    passes, module = PassManager(stop_after="cse:2"), parse(TEXT)
    cse = CommonSubexpressionElimination()
    with pytest.raises(Stopped) as stopped:
        passes.run(module, [cse, DeadCodeElimination(), cse, Retype()])
    assert stopped.value.module is module
    assert [name for name, _ in passes.times] == ["cse", "dce", "cse"]


def test_dumps_go_to_standard_error(capsys):
    PassManager(dump=["dce"]).run(
        parse(TEXT), [CommonSubexpressionElimination(), DeadCodeElimination()]
    )
    assert capsys.readouterr().err.startswith("// after dce\nkernel @k(")
