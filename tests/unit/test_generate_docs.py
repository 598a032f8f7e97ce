"""The generated pages of docs/ say what the code says."""

import pytest

from blocklang import environment
from tools import generate_docs


def test_pages_are_current():
    stale = [path.name for path in generate_docs.stale_pages()]
    assert not stale, "run: python -m tools.generate_docs"


def test_missing_and_changed_pages_are_found_and_written(tmp_path, capsys):
    assert generate_docs.main(["--check"], tmp_path) == 1
    assert "stale: docs/environment.md" in capsys.readouterr().out
    assert not (tmp_path / "docs").exists()
    assert generate_docs.main([], tmp_path) == 0
    assert generate_docs.main(["--check"], tmp_path) == 0
    (tmp_path / "docs" / "environment.md").write_text("changed by hand")
    assert generate_docs.main(["--check"], tmp_path) == 1


@pytest.mark.parametrize("variable", environment.VARIABLES, ids=lambda v: v.name)
def test_environment_page_has_every_variable(variable):
    page = generate_docs.environment_page()
    assert f"| `{variable.name}` | {variable.documentation}" in page


def test_table_escapes_bars():
    assert generate_docs.table(["a"], [["x|y\nz"]]) == "| a |\n| --- |\n| x\\|y z |\n"
