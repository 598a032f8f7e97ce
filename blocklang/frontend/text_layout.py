"""Indentation and brackets of `.bl` text: the step between Lark's lexer and its parser.

Turns the line ends that the lexer sees into NEWLINE, INDENT and DEDENT, drops those inside
brackets, and refuses uneven indentation. Keeps the open brackets, for error texts. One object
serves one parse.
"""

from __future__ import annotations

from collections.abc import Iterator

from lark.lexer import Token

from blocklang.ir.location import Location

from .errors.syntax import BadIndentation, TabInIndentation

OPENING = {"(": ")", "[": "]"}


class Layout:
    """The layout of one text: of a file, or of an expression alone, which has no lines."""

    def __init__(self, file: str, has_lines: bool = True) -> None:
        self._file = file
        self._has_lines = has_lines
        self._levels = [0]
        self.brackets: list[Token] = []
        self.previous: Token | None = None
        """The last token before the one that the parser looks at, layout not counted."""
        self.closed: Token | None = None
        """The last token that closed a bracket."""
        self._latest: Token | None = None

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        """The tokens of `stream` with layout tokens in place of line ends."""
        line_end: Token | None = None
        for token in stream:
            if token.type == "NEWLINE":
                line_end = token
                continue
            if self._has_lines and not self.brackets:
                if self._latest is None:
                    self._start(token)
                elif line_end is not None:
                    yield line_end
                    yield from self._change_level(token)
            line_end = None
            self.previous, self._latest = self._latest, token
            self._follow_brackets(token)
            yield token
        if self._has_lines and self._latest is not None:
            self.previous = self._latest
            yield line_end or Token.new_borrow_pos("NEWLINE", "\n", self._latest)
            for _ in self._levels[1:]:
                yield Token.new_borrow_pos("DEDENT", "", self._latest)

    def _follow_brackets(self, token: Token) -> None:
        if token.value in OPENING:
            self.brackets.append(token)
        elif self.brackets and token.value == OPENING[self.brackets[-1].value]:
            self.brackets.pop()
            self.closed = token

    def _place(self, token: Token) -> Location:
        line, width = token.line or 1, token.column or 1
        return Location(self._file, line, 1, line, max(width, 2))

    def _start(self, token: Token) -> None:
        if (token.column or 1) > 1:
            raise BadIndentation(
                self._place(token),
                problem="the first line of the file is indented",
                instead="start it in the first column",
            )

    def _change_level(self, token: Token) -> Iterator[Token]:
        width = (token.column or 1) - 1
        if width > self._levels[-1]:
            self._levels.append(width)
            yield Token.new_borrow_pos("INDENT", "", token)
            return
        outer = list(self._levels)
        while width < self._levels[-1]:
            self._levels.pop()
            yield Token.new_borrow_pos("DEDENT", "", token)
        if width != self._levels[-1]:
            raise BadIndentation(
                self._place(token),
                problem=f"indented by {width}, which no block around it is",
                instead=f"indent it by {' or '.join(str(level) for level in outer)}",
            )


def check_tabs(text: str, file: str) -> None:
    """Refuse tabs in front of the first character of any line that holds more than white space."""
    for number, line in enumerate(text.split("\n"), 1):
        content = line.lstrip()
        indentation = line[: len(line) - len(content)]
        if content and "\t" in indentation and not content.startswith("#"):
            column = indentation.index("\t") + 1
            raise TabInIndentation(Location(file, number, column, number, column + 1))
