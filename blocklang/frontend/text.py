"""The `.bl` front end: text to a tree (`parse_text`), files with their imports (`load_file`).

The parser is built at first use, or restored from the bytes of `save_parser`, which takes a tenth
of the time. Only errors of the catalogue leave this module, whatever the text. Names are not
resolved, except for those that files import from each other; the language's own names are in no
scope of this module.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from lark import Lark
from lark.exceptions import UnexpectedInput

from blocklang.ir.diagnostics import register_source
from blocklang.ir.location import Location

from . import syntax
from .errors.syntax import FileNotReadable, ImportCycle, NotUtf8, UnknownImport
from .text_errors import translate
from .text_layout import Layout, check_tabs
from .text_statements import TreeBuilder, check_depth
from .text_tree import CURRENT, Parse

Definition = syntax.Function | syntax.Constant


class FileScope(Mapping[str, Definition]):
    """The names that a `.bl` file defines and imports: functions, kernels and constants.

    `path` is the file, `tree` its syntax, `files` every file that it is made of, itself last.
    """

    def __init__(self, path: str, tree: syntax.File, files: tuple[str, ...]) -> None:
        self.path = path
        self.tree = tree
        self.files = files

    def __getitem__(self, name: str) -> Definition:
        definition: Definition = self.tree.scope[name]
        return definition

    def __iter__(self) -> Any:
        return iter(self.tree.scope)

    def __len__(self) -> int:
        return len(self.tree.scope)

    @property
    def kernels(self) -> dict[str, syntax.Function]:
        """The kernels that the file itself defines, in its order."""
        return {f.name: f for f in self.tree.functions if f.is_kernel}


# -- the parser ------------------------------------------------------------------------------


class _PostLexer:
    """Hands the tokens of a parse to the layout of that parse."""

    # Tokens of no rule, which the lexer must know nevertheless, for errors that name them.
    always_accept = ("NEWLINE", "RESERVED", "FOREIGN")

    def process(self, stream: Any) -> Any:
        return CURRENT.get().layout.process(stream)


def _options() -> dict[str, Any]:
    return {"transformer": TreeBuilder(), "postlex": _PostLexer()}


def grammar() -> str:
    """The text of `bl.lark`."""
    return resources.files(__package__).joinpath("bl.lark").read_text(encoding="utf-8")


@cache
def _parser() -> Lark:
    start = ["file", "expression"]
    return Lark(
        grammar(), parser="lalr", lexer="basic", start=start, keep_all_tokens=True, **_options()
    )


def save_parser() -> bytes:
    """The tables of the parser for `restore_parser`: valid for `grammar()` and Lark's version."""
    buffer = io.BytesIO()
    _parser().save(buffer, exclude_options=tuple(_options()))
    return buffer.getvalue()


def restore_parser(tables: bytes) -> None:
    """Use the tables of `save_parser`: a pickle, so only from where nobody else can write."""
    global _parser
    parser = Lark._load_from_dict(**pickle.loads(tables), **_options())
    _parser = cache(lambda: parser)


# -- parsing ---------------------------------------------------------------------------------


def parse_text(text: str, file: str = "<text>") -> syntax.File:
    """The tree of the text of a `.bl` file. Imports are parsed but not followed: see `load_text`.

    Raises an error of the catalogue for whatever is wrong with the text.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    register_source(file, text)
    lines = text.removesuffix("\n").split("\n")
    check_tabs(text, file)
    parse = Parse(file, lines, Layout(file), _parse_expression, {})
    tree: syntax.File = _run(parse, text if text.endswith("\n") else text + "\n", "file")
    check_depth(tree)
    return tree


def _parse_expression(text: str, location: Location) -> syntax.Expression:
    """The expression `text` inside of an f-string at `location`."""
    outer = CURRENT.get()
    layout = Layout(location.file, has_lines=False)
    parse = Parse(outer.file, [text], layout, _parse_expression, outer.scope, fixed=location)
    expression: Any = _run(parse, text.strip(), "expression")
    return getattr(expression, "content", expression)


def _run(parse: Parse, text: str, start: str) -> Any:
    token = CURRENT.set(parse)
    try:
        return _parser().parse(text, start)
    except UnexpectedInput as error:
        raise translate(error, parse) from None
    finally:
        CURRENT.reset(token)


# -- files -----------------------------------------------------------------------------------


def load_file(path: str | os.PathLike[str]) -> FileScope:
    """The scope of a `.bl` file, with what it imports. Each file is parsed once."""
    return _Loader().load(os.fspath(path), None)


def load_text(text: str, file: str = "<text>") -> FileScope:
    """The scope of a text; its imports are relative to the folder of `file`."""
    return _Loader().link(parse_text(text, file), file)


class _Loader:
    """Follows the imports of one file."""

    def __init__(self) -> None:
        self._loaded: dict[Path, FileScope] = {}
        self._open: list[str] = []

    def load(self, path: str, place: Location | None) -> FileScope:
        """The scope of the file at `path`, which is imported at `place`."""
        key = Path(os.path.realpath(path))
        if path in self._open or any(os.path.realpath(p) == str(key) for p in self._open):
            names = [os.path.basename(p) for p in (*self._open, path)]
            raise ImportCycle(place, chain=" -> ".join(names))
        if key not in self._loaded:
            self._loaded[key] = self.link(parse_text(_read(path, place), path), path)
        return self._loaded[key]

    def link(self, tree: syntax.File, path: str) -> FileScope:
        """Load what `tree` imports and put it into its scope."""
        self._open.append(path)
        files: dict[str, None] = {}
        for statement in tree.imports:
            target = os.path.join(os.path.dirname(path), statement.path)
            scope = self.load(target, statement.path_location)
            files.update(dict.fromkeys(scope.files))
            for imported in statement.names:
                tree.scope[imported.alias] = self._imported(imported, scope, statement.path)
        self._open.pop()
        return FileScope(path, tree, (*files, path))

    def _imported(self, imported: syntax.ImportedName, scope: FileScope, path: str) -> Definition:
        if imported.name in scope:
            return scope[imported.name]
        close = get_close_matches(imported.name, scope, 1)
        names = ", ".join(sorted(scope)) or "nothing"
        instead = f"did you mean '{close[0]}'?" if close else f"it defines {names}"
        raise UnknownImport(imported.location, path=path, name=imported.name, instead=instead)


def _read(path: str, place: Location | None) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise FileNotReadable(
            place, path=path, reason=(error.strerror or str(error)).lower()
        ) from None
    except ValueError as error:
        if not isinstance(error, UnicodeDecodeError):
            # A path with a null character.
            raise FileNotReadable(place, path=path, reason=str(error)) from None
        value = f"0x{error.object[error.start]:02x}"
        raise NotUtf8(place, path=path, byte=error.start, value=value) from None
