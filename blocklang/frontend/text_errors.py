"""Lark's errors as errors of the catalogue: what was met, what was expected, what was meant.

The parser tells the unexpected token and the tokens that it accepts there. `RULES` recognise common
mistakes from these two, most telling first; whatever none of them knows becomes "expected ...,
found ...".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from dataclasses import dataclass

from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.lexer import Token

from blocklang.ir.diagnostics import CompileError
from blocklang.ir.location import Location

from . import foreign
from .errors.syntax import (
    AssignmentInExpression,
    BadIndentation,
    DecoratorInText,
    LoopElse,
    MismatchedBracket,
    MissingBody,
    MissingColon,
    ReservedWord,
    StatementOutsideFunction,
    UnclosedBracket,
    UnexpectedCharacter,
    UnexpectedSyntax,
    UnsupportedExpression,
    UnsupportedParameter,
    UnsupportedStatement,
    UnterminatedString,
    WrongDefinitionWord,
)
from .text_layout import OPENING
from .text_tree import Parse, locate

DEFINITION_WORDS = frozenset(
    {"def", "fn", "func", "fun", "proc", "void", "export", "task", "__global__", "__device__"}
)
KEYWORDS = frozenset(
    {
        "FROM",
        "IMPORT",
        "AS",
        "IF",
        "ELIF",
        "ELSE",
        "FOR",
        "WHILE",
        "IN",
        "IS",
        "NOT",
        "AND",
        "OR",
        "RETURN",
        "ASSERT",
        "RAISE",
        "PASS",
        "BREAK",
        "CONTINUE",
    }
)
_EXPRESSION_START = frozenset(
    {
        "NAME",
        "NUMBER",
        "STRING",
        "LITERAL",
        "LPAR",
        "LSQB",
        "NOT",
        "PLUS",
        "MINUS",
        "TILDE",
        "KERNEL",
        "FUNCTION",
        "CONST",
    }
)
_STATEMENT_START = frozenset(
    {"IF", "FOR", "WHILE", "RETURN", "ASSERT", "RAISE", "PASS", "BREAK", "CONTINUE"}
)
_OPERATORS = frozenset(
    {
        "PLUS",
        "MINUS",
        "STAR",
        "DIVIDE",
        "AT",
        "SHIFT",
        "VBAR",
        "AMPERSAND",
        "CIRCUMFLEX",
        "COMPARISON",
        "AND",
        "OR",
        "IN",
        "IS",
        "__ANON_0",
    }
)
_WORDS = {
    "NEWLINE": "the end of the line",
    "INDENT": "an indented block",
    "DEDENT": "the end of the block",
    "$END": "the end of the file",
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "a string",
    "COLON": "':'",
    "COMMA": "','",
    "EQUAL": "'='",
    "LPAR": "'('",
    "RPAR": "')'",
    "LSQB": "'['",
    "RSQB": "']'",
    "DOT": "'.'",
    "STAR": "'*'",
    "AUGMENT": "",
}
_CHARACTERS = {
    "!": "write 'not' for the negation, '!=' for different",
    "$": "",
    "&&": "write 'and', or '&' for each element of blocks",
    "->": "the result of a function has no declared type: remove it",
    ":=": "assign on a line of its own, before",
    ";": "write one statement a line",
    "?": "write 'a if condition else b'",
    "{": "blocks are indented, not in braces; tuples are in parentheses",
    "||": "write 'or', or '|' for each element of blocks",
    "}": "blocks are indented, not in braces",
}


@dataclass(frozen=True)
class Problem:
    """An unexpected token, where it is, and the names of the tokens that could have stood there."""

    token: Token
    accepts: Set[str]
    location: Location
    parse: Parse

    @property
    def at_definition(self) -> bool:
        """Whether an item of the file could start here."""
        return "KERNEL" in self.accepts and "NAME" not in self.accepts

    @property
    def at_statement(self) -> bool:
        """Whether a statement could start here."""
        return "RETURN" in self.accepts

    @property
    def in_new_statement(self) -> bool:
        """Whether the token starts its line, or the line looks like the head of a block."""
        line = self.parse.lines[self.location.line - 1]
        is_head = re.match(r"\s*(if|for|while|kernel|function)\b.*:\s*(#.*)?$", line)
        return is_head is not None or not line[: self.location.column - 1].strip()


def translate(error: UnexpectedInput, parse: Parse) -> CompileError:
    """The error of the catalogue for an error of the parser."""
    if isinstance(error, UnexpectedCharacters):
        return _character(error, parse)
    assert isinstance(error, UnexpectedToken), f"{type(error).__name__} from the LALR parser"
    accepts = error.accepts or error.expected
    token = error.token
    location = _location(token, parse)
    problem = Problem(token, frozenset(accepts), location, parse)
    for rule in RULES:
        found = rule(problem)
        if found is not None:
            return found
    return _unexpected(problem)


def _location(token: Token, parse: Parse) -> Location:
    if parse.fixed is not None:
        return parse.fixed
    if token.type in ("NEWLINE", "DEDENT", "$END") or token.line is None:
        # The place after the last thing on the line, where something is missing.
        last = parse.layout.previous
        line = (last.end_line if last is not None else None) or 1
        column = (last.end_column if last is not None else None) or 1
        return Location(parse.file, line, column, line, column + 1, parse.function)
    return locate(token)


def _character(error: UnexpectedCharacters, parse: Parse) -> CompileError:
    line, column, character = error.line, error.column, error.char
    location = Location(parse.file, line, column, line, column + 1, parse.function)
    if parse.fixed is not None:
        location = parse.fixed
    if character in "\"'":
        text = parse.lines[line - 1][column - 1 :] if parse.fixed is None else character
        quote = character * 3 if text.startswith(character * 3) else character
        end = len(text) + column if parse.fixed is None else location.end_column
        return UnterminatedString(
            Location(
                location.file, location.line, location.column, location.line, end, parse.function
            ),
            quote=quote,
        )
    instead = ""
    if character == "\\":
        instead = "a backslash ends a line, or stands in a string"
    elif not character.isascii():
        instead = "outside of strings and comments, write ASCII punctuation"
    shown = f"'{character}'" if character.isprintable() else f"U+{ord(character):04X}"
    return UnexpectedCharacter(location, character=shown, instead=instead)


# -- rules -----------------------------------------------------------------------------------


def _unclosed(problem: Problem) -> CompileError | None:
    """A bracket left open shows at the start of a later line, or at the end of the file."""
    brackets = problem.parse.layout.brackets
    if problem.token.value in OPENING and brackets and brackets[-1] is problem.token:
        brackets = brackets[:-1]
    if not brackets or problem.parse.fixed is not None:
        return None
    opening = brackets[-1]
    at_end = problem.token.type in ("NEWLINE", "$END")
    later = problem.location.line > (opening.line or 1) and problem.in_new_statement
    if not (at_end or later) or problem.token.value in OPENING.values():
        return None
    notes = () if at_end else (("this line was read as part of it", problem.location),)
    return UnclosedBracket(
        locate(opening), notes, bracket=str(opening), closing=OPENING[opening.value]
    )


def _mismatched(problem: Problem) -> CompileError | None:
    token, brackets = problem.token, problem.parse.layout.brackets
    if token.value not in OPENING.values():
        return None
    if token is problem.parse.layout.closed:
        return None
    if not brackets:
        return MismatchedBracket(
            problem.location, found=str(token), problem="closes nothing", instead="remove it"
        )
    opening = brackets[-1]
    return MismatchedBracket(
        problem.location,
        (("it was opened here", locate(opening)),),
        found=str(token),
        problem=f"closes '{opening}'",
        instead=f"close it with '{OPENING[opening.value]}'",
    )


def _layout(problem: Problem) -> CompileError | None:
    """Colons and indentation."""
    kind, accepts = problem.token.type, problem.accepts
    if accepts == {"INDENT"}:
        return MissingBody(problem.location)
    if kind == "INDENT":
        return BadIndentation(
            problem.location,
            problem="unexpected indentation",
            instead="only the line after a ':' starts an indented block",
        )
    if "COLON" in accepts and "NAME" not in accepts and not problem.parse.layout.brackets:
        if kind == "EQUAL":
            return AssignmentInExpression(problem.location)
        if kind == "NEWLINE":
            return MissingColon(problem.location, found="the end of the line")
        if kind == "IF" and accepts == {"COLON"}:
            return None
        if kind in KEYWORDS | {"NAME", "NUMBER"} and not problem.accepts & {"EQUAL"}:
            return MissingColon(problem.location, found=f"'{problem.token}'")
    return None


def _definition(problem: Problem) -> CompileError | None:
    """What stands where an item of the file is expected."""
    token, text = problem.token, str(problem.token)
    if not problem.at_definition:
        return None
    if text == "@":
        return DecoratorInText(problem.location)
    if text in DEFINITION_WORDS:
        return WrongDefinitionWord(problem.location, word=text)
    if (
        token.type in ("NAME", "LITERAL", "NUMBER", "LPAR", "LSQB")
        or token.type in _STATEMENT_START
    ):
        line = problem.parse.lines[problem.location.line - 1]
        instead = "move it into the body of a kernel or function"
        if assigned := re.match(r"\s*(\w+)\s*=", line):
            instead = f"write 'const {assigned[1]} = ...' for a compile-time constant"
        return StatementOutsideFunction(problem.location, instead=instead)
    return None


def _foreign(problem: Problem) -> CompileError | None:
    """What Python, C or others have."""
    token, text = problem.token, str(problem.token)
    if text == "@" and problem.at_statement:
        return DecoratorInText(problem.location)
    if text == "...":
        construct, instead = foreign.LITERALS[type(...)]
        return UnsupportedExpression(problem.location, construct=construct, instead=instead)
    if token.type == "FOREIGN":
        return UnexpectedCharacter(
            problem.location, character=f"'{text}'", instead=_CHARACTERS[text]
        )
    if token.type == "FOR" and problem.parse.layout.brackets:
        construct, instead = foreign.EXPRESSIONS["ListComp"]
        return UnsupportedExpression(problem.location, construct=construct, instead=instead)
    if token.type in ("STAR", "__ANON_0") and "IDENTIFIER" not in problem.accepts:
        previous = problem.parse.layout.previous
        if (
            previous is not None
            and "COLON" not in problem.accepts
            and problem.accepts <= {"NAME", "KERNEL", "FUNCTION", "CONST", "RPAR"}
        ):
            line = problem.parse.lines[problem.location.line - 1]
            parameter = re.match(r"\*+\w*", line[problem.location.column - 1 :])
            shown = parameter[0] if parameter else text
            return UnsupportedParameter(problem.location, parameter=shown)
    if token.type == "ELSE" and problem.at_statement:
        return _stray_else(problem)
    keyword = text if token.type in ("RESERVED", "FROM", "IMPORT") else ""
    if keyword in foreign.KEYWORDS and (
        problem.at_statement or keyword in ("lambda", "yield", "await")
    ):
        construct, instead = foreign.KEYWORDS[keyword]
        kind = UnsupportedStatement if problem.at_statement else UnsupportedExpression
        return kind(problem.location, construct=construct, instead=instead)
    return None


def _stray_else(problem: Problem) -> CompileError | None:
    """An `else` that follows no `if`; after a loop with the same indentation, the loop's."""
    indentation = problem.location.column - 1
    for line in reversed(problem.parse.lines[: problem.location.line - 1]):
        if line.strip() and len(line) - len(line.lstrip()) <= indentation:
            word = line.split()[0]
            if word in ("for", "while"):
                return LoopElse(problem.location, loop=word)
            return None
    return None


def _reserved(problem: Problem) -> CompileError | None:
    token, previous = problem.token, problem.parse.layout.previous
    is_word = token.type in KEYWORDS | {"RESERVED", "LITERAL"}
    wants_name = "NAME" in problem.accepts and "NUMBER" not in problem.accepts
    if token.type == "RESERVED" or (is_word and wants_name):
        return ReservedWord(problem.location, word=str(token))
    if token.type == "EQUAL" and previous is not None and previous.type in KEYWORDS:
        return ReservedWord(locate(previous), word=str(previous))
    return None


def _name_only(problem: Problem) -> CompileError | None:
    """A reserved word where only a name can stand: not the start of a Python construct."""
    wants_expression = "NUMBER" in problem.accepts or problem.at_statement
    return None if wants_expression or "NAME" not in problem.accepts else _reserved(problem)


def _assignment(problem: Problem) -> CompileError | None:
    if problem.token.type == "EQUAL" and "COMPARISON" in problem.accepts:
        return AssignmentInExpression(problem.location)
    return None


RULES: tuple[Callable[[Problem], CompileError | None], ...] = (
    _unclosed,
    _mismatched,
    _definition,
    _name_only,
    _foreign,
    _layout,
    _assignment,
    _reserved,
)


# -- anything else ---------------------------------------------------------------------------


def _unexpected(problem: Problem) -> CompileError:
    token, instead = problem.token, ""
    found = _WORDS.get(token.type, "") if token.type in ("NEWLINE", "DEDENT", "$END") else ""
    if token.type == "ELSE" and problem.at_statement:
        instead = "'else' belongs to an 'if' with the same indentation"
    elif token.type == "IF" and problem.accepts == {"COLON"}:
        instead = "write 'elif'"
    elif token.value == "//" and "NAME" in problem.accepts:
        instead = "comments start with '#'"
    elif token.type == "IMPORT" and problem.at_definition:
        instead = "write 'from \"file.bl\" import name'"
    elif problem.accepts == {"STRING"}:
        instead = 'the file stands in quotes: from "file.bl" import name'
    elif problem.accepts == {"RPAR", "COMMA", "COLON", "EQUAL"}:
        instead = "a parameter is written 'name: type', with a comma before the next"
    elif token.type == "AUGMENT":
        instead = "such an assignment is a statement of its own"
    return UnexpectedSyntax(
        problem.location,
        expected=_expected(problem.accepts),
        found=found or f"'{token}'",
        instead=instead,
    )


def _expected(accepts: Set[str]) -> str:
    """What could have stood there, in words."""
    rest, words = set(accepts), []
    if rest.issuperset(_STATEMENT_START):
        words.append("a statement")
        rest -= _STATEMENT_START | _EXPRESSION_START
    if {"NAME", "NUMBER"} <= rest:
        words.append("an expression")
        rest -= _EXPRESSION_START
    if {"PLUS", "MINUS"} <= rest:
        words.append("an operator")
        rest -= _OPERATORS | {"NOT", "LPAR", "LSQB", "DOT", "IF", "AUGMENT", "NUMBER", "STRING"}
    if "NAME" not in rest and rest.issuperset(("KERNEL", "FUNCTION")):
        words += ["'kernel'", "'function'", "'const'", "'from'"]
        rest -= {"KERNEL", "FUNCTION", "CONST", "FROM", "STRING"}
    rest -= {"KERNEL", "FUNCTION", "CONST"}
    if len(rest) > 1:
        rest -= {"DEDENT", "$END"}
    words += sorted(_WORDS.get(name, f"'{name.lower()}'") for name in rest)
    words = [word for word in words if word]
    return " or ".join((", ".join(words[:-1]), words[-1]) if len(words) > 1 else words)
