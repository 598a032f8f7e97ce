"""Parts of pages of docs/ that are made from the code, each between two marks in its page:

    <!-- begin NAME word ... -->
    made from the code
    <!-- end -->

`REGIONS` says what stands under each name: a function of the words that returns Markdown. To add a
part, write a function in the module of its subject and enter it here. Functions depend on nothing
but the checkout, so that every machine makes the same text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from . import codegen, errors, intermediate, language, passes, sources

REGIONS: Mapping[str, Callable[..., str]] = {
    "attributes": language.attributes,
    "catalogue": errors.catalogue_section,
    "cpu-plan": codegen.cpu_plan,
    "descriptor-methods": language.descriptor_methods,
    "dtypes": language.dtypes,
    "excerpt": passes.excerpt,
    "functions": language.functions,
    "function-list": language.function_list,
    "invariants": intermediate.invariants,
    "launch-errors": errors.launch_errors,
    "launcher": codegen.launcher,
    "lowered": intermediate.lowered,
    "native-ops": codegen.native_ops,
    "nvptx": codegen.nvptx,
    "ops": intermediate.ops,
    "pass-sections": passes.sections,
    "pipeline": passes.pipeline,
    "promotion": language.promotion,
    "python-functions": language.python_functions,
    "rules": intermediate.rules,
    "source-map": sources.source_map,
    "targets": codegen.targets,
    "type-attributes": language.type_attributes,
}

_REGION = re.compile(r"(<!-- begin ([a-z-]+)((?: [^ >\n]+)*) -->\n).*?(<!-- end -->)", re.DOTALL)


def refreshed(text: str) -> str:
    """The page `text` with every region made anew. KeyError for an unknown name."""

    def replace(region: re.Match[str]) -> str:
        body = REGIONS[region[2]](*region[3].split())
        return f"{region[1]}{body.rstrip()}\n{region[4]}"

    return _REGION.sub(replace, text)


def pages_with_regions(root: Path) -> list[Path]:
    """The pages under `root`/docs that have a region."""
    pages = sorted(root.glob("docs/**/*.md"))
    return [page for page in pages if _REGION.search(page.read_text(encoding="utf-8"))]
