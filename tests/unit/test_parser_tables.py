"""The parser's tables in the disk cache."""

from __future__ import annotations

import pytest

from blocklang import cache, parser_tables
from blocklang.frontend import text

SOURCE = "kernel k(x: *f32):\n    store(x, 1.0)\n"


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    monkeypatch.setenv("BLOCKLANG_CACHE_DIR", str(tmp_path / "cache"))
    # Whatever becomes of the parser is undone.
    monkeypatch.setattr(text, "_parser", text._parser)
    return parser_tables.prepare_parser.__wrapped__


def test_tables_are_stored_once_and_then_restored(prepare, monkeypatch):
    expected = text.parse_text(SOURCE)
    prepare()
    assert cache.Cache().size() > 10_000
    monkeypatch.setattr(text, "save_parser", lambda: pytest.fail("the tables are there"))
    built = text._parser
    prepare()
    assert text._parser is not built
    assert text.parse_text(SOURCE) == expected


def test_another_grammar_has_other_tables(prepare, monkeypatch):
    prepare()
    size = cache.Cache().size()
    monkeypatch.setattr(text, "grammar", lambda: "another")
    prepare()
    assert cache.Cache().size() > size


def test_damaged_tables_are_built_again(prepare, tmp_path):
    prepare()
    (stored,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    contents = stored.read_bytes()
    stored.write_bytes(contents[:-1])
    prepare()
    assert stored.read_bytes() == contents
