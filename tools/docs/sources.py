"""The map of the source tree, from the docstrings of its modules."""

from __future__ import annotations

import ast

from .markdown import ROOT, first_sentence, table


def source_map(folder: str, *deep: str) -> str:
    """A table of the modules of `folder`, with what each is for; with "deep" those below it too."""
    pattern = "**/*.py" if deep else "*.py"
    rows = []
    for path in sorted((ROOT / folder).glob(pattern)):
        documentation = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        name = path.relative_to(ROOT / folder).as_posix()
        if documentation and path.name != "__main__.py":
            rows.append((f"`{name}`", _plain(first_sentence(documentation), path.stem)))
    return table(("File", "What it is for"), rows)


def _plain(sentence: str, stem: str) -> str:
    """The sentence without the module's own name in front: `cse: merges ...`."""
    head, colon, rest = sentence.partition(": ")
    text = rest if colon and head.replace("-", "_") == stem else sentence
    return text[0].upper() + text[1:] if text is rest else text
