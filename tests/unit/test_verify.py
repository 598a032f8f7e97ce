"""The verifier finds broken structure that text cannot express.

What IR text can express is in tests/filetests/verify, one case an invariant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from blocklang.ir.core import Argument, Block, Module, Operation, Region, Result
from blocklang.ir.location import SYNTHETIC, Location
from blocklang.ir.op import IRError
from blocklang.ir.ops.control import If, Yield
from blocklang.ir.ops.elementwise import Add, Negate
from blocklang.ir.ops.program import Constant
from blocklang.ir.parser import parse
from blocklang.ir.types import i32
from blocklang.ir.verify import verify

PLACE = Location("a.bl", 1, 1, 1, 2)
TEXT = """
kernel @f(%a: i32, %c: i1) {
  %b = neg %a : i32
  %d = add %a, %b : i32
  %e = if %c : i32 then() {
    %x = not %d : i32
    yield values = [%x]
  } otherwise() {
    yield values = [%b]
  }
  return
}
"""


def sample() -> Module:
    module = parse(TEXT)
    verify(module)
    return module


def op_of(module: Module, kind: type[Operation]) -> Operation:
    return next(op for op in module.walk() if type(op) is kind)


def use_before_definition(module: Module) -> None:
    block = module.kernel.block
    block.ops[0], block.ops[1] = block.ops[1], block.ops[0]


def use_outside_the_region(module: Module) -> None:
    inner = op_of(module, If).regions[0].block.ops[0].results[0]
    op_of(module, Yield).set_operand(0, inner)
    op_of(module, If).regions[1].block.terminator.set_operand(0, inner)


def use_of_a_stranger(module: Module) -> None:
    op_of(module, Add).set_operand(0, sample().kernel.arguments[0])


def use_that_is_not_recorded(module: Module) -> None:
    add = op_of(module, Add)
    del add.operands[1].uses[(add, 1)]


def recorded_use_of_a_result_that_is_none(module: Module) -> None:
    op_of(module, Add).results[0].uses[(op_of(module, Negate), 0)] = None


def recorded_use_of_an_argument_that_is_none(module: Module) -> None:
    module.kernel.arguments[1].uses[(op_of(module, Add), 1)] = None


def recorded_use_beyond_the_operands(module: Module) -> None:
    module.kernel.arguments[0].uses[(op_of(module, Negate), 5)] = None


def result_of_another_op(module: Module) -> None:
    op_of(module, Add).results[0].op = op_of(module, Negate)


def result_with_another_index(module: Module) -> None:
    op_of(module, Add).results[0].index = 1


def argument_with_another_index(module: Module) -> None:
    module.kernel.arguments[0].index = 1


def argument_of_another_block(module: Module) -> None:
    arguments = module.kernel.arguments
    arguments[0] = Argument(Block(), 0, i32, PLACE)


def op_that_does_not_know_its_block(module: Module) -> None:
    op_of(module, Add).parent = None


def region_that_does_not_know_its_op(module: Module) -> None:
    op_of(module, If).regions[0].op = None


def block_that_does_not_know_its_region(module: Module) -> None:
    op_of(module, If).regions[1].block.region = Region()


def attribute_too_many(module: Module) -> None:
    op_of(module, Add).attributes["speed"] = 3


def attribute_missing(module: Module) -> None:
    constant = Constant(3, loc=PLACE, result_types=[i32])
    del constant.attributes["value"]
    module.kernel.block.insert(0, constant)


def operand_too_many(module: Module) -> None:
    add = op_of(module, Add)
    add._append_operand(module.kernel.arguments[0])


def segments_too_few(module: Module) -> None:
    op_of(module, Add).segments = (2,)  # type: ignore[attr-defined]


def two_values_for_one_operand(module: Module) -> None:
    add = op_of(module, Add)
    add._append_operand(module.kernel.arguments[0])
    add.segments = (1, 2)  # type: ignore[attr-defined]


def result_too_many(module: Module) -> None:
    add = op_of(module, Add)
    add.results.append(Result(add, 1, i32))


def region_too_many(module: Module) -> None:
    extra = Region()
    extra.op = op_of(module, If)
    extra.block.append(Yield((), loc=PLACE))
    op_of(module, If).regions.append(extra)


BROKEN: list[tuple[Callable[[Module], None], str]] = [
    (use_before_definition, "operand 1 is not defined here"),
    (use_outside_the_region, "operand 0 is not defined here"),
    (use_of_a_stranger, "operand 0 is not defined here"),
    (use_that_is_not_recorded, "use of operand 1 is not recorded"),
    (recorded_use_of_a_result_that_is_none, "a recorded use is not there"),
    (recorded_use_of_an_argument_that_is_none, "a recorded use is not there"),
    (recorded_use_beyond_the_operands, "a recorded use is not there"),
    (result_of_another_op, "result out of place"),
    (result_with_another_index, "result out of place"),
    (argument_with_another_index, "argument out of place"),
    (argument_of_another_block, "argument out of place"),
    (op_that_does_not_know_its_block, "op does not know its block"),
    (region_that_does_not_know_its_op, "region does not know its op"),
    (block_that_does_not_know_its_region, "region does not know its op"),
    (attribute_too_many, "attributes differ from the declaration"),
    (attribute_missing, "attributes differ from the declaration"),
    (operand_too_many, "operands differ from the declaration"),
    (segments_too_few, "operands differ from the declaration"),
    (two_values_for_one_operand, "2 values for operand right"),
    (result_too_many, "results differ from the declaration"),
    (region_too_many, "regions differ from the declaration"),
]


@pytest.mark.parametrize(("damage", "text"), BROKEN, ids=[b[0].__name__ for b in BROKEN])
def test_broken_structure_is_found(damage: Callable[[Module], None], text: str) -> None:
    module = sample()
    damage(module)
    with pytest.raises(IRError) as caught:
        verify(module)
    assert str(caught.value).startswith(text)


def test_the_op_is_shown_even_when_it_is_broken() -> None:
    module = sample()
    use_of_a_stranger(module)
    with pytest.raises(IRError, match=r"in: %d = add %<undefined a>, %<undefined b> : i32"):
        verify(module)


def test_locations_are_required_on_demand() -> None:
    module = sample()
    with pytest.raises(IRError, match="unknown location"):
        verify(module, require_locations=True)
    for op in module.walk():
        op.loc = PLACE
    verify(module, require_locations=True)
    op_of(module, Yield).loc = replace(SYNTHETIC)
    with pytest.raises(IRError, match="unknown location"):
        verify(module, require_locations=True)
