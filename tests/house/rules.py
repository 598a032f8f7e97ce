"""The house rules, each a function from a project to its violations.

A rule yields lines of the form `path:line: what is wrong and what to do`. Rules read the text of
the files alone and import nothing of the project, so that a broken module cannot hide from them.
`test_house.py` applies every rule to the repository and to a snippet that breaks it.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

FILE_LINES = 600
FUNCTION_LINES = 60
WIDTH = 100

LINKS = ("frontend", "ir", "codegen")
# Layer -> the layers that it may import. Modules outside the layers may import everything.
LAYERS = {"ir": {"ir"}, "frontend": {"frontend", "ir"}, "codegen": {"codegen", "ir"}}
# Third-party module -> the files, by prefix, that may load it when they first need it.
LOADED_LATE = {
    "cuda": ("blocklang/runtime/cuda.py",),
    "cupy": ("blocklang/runtime/",),
    # NumPy takes longer to load than all of blocklang does.
    "ml_dtypes": ("blocklang/",),
    "numpy": ("blocklang/",),
    "lark": ("blocklang/frontend/text",),
    "llvmlite": ("blocklang/codegen/", "blocklang/compile.py"),
    "matplotlib": ("blocklang/testing/",),
    "rich": ("blocklang/cli",),
    "torch": ("blocklang/runtime/",),
}
MACHINE_PATH = re.compile(
    r"(?<![\w.~-])/(?:tmp|work|root)/[\w.-]"
    r"|(?<![\w.~-])/(?:home|Users)/\w+/"
    r"|[A-Z]:\\Users\\"
    r"|\.\./shared\b"
)


@dataclass(frozen=True)
class Source:
    """One text file; `path` is relative to the project."""

    path: PurePosixPath
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree of a Python file."""
        return ast.parse(self.text, filename=str(self.path))

    @cached_property
    def syntax_error(self) -> SyntaxError | None:
        """What is wrong with the text of a Python file, if anything."""
        try:
            self.tree  # noqa: B018
        except SyntaxError as error:
            return error
        return None

    @property
    def module(self) -> str:
        """The dotted name of a Python file."""
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@dataclass(frozen=True)
class Project:
    """The text files of a project."""

    sources: tuple[Source, ...]

    @classmethod
    def of(cls, files: Mapping[str, str]) -> Project:
        """Return a project made of texts by path."""
        return cls(tuple(Source(PurePosixPath(path), text) for path, text in files.items()))

    @classmethod
    def read(cls, root: Path) -> Project:
        """Return the files of a checkout that Git does not ignore, links and binaries left out."""
        files = {}
        for name in list_files(root):
            path = root / name
            if path.is_symlink() or not path.is_file():
                continue
            try:
                files[name] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
        return cls.of(files)

    def python(self, folder: str = "") -> Iterator[Source]:
        """Yield the Python files that parse, of one folder where one is named."""
        for source in self.sources:
            inside = source.path.suffix == ".py" and str(source.path).startswith(folder)
            if inside and source.syntax_error is None:
                yield source


Rule = Callable[[Project], Iterator[str]]
RULES: list[Rule] = []


def rule(function: Rule) -> Rule:
    """Enter a rule into RULES."""
    RULES.append(function)
    return function


def list_files(root: Path) -> list[str]:
    """Return the names of the project's files; without Git, all that are not in hidden folders."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=root, capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        paths = (path.relative_to(root) for path in root.rglob("*"))
        return [p.as_posix() for p in paths if not any(part[0] == "." for part in p.parts[:-1])]
    return [name for name in listed.stdout.split("\0") if name]


@rule
def files_parse(project: Project) -> Iterator[str]:
    """A Python file is Python: the other rules pass over files that are not."""
    for source in project.sources:
        if source.path.suffix == ".py" and source.syntax_error is not None:
            yield f"{source.path}:{source.syntax_error.lineno}: {source.syntax_error.msg}"


@rule
def files_are_short(project: Project) -> Iterator[str]:
    """A source file has at most 600 lines."""
    for source in project.sources:
        lines = source.text.count("\n")
        if source.path.suffix in (".py", ".bl", ".lark") and lines > FILE_LINES:
            yield f"{source.path}:1: {lines} lines; at most {FILE_LINES}: divide the file"


@rule
def functions_are_short(project: Project) -> Iterator[str]:
    """A function has at most 60 lines, its docstring not counted."""
    for source in project.python():
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            docstring = ast.get_docstring(node, clean=False)
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            lines -= docstring.count("\n") + 1 if docstring is not None else 0
            if lines > FUNCTION_LINES:
                place = f"{source.path}:{node.lineno}"
                yield f"{place}: {node.name} has {lines} lines; at most {FUNCTION_LINES}"


@rule
def lines_are_narrow(project: Project) -> Iterator[str]:
    """A line of source has at most 100 columns; what file tests pin is as it is."""
    for source in project.sources:
        if source.path.suffix not in (".py", ".bl", ".lark"):
            continue
        text = source.text
        if source.path.parts[:2] == ("tests", "filetests"):
            text = text.partition("\n# expected:\n")[0]
        for number, line in enumerate(text.splitlines(), 1):
            if len(line) > WIDTH:
                yield f"{source.path}:{number}: {len(line)} columns; at most {WIDTH}"


@rule
def modules_have_docstrings(project: Project) -> Iterator[str]:
    """Every module that holds anything says what it is for."""
    for source in project.python():
        if source.tree.body and not ast.get_docstring(source.tree):
            yield f"{source.path}:1: no module docstring: say purpose, invariants and limits"


@rule
def layers_hold(project: Project) -> Iterator[str]:
    """`ir` imports nothing of ours; `frontend` and `codegen` import `ir` and themselves."""
    for source in project.python("blocklang/"):
        layer = source.path.parts[1]
        if layer not in LAYERS:
            continue
        for line, names in imports(source):
            parts = names[0].split(".")
            # `from blocklang import ir` names the layer only in its second part.
            layers = {parts[1]} if len(parts) > 1 else {n.split(".")[1] for n in names[1:]} or {""}
            if parts[0] == "blocklang" and not layers <= LAYERS[layer]:
                allowed = " and ".join(sorted(LAYERS[layer]))
                yield f"{source.path}:{line}: {layer} imports {names[-1]}; it may import {allowed}"


@rule
def links_are_not_imported(project: Project) -> Iterator[str]:
    """Nothing imports through the links at the top level."""
    for source in project.python():
        for line, names in imports(source):
            if names[0].split(".")[0] in LINKS:
                yield f"{source.path}:{line}: imports {names[0]}; write blocklang.{names[0]}"


@rule
def late_imports_have_a_reason(project: Project) -> Iterator[str]:
    """Inside a function, only heavy libraries are imported, and what needs them; never a cycle."""
    graph = {s.module: module_level_imports(project, s) for s in project.python("blocklang/")}
    for source in project.python("blocklang/"):
        for line, names in imports(source, inside_functions=True):
            root = names[0].split(".")[0]
            if root == "blocklang":
                for name in set(names) & set(graph):
                    if source.module in reachable(graph, name):
                        yield (
                            f"{source.path}:{line}: the import of {name} stands in a function "
                            "because of a cycle; move what both need to a third module"
                        )
            elif not str(source.path).startswith(LOADED_LATE.get(root, ())):
                yield f"{source.path}:{line}: import {root} at the top of the module"


@rule
def cuda_has_one_door(project: Project) -> Iterator[str]:
    """cuda-python is imported in blocklang/runtime/cuda.py alone."""
    door = "blocklang/runtime/cuda.py"
    for source in project.python("blocklang/"):
        for line, names in imports(source):
            if names[0].split(".")[0] == "cuda" and str(source.path) != door:
                yield f"{source.path}:{line}: imports {names[0]}; only {door} may"


@rule
def environment_has_one_door(project: Project) -> Iterator[str]:
    """Environment variables are read in blocklang/environment.py alone."""
    door = "blocklang/environment.py"
    readers = {"environ", "environb", "getenv", "getenvb"}
    for source in project.python("blocklang/"):
        for node in ast.walk(source.tree):
            used: set[str] = set()
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used = {node.attr} if node.value.id == "os" else set()
            elif isinstance(node, ast.ImportFrom) and node.module == "os":
                used = {alias.name for alias in node.names}
            if used & readers and str(source.path) != door:
                yield f"{source.path}:{node.lineno}: reads the environment; only {door} may"


@rule
def passes_have_filetests(project: Project) -> Iterator[str]:
    """Each pass in blocklang/ir/passes has its folder of filetests, under the same name."""
    folder = "blocklang/ir/passes/"
    tested = {s.path.parts[3] for s in project.sources if is_filetest_of_pass(s)}
    for source in project.python(folder):
        if source.path.stem in ("__init__", "manager") or source.path.stem.startswith("_"):
            continue
        names = list(pass_names(source))
        if not names:
            yield f"{source.path}:1: defines no pass; helpers go to ir/analysis or _name.py"
        for line, name in names:
            if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
                yield f"{source.path}:{line}: the pass name {name!r} is not in kebab-case"
            elif name not in tested:
                yield f"{source.path}:{line}: no filetest in tests/filetests/passes/{name}/"


@rule
def text_names_no_machine(project: Project) -> Iterator[str]:
    """No text names a path of the machine it was written on."""
    for source in project.sources:
        for number, line in enumerate(source.text.splitlines(), 1):
            found = MACHINE_PATH.search(line)
            if found:
                yield f"{source.path}:{number}: names a path of one machine, {found.group()}"


def link_violations(root: Path) -> Iterator[str]:
    """The links at the top level are relative and lead into the package."""
    for name in LINKS:
        path = root / name
        if not path.is_symlink():
            yield f"{name}: is not a symbolic link"
        elif path.readlink().as_posix() != f"blocklang/{name}" or not path.is_dir():
            yield f"{name}: leads to {path.readlink().as_posix()}; expected blocklang/{name}"


def imports(source: Source, inside_functions: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield each import: its line, the absolute module name, then the names taken from it, dotted.

    With `inside_functions`, only imports that run when a function is called.
    """
    nodes = functions_bodies(source.tree) if inside_functions else ast.walk(source.tree)
    for node in nodes:
        yield from named_by(source, node)


def named_by(source: Source, node: ast.AST) -> Iterator[tuple[int, list[str]]]:
    """Yield what one node imports, in the form of `imports`."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield node.lineno, [alias.name]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = list(source.path.parts[:-1])
            base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [base])])
        yield node.lineno, [base, *(f"{base}.{alias.name}" for alias in node.names)]


def functions_bodies(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield every node that stands inside a function, each once."""
    seen: set[int] = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if id(node) not in seen:
                    seen.add(id(node))
                    yield node


def module_level_imports(project: Project, source: Source) -> set[str]:
    """Return the names that importing the module imports; names under TYPE_CHECKING are not."""
    skipped = set(map(id, functions_bodies(source.tree)))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped |= {id(inner) for child in node.body for inner in ast.walk(child)}
    found: set[str] = set()
    for node in ast.walk(source.tree):
        if id(node) not in skipped:
            found |= {name for _, names in named_by(source, node) for name in names}
    return found


def reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """Return the modules that importing `start` imports, itself included."""
    reached, waiting = set(), [start]
    while waiting:
        module = waiting.pop()
        if module in graph and module not in reached:
            reached.add(module)
            waiting += graph[module]
    return reached


def is_filetest_of_pass(source: Source) -> bool:
    """Say whether the file lies in the folder of a pass."""
    return source.path.parts[:3] == ("tests", "filetests", "passes") and len(source.path.parts) > 4


def pass_names(source: Source) -> Iterator[tuple[int, str]]:
    """Yield line and name of the passes in a module: classes with a base called `...Pass`.

    The name is the string that the class gives to `name`, as attribute or class keyword; without
    one, that of the file.
    """
    for node in source.tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        if not any(ast.unparse(base).split("[")[0].endswith("Pass") for base in node.bases):
            continue
        given = [keyword.value for keyword in node.keywords if keyword.arg == "name"]
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign | ast.Assign) and statement.value is not None:
                first = (
                    statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
                )
                given += [statement.value] if ast.unparse(first) == "name" else []
        texts = [g.value for g in given if isinstance(g, ast.Constant) and isinstance(g.value, str)]
        yield node.lineno, texts[0] if texts else source.path.stem.replace("_", "-")
