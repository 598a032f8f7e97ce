"""The catalogue of errors, with the pinned texts of tests/filetests/errors as examples."""

from __future__ import annotations

import inspect
import re
from functools import cache
from pathlib import Path

from blocklang import errors as _package_errors  # noqa: F401  (enters its classes)
from blocklang.codegen import errors as _codegen_errors  # noqa: F401
from blocklang.frontend import errors as _frontend_errors  # noqa: F401
from blocklang.ir import errors as _ir_errors  # noqa: F401
from blocklang.ir.diagnostics import UserError, catalogue
from blocklang.runtime.errors import LaunchError

from .markdown import ROOT, fenced, paragraphs, table

CASES = ROOT / "tests" / "filetests" / "errors"
MARK = "\n# expected:\n"


def catalogue_section(group: str) -> str:
    """Entries of the errors whose code starts with BL and the digit `group`."""
    found = [error for error in catalogue() if error.code.startswith(f"BL{group}")]
    index = "".join(f"[{e.code}](#{anchor(e)}) {e.__name__}  \n" for e in found)
    return "\n".join([index, *(_entry(error) for error in found)])


def anchor(error: type) -> str:
    """The link target of an error's heading."""
    return f"{error.code}-{error.__name__}".lower()  # type: ignore[attr-defined]


def _entry(error: type[UserError]) -> str:
    lines = [f"### {error.code} {error.__name__}", "", error.explanation(), ""]
    lines += [f"**Message:** {_template(error.message)}  "]
    if error.help and error.help != "{instead}":
        lines += [f"**Help:** {_template(error.help)}"]
    lines += ["", *_example(error.code)]
    return "\n".join(lines).rstrip() + "\n"


def _template(text: str) -> str:
    # Fields in italics; what is code in Markdown otherwise stays as it is.
    return re.sub(r"\{(\w+)\}", r"*\1*", text.replace("*", "\\*").replace("_", "\\_"))


def _example(code: str) -> list[str]:
    path = pinned().get(code)
    if path is None:
        return []
    source, _, comment = path.read_text(encoding="utf-8").partition(MARK)
    output = "\n".join(line.removeprefix("#")[1:] for line in comment.splitlines())
    language = "python" if path.suffix == ".py" else "bl"
    return [fenced(source, f"{language} wrong"), fenced(output, "text")]


@cache
def pinned() -> dict[str, Path]:
    """For each code the first case that gives it."""
    found: dict[str, Path] = {}
    for path in sorted(CASES.glob("[a-z]*/*.*")):
        _, mark, comment = path.read_bytes().decode(errors="replace").partition(MARK)
        code = re.search(r"error\[(BL\d+)\]", comment)
        if mark and code:
            found.setdefault(code[1], path)
    return found


def launch_errors() -> str:
    """The errors of launches: code, class, meaning, and an example."""
    classes = sorted(_subclasses(LaunchError), key=lambda c: c.code)
    rows = []
    parts = []
    for each in classes:
        bases = [b.__name__ for b in each.__mro__ if b.__module__ == "builtins"]
        also = next((b for b in bases if b not in ("Exception", "object")), "")
        meaning = paragraphs(inspect.cleandoc(each.__doc__ or ""))[0].replace("\n", " ")
        name = f"[{each.code}](#{anchor(each)})"
        rows.append((name, f"`{each.__name__}`", f"`{also}`" if also else "", meaning))
        parts += [f"### {each.code} {each.__name__}", "", *_example(each.code)]
    return table(("Code", "Class", "Also a", "Meaning"), rows) + "\n" + "\n".join(parts)


def _subclasses(base: type[LaunchError]) -> set[type[LaunchError]]:
    direct = set(base.__subclasses__())
    return direct.union(*(_subclasses(each) for each in direct))
