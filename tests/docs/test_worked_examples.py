"""The worked examples of docs/add-an-op.md and docs/add-a-pass.md work as they stand."""

from __future__ import annotations

import pytest

from tests.docs import worked_example


def test_add_an_op(tmp_path):
    worked_example.copy_project(tmp_path)
    paths = worked_example.apply_page("docs/add-an-op.md", tmp_path)
    assert len(paths) > 4
    assert worked_example.run(tmp_path, "use_them.py") == "all three work\n"
    sources = sorted({path for path in paths if path.startswith("blocklang/")})
    worked_example.run(tmp_path, "-m", "ruff", "check", "--ignore", "E501", *sources)
    page = "from tools.docs import language; print(language.functions())"
    assert "### log1p" in worked_example.run(tmp_path, "-c", page)


def test_add_a_pass(tmp_path):
    worked_example.copy_project(tmp_path)
    paths = worked_example.apply_page("docs/add-a-pass.md", tmp_path)
    assert "blocklang/compile.py" in paths
    worked_example.run(tmp_path, "-m", "ruff", "check", "blocklang/ir/passes/reassociate.py")
    options = ("-q", "-p", "no:cacheprovider", "-k", "reassociate")
    files = ("tests/filetests/test_filetests.py", "tests/docs/test_pass_examples.py")
    assert "passed" in worked_example.run(tmp_path, "-m", "pytest", *options, *files)
    worked_example.run(tmp_path, "compile_it.py")


def test_lines_are_added_where_the_context_says():
    text = "a\nb\nc\n"
    assert worked_example.add_lines(text, " a\n+new\n b\n...\n-c\n+d\n") == "a\nnew\nb\nd\n"
    with pytest.raises(AssertionError, match="0 places"):
        worked_example.add_lines(text, " x\n+y\n")
