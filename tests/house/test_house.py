"""The repository keeps the house rules, and each rule catches what it is meant to catch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house import rules
from tests.house.rules import Project

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"cuda", "cupy", "lark", "llvmlite", "torch"}
EVERY_PROGRAM_LOADS = ("blocklang", "blocklang.language", "blocklang.kernel")

DOC = '"""Purpose."""\n'
PASS = DOC + 'class Fold(Pass):\n    """Folds."""\n    name = "fold-all"\n'

# rule, files that break it, part of the message
BROKEN = [
    (rules.files_parse, {"a.py": "x = 1\nif x\n"}, "a.py:2: expected ':'"),
    (rules.files_are_short, {"blocklang/a.py": DOC + "x = 1\n" * 600}, "a.py:1: 601 lines"),
    (rules.files_are_short, {"blocklang/bl.lark": "\n" * 601}, "bl.lark:1: 601 lines"),
    (rules.functions_are_short, {"a.py": "def f():\n" + "    x = 1\n" * 60}, "a.py:1: f has 61"),
    (
        rules.functions_are_short,
        {"a.py": "class A:\n  async def f(self):\n" + "    x = 1\n" * 60},
        "a.py:2: f has 61",
    ),
    (rules.lines_are_narrow, {"a.py": "x = 1\n#" + "x" * 100}, "a.py:2: 101 columns"),
    (rules.modules_have_docstrings, {"tools/a.py": "x = 1\n"}, "no module docstring"),
    (rules.layers_hold, {"blocklang/ir/a.py": "import blocklang.codegen.x\n"}, "ir imports"),
    (rules.layers_hold, {"blocklang/ir/a.py": "from blocklang import cache\n"}, "ir imports"),
    (rules.layers_hold, {"blocklang/ir/a.py": "import blocklang\n"}, "ir imports"),
    (rules.layers_hold, {"blocklang/ir/ops/a.py": "from ...frontend import b\n"}, "ir imports"),
    (rules.layers_hold, {"blocklang/ir/__init__.py": "from .. import cache\n"}, "ir imports"),
    (rules.layers_hold, {"blocklang/frontend/a.py": "from ..codegen.x import y"}, "frontend imp"),
    (rules.layers_hold, {"blocklang/codegen/a.py": "def f():\n  import blocklang.options"}, ":2:"),
    (rules.links_are_not_imported, {"tests/a.py": "import ir\n"}, "write blocklang.ir"),
    (
        rules.links_are_not_imported,
        {"blocklang/a.py": "from codegen.cpu import b\n"},
        "codegen.cpu",
    ),
    (
        rules.late_imports_have_a_reason,
        {
            "blocklang/a.py": "def f():\n    from blocklang import b\n",
            "blocklang/b.py": "from blocklang.c import C\n",
            "blocklang/c.py": "from . import a\n",
        },
        "a.py:2: the import of blocklang.b stands in a function because of a cycle",
    ),
    (rules.late_imports_have_a_reason, {"blocklang/a.py": "def f():\n import lark\n"}, "lark at"),
    (rules.late_imports_have_a_reason, {"blocklang/a.py": "def f():\n import re\n"}, "re at"),
    (rules.cuda_has_one_door, {"blocklang/a.py": "from cuda.bindings import driver"}, "cuda.bind"),
    (rules.environment_has_one_door, {"blocklang/a.py": "import os\nos.environ['A']"}, ":2: reads"),
    (rules.environment_has_one_door, {"blocklang/a.py": "import os\nos.getenv('A')"}, ":2: reads"),
    (rules.environment_has_one_door, {"blocklang/a.py": "from os import environ"}, ":1: reads"),
    (rules.passes_have_filetests, {"blocklang/ir/passes/fold.py": PASS}, "passes/fold-all/"),
    (
        rules.passes_have_filetests,
        {
            "blocklang/ir/passes/merge_loads.py": "class M(ir.Pass[T]):\n    x: int = 1\n",
            "tests/filetests/passes/merge-load/a.blir": "x",
            "tests/filetests/passes/merge-loads": "a file, not a folder",
        },
        "passes/merge-loads/",
    ),
    (rules.passes_have_filetests, {"blocklang/ir/passes/fold.py": DOC}, "defines no pass"),
    (
        rules.passes_have_filetests,
        {"blocklang/ir/passes/f.py": 'class F(Pass, name="Fold_All"): ...'},
        "kebab-case",
    ),
    (rules.text_names_no_machine, {"docs/a.md": "see /" + "tmp/x for it"}, "a.md:1: names"),
    (rules.text_names_no_machine, {"a.json": '"/' + 'home/someone/x"'}, "a.json:1: names"),
    (rules.text_names_no_machine, {"a.py": "# see .." + "/shared/notes"}, "a.py:1: names"),
]

# rule, files that keep it although they come near
KEPT = [
    (rules.files_parse, {"a.py": "x = 1\n", "a.bl": "kernel {"}),
    (rules.files_are_short, {"a.py": "x = 1\n" * 600, "notes.md": "\n" * 2000}),
    (
        rules.functions_are_short,
        {"a.py": 'def f():\n    """One.\n\n    Two.\n    """\n' + "    x = 1\n" * 59},
    ),
    (rules.lines_are_narrow, {"a.py": "#" + "x" * 99, "a.md": "x" * 500}),
    (rules.modules_have_docstrings, {"a.py": DOC, "b/__init__.py": "", "c.md": "text"}),
    (
        rules.layers_hold,
        {
            "blocklang/ir/ops/a.py": "import re\nfrom ..types import T\nfrom blocklang import ir",
            "blocklang/codegen/a.py": "from blocklang.ir import core\nfrom .b import c",
            "blocklang/compile.py": "import blocklang.codegen, blocklang.frontend, blocklang",
        },
    ),
    (rules.links_are_not_imported, {"blocklang/compile.py": "from . import ir\nfrom .ir import x"}),
    (
        rules.late_imports_have_a_reason,
        {
            "blocklang/a.py": "import re\ndef f():\n    from blocklang.b import x\n",
            "blocklang/b.py": "import typing\nif typing.TYPE_CHECKING:\n    import blocklang.a",
            "blocklang/frontend/text.py": "def f():\n    import lark\n",
            "tests/a.py": "def f():\n    import re\n",
        },
    ),
    (rules.cuda_has_one_door, {"blocklang/runtime/cuda.py": "def f():\n    import cuda.core"}),
    (rules.environment_has_one_door, {"blocklang/environment.py": "import os\nos.environ"}),
    (rules.environment_has_one_door, {"blocklang/a.py": "import os\nos.replace(environ, b)"}),
    (
        rules.passes_have_filetests,
        {
            "blocklang/ir/passes/fold.py": PASS,
            "blocklang/ir/passes/manager.py": DOC,
            "tests/filetests/passes/fold-all/basic.blir": "x",
        },
    ),
    (rules.text_names_no_machine, {"a.md": "https://x.org/tmp/x, ~/work/x and /usr/local/cuda"}),
]


@pytest.fixture(scope="module")
def project():
    return Project.read(ROOT)


def name_of(value):
    return getattr(value, "__name__", "")


@pytest.mark.parametrize("rule", rules.RULES, ids=name_of)
def test_repository_keeps(rule, project):
    violations = list(rule(project))
    assert not violations, "\n".join(violations)


def test_the_whole_repository_is_read(project):
    paths = {str(source.path) for source in project.sources}
    assert {"pyproject.toml", "blocklang/__init__.py", "tests/house/rules.py"} <= paths
    assert not any(path.split("/")[0] in rules.LINKS for path in paths)


@pytest.mark.parametrize(("rule", "files", "message"), BROKEN, ids=name_of)
def test_rule_catches(rule, files, message):
    violations = list(rule(Project.of(files)))
    assert len(violations) == 1, violations
    assert message in violations[0]


@pytest.mark.parametrize(("rule", "files"), KEPT, ids=name_of)
def test_rule_lets_pass(rule, files):
    assert list(rule(Project.of(files))) == []


def test_every_rule_has_examples_of_both_kinds():
    assert {rule for rule, *_ in BROKEN} == {rule for rule, *_ in KEPT} == set(rules.RULES)


@pytest.mark.skipif(os.name == "nt", reason="Windows checkouts may have files instead of links")
def test_links_lead_into_the_package():
    assert list(rules.link_violations(ROOT)) == []


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_wrong_links_are_caught(tmp_path):
    for name in ("ir", "codegen"):
        (tmp_path / "blocklang" / name).mkdir(parents=True)
    (tmp_path / "ir").symlink_to(tmp_path / "blocklang" / "ir")
    (tmp_path / "codegen").mkdir()
    (tmp_path / "frontend").symlink_to("blocklang/frontend")
    found = list(rules.link_violations(tmp_path))
    assert [line.split(":")[0] for line in found] == ["frontend", "ir", "codegen"]


@pytest.mark.parametrize("module", EVERY_PROGRAM_LOADS)
def test_importing_loads_nothing_heavy(module):
    if not list(ROOT.glob(module.replace(".", "/") + "*")):
        pytest.skip(f"{module} is not written yet")
    loaded = loaded_by(f"import {module}")
    assert module in loaded
    assert not loaded & HEAVY


def test_heavy_modules_would_be_seen():
    assert loaded_by("import lark, llvmlite") >= {"lark", "llvmlite"}


def loaded_by(statement):
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    command = [sys.executable, "-c", program]
    return set(
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split()
    )
