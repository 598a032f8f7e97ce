"""Syntax errors: BL100-119 in Python kernels, BL120-149 in `.bl` text, BL150-159 between files.

Where both languages can make a mistake, the class is shared and stands in the first group.
"""

from __future__ import annotations

from blocklang.ir.diagnostics import UserError


class SyntaxFamily(UserError):
    """Any of the errors below."""


class SourceUnavailable(SyntaxFamily, code="BL101"):
    """A kernel is compiled from its source text, which Python must still be able to find.

    Functions in files and notebook cells have it. Functions made by `exec` or typed at the plain
    Python prompt do not.
    """

    message = "the source of '{name}' is not available: {reason}"
    help = "define it in a file or notebook cell, or add its text to linecache.cache"
    example = 'exec("def kernel(x): ...")'


class NotAFunction(SyntaxFamily, code="BL102"):
    """Only a function written with `def` can become a kernel."""

    message = "a kernel is a function written with 'def', not {what}"
    help = "write 'def name(...):' and decorate that"
    example = "blocklang.jit(lambda x: x)"


class UnsupportedStatement(SyntaxFamily, code="BL103"):
    """The kernel language has assignments, `if`, `for`, `while`, `return`, `assert` and calls.

    Python's other statements work on the host, around the launch.
    """

    message = "{construct} is not part of the kernel language"
    help = "{instead}"
    example = "with open(name) as file: ..."


class UnsupportedExpression(SyntaxFamily, code="BL104"):
    """Kernels compute with numbers, pointers and blocks, not Python's containers."""

    message = "{construct} is not part of the kernel language"
    help = "{instead}"
    example = "total = [x for x in range(4)]"


class UnsupportedLiteral(SyntaxFamily, code="BL105"):
    """Literals are integers, floats, True, False, None and strings."""

    message = "{construct} is not part of the kernel language"
    help = "{instead}"
    example = "z = 1j"


class UnsupportedParameter(SyntaxFamily, code="BL106"):
    """A kernel has a fixed list of parameters: each becomes an argument of the GPU function."""

    message = "'{parameter}': a kernel has a fixed list of parameters"
    help = "name each parameter, or take one tuple"
    example = "def kernel(*pointers): ..."


class UnsupportedTarget(SyntaxFamily, code="BL107"):
    """Only names, and tuples of names, are assigned: blocks are values without places."""

    message = "cannot assign to {construct}"
    help = "{instead}"
    example = "x[0] = 1"


class ChainedComparison(SyntaxFamily, code="BL108"):
    """`a < b < c` would need the truth value of a block, which has one for each element."""

    message = "comparisons cannot be chained"
    help = "write '{instead}'"
    example = "mask = 0 <= cols < n"


class LoopElse(SyntaxFamily, code="BL109"):
    """`else` belongs to `if` only."""

    message = "'{loop}' loops have no 'else' in the kernel language"
    help = "set a flag in the loop and test it afterwards with 'if'"
    example = "for i in range(n): ...\nelse: ..."


class FormatSpecification(SyntaxFamily, code="BL110"):
    """Strings exist at compile time only, in messages; values are put into them as they are."""

    message = "f-strings have no format specifications here"
    help = "write '{{value}}' alone"
    example = 'static_assert(N > 0, f"{N:04d}")'


class NestedTooDeeply(SyntaxFamily, code="BL111"):
    """Expressions and statements nest to a fixed depth: the compiler's stack is finite."""

    message = "nested more than {limit} levels deep"
    help = "split it: give parts of the expression a name, or move statements into a function"
    example = "x = " + "-" * 12 + "... 1"


class SourceDoesNotParse(SyntaxFamily, code="BL112"):
    """The text that Python finds for a function is not its text any more: the file has changed."""

    message = "the source of '{name}' has changed: {reason}"
    help = "restart Python, or reload the module, so that the source and the function agree"
    example = "(edit the file while the program runs)"


class UnexpectedSyntax(SyntaxFamily, code="BL120"):
    """The text does not follow the grammar of `.bl`, described in `docs/bl.md`."""

    message = "expected {expected}, found {found}"
    help = "{instead}"
    example = "x = load(a b)"


class MissingColon(SyntaxFamily, code="BL121"):
    """`if`, `elif`, `else`, `for`, `while`, `kernel` and `function` lines end with a colon."""

    message = "expected ':' before {found}"
    help = "end the line with ':'; its block follows, indented"
    example = "if n > 0\n    x = 1"


class MissingBody(SyntaxFamily, code="BL122"):
    """A line that ends with a colon is followed by an indented block."""

    message = "expected an indented block after ':'"
    help = "indent the lines that belong to it by four spaces, or write 'pass'"
    example = "if n > 0:\nx = 1"


class BadIndentation(SyntaxFamily, code="BL123"):
    """Lines of a block start in the same column, as in Python."""

    message = "{problem}"
    help = "{instead}"
    example = "x = 1\n    y = 2"


class TabInIndentation(SyntaxFamily, code="BL124"):
    """Blocks are indented with spaces: the width of a tab depends on who looks at it."""

    message = "a tab in the indentation"
    help = "indent with spaces (four for each level)"
    example = "if n > 0:\n\tx = 1"


class UnclosedBracket(SyntaxFamily, code="BL125"):
    """A bracket stays open, so that the following lines were read as parts of it."""

    message = "'{bracket}' is never closed"
    help = "add '{closing}'"
    example = "x = load(a + b\ny = 1"


class MismatchedBracket(SyntaxFamily, code="BL126"):
    """A bracket is closed by another kind, or one is closed that was never opened."""

    message = "'{found}' {problem}"
    help = "{instead}"
    example = "x = load(a]"


class UnterminatedString(SyntaxFamily, code="BL127"):
    """A string ends on the line on which it starts, unless it has three quotes."""

    message = "the string is never closed"
    help = "add {quote} at its end"
    example = "assert n > 0, 'n must be positive"


class UnexpectedCharacter(SyntaxFamily, code="BL128"):
    """The character has no meaning in `.bl`."""

    message = "unexpected character {character}"
    help = "{instead}"
    example = "x = a ? b : c"


class AssignmentInExpression(SyntaxFamily, code="BL129"):
    """`=` assigns, and an assignment is a statement; `==` compares."""

    message = "'=' assigns; it cannot stand inside an expression"
    help = "compare with '=='"
    example = "if n = 1:\n    pass"


class ReservedWord(SyntaxFamily, code="BL130"):
    """Words of the grammar, and those of Python's, cannot be names."""

    message = "'{word}' is a reserved word"
    help = "choose another name, such as '{word}_'"
    example = "lambda = 1"


class WrongDefinitionWord(SyntaxFamily, code="BL131"):
    """Definitions in `.bl` start with `kernel` (launched by the host) or `function` (called)."""

    message = "'{word}' does not start a definition"
    help = "write 'kernel' for what the host launches, 'function' for what kernels call"
    example = "def softmax(x, y):\n    pass"


class DecoratorInText(SyntaxFamily, code="BL132"):
    """A `.bl` file has no decorators: `kernel` says what Python's `@blocklang.jit` says."""

    message = "decorators are not part of the .bl language"
    help = "remove it: 'kernel' and 'function' say what the definition is"
    example = "@jit\nkernel softmax(): ..."


class StatementOutsideFunction(SyntaxFamily, code="BL133"):
    """A file holds imports, constants, functions and kernels; statements live in their bodies."""

    message = "a statement outside of a kernel or function"
    help = "{instead}"
    example = "BLOCK = 128"


class MisplacedStatement(SyntaxFamily, code="BL134"):
    """`break` and `continue` belong to the loop around them."""

    message = "'{word}' outside of a loop"
    help = "{instead}"
    example = "kernel k():\n    break"


class MissingParameterType(SyntaxFamily, code="BL135"):
    """A kernel is compiled before it is called, so its signature states the types."""

    message = "the kernel parameter '{name}' has no type"
    help = "write '{name}: *f32' (pointer), '{name}: i32' (number) or '{name}: constexpr'"
    example = "kernel copy(x, y): ..."


class InvalidFact(SyntaxFamily, code="BL136"):
    """What a signature can state of an argument: `divisible N` (number or address) and `is N`."""

    message = "{problem}"
    help = "{instead}"
    example = "kernel k(n: i32 aligned 16): ..."


class DuplicateParameter(SyntaxFamily, code="BL137"):
    """Each parameter has a name of its own."""

    message = "the parameter '{name}' appears twice"
    help = "rename one of them"
    example = "function f(x, x): ..."


class DuplicateName(SyntaxFamily, code="BL138"):
    """Imports, constants, functions and kernels of a file share one set of names."""

    message = "'{name}' is already defined in this file"
    help = "rename one of them"
    example = "const N = 1\nconst N = 2"


class ConstantOrder(SyntaxFamily, code="BL139"):
    """Constants are evaluated from the top of the file to its end."""

    message = "the constant '{name}' is used before its definition"
    help = "{instead}"
    example = "const A = B\nconst B = 1"


class InvalidNumber(SyntaxFamily, code="BL140"):
    """Numbers are written as in Python: `12`, `0xff`, `1_000`, `1.5`, `1e-3`; no suffixes."""

    message = "'{text}' is not a number"
    help = "{instead}"
    example = "x = 1.0f"


class InvalidString(SyntaxFamily, code="BL141"):
    """Escapes in strings are those of Python; prefixes are `r` and `f`."""

    message = "{problem}"
    help = "{instead}"
    example = "static_print('\\x4')"


class InvalidArguments(SyntaxFamily, code="BL142"):
    """Positional arguments come first, each keyword appears once."""

    message = "{problem}"
    help = "{instead}"
    example = "load(mask=m, x)"


class InvalidDescriptorType(SyntaxFamily, code="BL143"):
    """The one type with angle brackets is that of a tensor descriptor."""

    message = "this is no type"
    help = "a tensor descriptor is written tensordesc<f16[64, 64]>, or tensordesc<f16[64, 64], nan>"
    example = "kernel k(x: descriptor<f16[64, 64]>): ..."


class FileNotReadable(SyntaxFamily, code="BL150"):
    """A source file cannot be opened."""

    message = "cannot read '{path}': {reason}"
    help = "check the path; an import is relative to the file that contains it"
    example = 'from "missing.bl" import f'


class NotUtf8(SyntaxFamily, code="BL151"):
    """Source files are UTF-8 text."""

    message = "'{path}' is not UTF-8 text: byte {byte} of the file is {value}"
    help = "save the file as UTF-8"
    example = "# caf\\xe9"


class ImportCycle(SyntaxFamily, code="BL152"):
    """Files may not import each other in a circle."""

    message = "files import each other: {chain}"
    help = "move what they share into a file that imports neither"
    example = 'from "self.bl" import f'


class UnknownImport(SyntaxFamily, code="BL153"):
    """An imported name must be defined in the file that it is imported from."""

    message = "'{path}' does not define '{name}'"
    help = "{instead}"
    example = 'from "common.bl" import missing'
