"""Parts of pages that are made from the code."""

from __future__ import annotations

import pytest

from tools import docs


def test_a_region_is_made_anew_and_nothing_else_changes():
    page = "# T\n\n<!-- begin source-map tests/docs -->\nold\n<!-- end -->\n\ntext\n"
    new = docs.refreshed(page)
    assert new.startswith("# T\n\n<!-- begin source-map tests/docs -->\n| File |")
    assert "| `test_regions.py` | Parts of pages that are made from the code |\n" in new
    assert "old" not in new
    assert new.endswith("<!-- end -->\n\ntext\n")
    assert docs.refreshed(new) == new


def test_an_unknown_region_is_an_error():
    with pytest.raises(KeyError, match="no-such-region"):
        docs.refreshed("<!-- begin no-such-region -->\n<!-- end -->\n")


def test_every_kind_of_region_is_used():
    text = "".join(page.read_text() for page in docs.pages_with_regions(docs.sources.ROOT))
    unused = [name for name in docs.REGIONS if f"<!-- begin {name}" not in text]
    assert unused == []
