"""Any syntax tree as `.bl` text: `parse_text(unparse(tree)) == tree`, except where noted here.

Shows kernels of either language in the one that stands on its own. Comments and layout of the
source are not in the tree, so they are lost. Not equal after parsing again: captured Python objects
(printed by their `repr`), and names that are reserved words in `.bl` only (`inf`, `nan`, `true`,
`false`; an underscore is appended).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from functools import singledispatch

from . import syntax

RESERVED_NAMES = frozenset({"inf", "nan", "true", "false"})
INDENT = "    "

# Binding strengths, loosest first; the place of an operand asks for a least strength.
_CONDITIONAL, _OR, _AND, _NOT, _COMPARE, _BIT_OR, _BIT_XOR, _BIT_AND, _SHIFT = range(9)
_SUM, _PRODUCT, _FACTOR, _POWER, _POSTFIX = range(9, 14)
_BINARY = {
    "|": _BIT_OR,
    "^": _BIT_XOR,
    "&": _BIT_AND,
    "<<": _SHIFT,
    ">>": _SHIFT,
    "+": _SUM,
    "-": _SUM,
    "*": _PRODUCT,
    "/": _PRODUCT,
    "//": _PRODUCT,
    "%": _PRODUCT,
    "@": _PRODUCT,
    "**": _POWER,
}


def unparse(node: syntax.Node) -> str:
    """The text of a file, function, statement or expression, without a line end after it."""
    if isinstance(node, syntax.Expression):
        return expression(node)
    return "\n".join(_lines(node))


# -- expressions -----------------------------------------------------------------------------


def expression(node: syntax.Expression, least: int = _CONDITIONAL) -> str:
    """The text of an expression, in parentheses if it binds looser than `least`."""
    strength, text = _expression(node)
    return text if strength >= least else f"({text})"


def _name(name: str) -> str:
    return name + "_" if name in RESERVED_NAMES else name


def _items(items: Iterable[syntax.Expression]) -> str:
    return ", ".join(expression(item) for item in items)


@singledispatch
def _expression(node: syntax.Expression) -> tuple[int, str]:
    raise TypeError(f"{type(node).__name__} is not an expression")


@_expression.register
def _(node: syntax.Literal) -> tuple[int, str]:
    if isinstance(node.value, int | float) and repr(node.value).startswith("-"):
        return _FACTOR, repr(node.value)
    return _POSTFIX, _string(node.value) if isinstance(node.value, str) else repr(node.value)


@_expression.register
def _(node: syntax.Captured) -> tuple[int, str]:
    value = node.value
    name = getattr(value, "__name__", None)
    return _POSTFIX, name if isinstance(name, str) else repr(value)


@_expression.register
def _(node: syntax.Name) -> tuple[int, str]:
    return _POSTFIX, _name(node.name)


@_expression.register
def _(node: syntax.Attribute) -> tuple[int, str]:
    return _POSTFIX, f"{_head(node.value)}.{_name(node.name)}"


def _head(node: syntax.Expression) -> str:
    text = expression(node, _POSTFIX)
    return f"({text})" if isinstance(node, syntax.Literal) else text


@_expression.register
def _(node: syntax.Slice) -> tuple[int, str]:
    lower, upper, step = (expression(p) if p else "" for p in (node.lower, node.upper, node.step))
    return _CONDITIONAL, f"{lower}:{upper}" + (f":{step}" if step else "")


@_expression.register
def _(node: syntax.Subscript) -> tuple[int, str]:
    if not node.indices:
        return _POSTFIX, f"{_head(node.value)}[()]"
    first = node.indices[0]
    if len(node.indices) == 1 and isinstance(first, syntax.Tuple):
        # `x[(a, b)]` means `x[a, b]`, in Python too.
        return _POSTFIX, f"{_head(node.value)}[[{_items(first.items)}]]"
    return _POSTFIX, f"{_head(node.value)}[{_items(node.indices)}]"


@_expression.register
def _(node: syntax.TensorDescriptor) -> tuple[int, str]:
    padding = "" if node.padding == "zero" else f", {node.padding}"
    block = f"{expression(node.element, _POSTFIX)}[{_items(node.block_shape)}]"
    return _POSTFIX, f"tensordesc<{block}{padding}>"


@_expression.register
def _(node: syntax.Tuple) -> tuple[int, str]:
    comma = "," if len(node.items) == 1 else ""
    return _POSTFIX, f"({_items(node.items)}{comma})"


@_expression.register
def _(node: syntax.Starred) -> tuple[int, str]:
    return _CONDITIONAL, "*" + expression(node.value)


@_expression.register
def _(node: syntax.Call) -> tuple[int, str]:
    keywords = [f"{_name(k.name)}={expression(k.value)}" for k in node.keywords]
    arguments = [expression(argument) for argument in node.arguments]
    return _POSTFIX, f"{_head(node.function)}({', '.join(arguments + keywords)})"


@_expression.register
def _(node: syntax.Unary) -> tuple[int, str]:
    if node.operator == "not":
        return _NOT, f"not {expression(node.operand, _NOT)}"
    return _FACTOR, node.operator + expression(node.operand, _FACTOR)


@_expression.register
def _(node: syntax.Binary) -> tuple[int, str]:
    strength = _BINARY[node.operator]
    left, right = (_POSTFIX, _FACTOR) if node.operator == "**" else (strength, strength + 1)
    return (
        strength,
        f"{expression(node.left, left)} {node.operator} {expression(node.right, right)}",
    )


@_expression.register
def _(node: syntax.Compare) -> tuple[int, str]:
    left, right = (expression(operand, _BIT_OR) for operand in (node.left, node.right))
    return _COMPARE, f"{left} {node.operator.replace('_', ' ')} {right}"


@_expression.register
def _(node: syntax.Boolean) -> tuple[int, str]:
    strength, operand = (_OR, _AND) if node.operator == "or" else (_AND, _NOT)
    return strength, f" {node.operator} ".join(expression(o, operand) for o in node.operands)


@_expression.register
def _(node: syntax.Conditional) -> tuple[int, str]:
    then, condition = expression(node.then, _OR), expression(node.condition, _OR)
    return _CONDITIONAL, f"{then} if {condition} else {expression(node.otherwise)}"


@_expression.register
def _(node: syntax.FormatString) -> tuple[int, str]:
    return _POSTFIX, 'f"' + "".join(_format_part(part) for part in node.parts) + '"'


def _format_part(part: syntax.Expression) -> str:
    if isinstance(part, syntax.Literal) and isinstance(part.value, str):
        return _escaped(part.value).replace("{", "{{").replace("}", "}}")
    text = expression(part).replace("\\", "\\\\").replace('"', '\\"')
    return "{" + text + "}"


def _string(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    """`text` for the inside of double quotes."""
    return "".join('\\"' if c == '"' else repr(c)[1:-1] for c in text)


# -- statements, functions, files ------------------------------------------------------------


@singledispatch
def _lines(node: syntax.Node) -> list[str]:
    raise TypeError(f"{type(node).__name__} has no text of its own")


def _block(head: str, body: Iterable[syntax.Node]) -> list[str]:
    lines = [INDENT + line for node in body for line in _lines(node)]
    return [head, *(lines or [f"{INDENT}pass"])]


def _bare(node: syntax.Expression) -> str:
    """An expression where a tuple needs no parentheses."""
    text = expression(node)
    return text[1:-1] if isinstance(node, syntax.Tuple) and len(node.items) > 1 else text


@_lines.register
def _(node: syntax.Assign) -> list[str]:
    return [" = ".join(_bare(part) for part in (*node.targets, node.value))]


@_lines.register
def _(node: syntax.AugmentedAssign) -> list[str]:
    return [f"{_name(node.target.name)} {node.operator}= {_bare(node.value)}"]


@_lines.register
def _(node: syntax.AnnotatedAssign) -> list[str]:
    value = f" = {_bare(node.value)}" if node.value else ""
    return [f"{_name(node.target.name)}: {expression(node.annotation)}{value}"]


@_lines.register
def _(node: syntax.ExpressionStatement) -> list[str]:
    return [_bare(node.value)]


@_lines.register
def _(node: syntax.If) -> list[str]:
    lines = _block(f"if {expression(node.condition)}:", node.then)
    match node.otherwise:
        case ():
            return lines
        case (syntax.If() as nested,):
            first, *rest = _lines(nested)
            return [*lines, f"el{first}", *rest]
    return lines + _block("else:", node.otherwise)


@_lines.register
def _(node: syntax.For) -> list[str]:
    return _block(f"for {_bare(node.target)} in {_bare(node.iterable)}:", node.body)


@_lines.register
def _(node: syntax.While) -> list[str]:
    return _block(f"while {expression(node.condition)}:", node.body)


@_lines.register
def _(node: syntax.Return) -> list[str]:
    return [f"return {_bare(node.value)}" if node.value else "return"]


@_lines.register
def _(node: syntax.Assert) -> list[str]:
    message = f", {expression(node.message)}" if node.message else ""
    return [f"assert {expression(node.condition)}{message}"]


@_lines.register
def _(node: syntax.Raise) -> list[str]:
    return [f"raise {expression(node.value)}" if node.value else "raise"]


@_lines.register(syntax.Pass)
@_lines.register(syntax.Break)
@_lines.register(syntax.Continue)
def _(node: syntax.Statement) -> list[str]:
    return [type(node).__name__.lower()]


@_lines.register
def _(node: syntax.Parameter) -> list[str]:
    annotation = f": {_type(node.annotation)}" if node.annotation else ""
    words = {"value": "is"}
    facts = "".join(f" {words.get(name, name)} {value}" for name, value in node.facts)
    equals = " = " if annotation else "="
    default = f"{equals}{expression(node.default)}" if node.default else ""
    return [_name(node.name) + annotation + facts + default]


def _type(node: syntax.Expression) -> str:
    is_pointer = isinstance(node, syntax.Unary) and node.operator == "*"
    return expression(node, _FACTOR if is_pointer else _POSTFIX)


@_lines.register
def _(node: syntax.Function) -> list[str]:
    word = "kernel" if node.is_kernel else "function"
    parameters = [_lines(parameter)[0] for parameter in node.parameters]
    head = f"{word} {_name(node.name)}({', '.join(parameters)}):"
    if len(head) > 100:
        separator = f",\n{INDENT}"
        head = f"{word} {_name(node.name)}(\n{INDENT}{separator.join(parameters)},\n):"
    starts_with_string = bool(node.body) and _is_string(node.body[0])
    if not node.documentation and not starts_with_string:
        return _block(head, node.body)
    documentation = _documentation(node.documentation, INDENT)
    return [head, *documentation, *(INDENT + line for s in node.body for line in _lines(s))]


def _is_string(node: syntax.Statement) -> bool:
    value = getattr(node, "value", None)
    return isinstance(value, syntax.Literal) and isinstance(value.value, str)


def _documentation(text: str, indent: str) -> list[str]:
    """A docstring: as it is in three quotes, or on one line where that would change it."""
    plain = all(c.isprintable() or c == "\n" for c in text) and not set(text) & {"\\", '"'}
    plain = plain and all(line == line.rstrip() for line in text.split("\n"))
    layout = f"\n{indent}".join(text.split("\n"))
    if plain and inspect.cleandoc(layout) == text:
        return [line.rstrip() for line in f'{indent}"""{layout}"""'.split("\n")]
    return [f"{indent}{_string(text)}"]


@_lines.register
def _(node: syntax.ImportedName) -> list[str]:
    return [node.name if node.name == node.alias else f"{node.name} as {node.alias}"]


@_lines.register
def _(node: syntax.Import) -> list[str]:
    names = ", ".join(_lines(name)[0] for name in node.names)
    return [f"from {_string(node.path)} import {names}"]


@_lines.register
def _(node: syntax.Constant) -> list[str]:
    return [f"const {_name(node.name)} = {expression(node.value)}"]


@_lines.register
def _(node: syntax.File) -> list[str]:
    lines = _documentation(node.documentation, "") if node.documentation else []
    for part in (*node.imports, *node.constants):
        lines += _lines(part)
    for function in node.functions:
        lines += ["", "", *_lines(function)] if lines else _lines(function)
    return lines
