"""What Python has and the kernel language has not, with what to write instead.

The Python front end finds these as nodes of `ast`, the `.bl` front end as reserved words.
"""

from __future__ import annotations

from typing import NamedTuple


class Foreign(NamedTuple):
    """A construct as a message names it, and the advice."""

    construct: str
    instead: str


_NESTED = Foreign(
    "a function inside a kernel",
    "define it next to the kernel and pass what it needs as arguments",
)
_TRY = Foreign("'try'", "check with static_assert or device_assert; a kernel cannot catch errors")
_ASYNC = Foreign("'async'", "copies overlap by themselves: see num_stages of range()")
_YIELD = Foreign("'yield'", "store each value to memory, or return one tuple")
_SCOPE = "return the value and assign it where the function is called"

KEYWORDS: dict[str, Foreign] = {
    "async": _ASYNC,
    "await": _ASYNC,
    "class": Foreign("a class inside a kernel", "use tuples, or several variables"),
    "def": _NESTED,
    "del": Foreign("'del'", "leave it out: unused values cost nothing"),
    "except": _TRY,
    "finally": _TRY,
    "from": Foreign("an import inside a kernel", "import at the top of the file"),
    "global": Foreign("'global'", _SCOPE),
    "import": Foreign("an import inside a kernel", "import at the top of the file"),
    "lambda": Foreign("'lambda'", "define a function next to the kernel and use its name"),
    "match": Foreign("'match'", "use if / elif / else"),
    "nonlocal": Foreign("'nonlocal'", _SCOPE),
    "try": _TRY,
    "type": Foreign("a type alias", "use the type itself"),
    "with": Foreign("'with'", "call the functions directly; kernels have no context managers"),
    "yield": _YIELD,
}
"""By the Python keyword that starts the construct."""

_COMPREHENSION = "compute on a block (arange, where, sum), or loop with static_range"

EXPRESSIONS: dict[str, Foreign] = {
    "Await": _ASYNC,
    "Dict": Foreign("a dictionary", "use separate variables, or a tuple"),
    "DictComp": Foreign("a comprehension", _COMPREHENSION),
    "GeneratorExp": Foreign("a generator expression", _COMPREHENSION),
    "Lambda": KEYWORDS["lambda"],
    "ListComp": Foreign("a comprehension", _COMPREHENSION),
    "NamedExpr": Foreign("':='", "assign on a line of its own, before"),
    "Set": Foreign("a set", "use a tuple"),
    "SetComp": Foreign("a comprehension", _COMPREHENSION),
    "Starred": Foreign("'*' outside of a call", "name the items: 'a, b = pair'"),
    "Yield": _YIELD,
    "YieldFrom": _YIELD,
}
"""By the class of `ast`, or its operator."""

LITERALS: dict[type, Foreign] = {
    bytes: Foreign("a bytes literal", "use a string, or integers"),
    complex: Foreign("a complex number", "use two values, the real and the imaginary part"),
    type(...): Foreign(
        "'...'", "in a subscript write ':' for each dimension; in a body write 'pass'"
    ),
}
"""By the Python type of the literal."""

STORE_INSTEAD = (
    "blocks are values; write memory with store(pointer, value), select elements with where"
)
