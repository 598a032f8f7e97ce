"""Small IR modules for tests: a function around ops, and what it computes for NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from blocklang.ir.builder import Builder
from blocklang.ir.core import Function, Module, Value
from blocklang.ir.evaluate import evaluate_function
from blocklang.ir.location import Location
from blocklang.ir.op import Op
from blocklang.ir.ops.control import Return
from blocklang.ir.types import BlockType, DType, Type

PLACE = Location("sample.bl", 3, 5, 3, 9, "sample")


def module_of(types: Sequence[Type], body: Callable[..., Any], name: str = "sample") -> Module:
    """A module with a function of parameters `types`; `body(builder, *parameters)` inserts ops at
    `PLACE` and returns the values that the function returns: one, or a list.
    """
    module = Module()
    function = module.add(Function(name, PLACE, is_kernel=False))
    parameters = [function.block.add_argument(type, PLACE, f"x{i}") for i, type in enumerate(types)]
    builder = Builder(function.block, loc=PLACE)
    made = body(builder, *parameters)
    values = [made] if isinstance(made, Value) else list(made)
    builder.insert(Return(values, loc=PLACE))
    function.result_types = tuple(v.type for v in values)
    return module


def module_of_op(
    op: type[Op], dtypes: Sequence[DType], result: DType | None = None, size: int = 0, **fields: Any
) -> Module:
    """A module that applies one op to parameters of `dtypes`: scalars, or blocks of `size`."""

    def typed(dtype: DType) -> Type:
        return BlockType((size,), dtype) if size else dtype

    def body(builder: Builder, *operands: Value) -> Value:
        types = None if result is None else [typed(result)]
        made = op(*operands, loc=builder.loc, result_types=types, **fields)
        return builder.insert(made).results[0]

    return module_of([typed(d) for d in dtypes], body)


def run(module: Module, *arguments: Any) -> Any:
    """What the only function of `module` returns; alone where it returns one value."""
    (name,) = module.functions
    results = evaluate_function(module, name, arguments)
    return results[0] if len(results) == 1 else results
