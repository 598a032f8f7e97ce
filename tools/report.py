#!/usr/bin/env python3
"""Write the benchmark tables and plots of the documentation from benchmarks/results/*.json.

    python -m tools.report [--check]

A page asks for tables by a pair of lines, between which the tables of these sections are put:

    <!-- benchmarks:begin softmax layernorm -->
    <!-- benchmarks:end -->

Nothing that stands there comes from elsewhere than the raw results, and sections without results
give nothing. With --check nothing is written, and stale pages are a failure. Plots carry a digest
of the rows that they show, by which --check tells stale ones without drawing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools import ladder_report
from tools.generate_docs import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/performance.md", "docs/tutorials/gemm_ladder.md")
IMAGES = "docs/images"
MARKED = re.compile(
    r"(<!-- benchmarks:begin ([\w ]+?) -->\n).*?(<!-- benchmarks:end -->)", re.DOTALL
)

Row = Mapping[str, Any]


@dataclass
class Section:
    """The rows of one section, by case and provider and from each run, and the environments that
    they were measured in.
    """

    name: str
    runs: dict[tuple[str, str], list[Row]] = field(default_factory=dict)
    environments: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """Of each case and provider the row of the median run, by its milliseconds; of two in the
        middle the slower one.
        """
        ordered = (sorted(rows, key=lambda row: row.get("ms", 0)) for rows in self.runs.values())
        return [rows[len(rows) // 2] for rows in ordered]

    @property
    def cases(self) -> dict[str, dict[str, Row]]:
        """Rows by case and provider."""
        found: dict[str, dict[str, Row]] = {}
        for row in self.rows:
            found.setdefault(row["case"], {})[row["provider"]] = row
        return found

    @property
    def digest(self) -> str:
        """A name for exactly these rows."""
        text = json.dumps(self.rows, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_results(folder: Path) -> dict[str, Section]:
    """The sections of all result files of a folder. A result that is wrong is a ValueError, and so
    is one that is there twice, but in files `NAME.json`, `NAME.2.json` and so on of several runs.
    """
    sections: dict[str, Section] = {}
    files: dict[tuple[str, str, str], str] = {}
    for path in sorted(folder.glob("*.json")):
        contents = json.loads(path.read_text(encoding="utf-8"))
        for row in contents["rows"]:
            name, case, provider = row["section"], row["case"], row["provider"]
            if not row.get("correct", True):
                raise ValueError(f"{path.name}: {case} by {provider} was wrong")
            before = files.get((name, case, provider))
            if before == path.name or (before and _benchmark(before) != _benchmark(path.name)):
                raise ValueError(f"{name}, {case}: {provider} is there twice")
            files[name, case, provider] = path.name
            section = sections.setdefault(name, Section(name))
            section.runs.setdefault((case, provider), []).append(row)
            if contents["environment"] not in section.environments:
                section.environments.append(contents["environment"])
    return sections


def _benchmark(file: str) -> str:
    """The name that the files of several runs share."""
    return re.sub(r"(\.\d+)?\.json$", "", file)


def rowwise_table(section: Section) -> str:
    """Kernels on a GPU beside Triton's and a copy."""
    header = (
        "matrix",
        "copy, TB/s",
        "Triton, TB/s",
        "blocklang, TB/s",
        "× Triton",
        "best kernel, TB/s",
        "of the copy",
    )
    lines = []
    for case, by in section.cases.items():
        ours = [by[p] for p in ("blocklang", "blocklang-shaped") if p in by]
        best = max(ours, key=lambda row: row["rate"])
        kernel = (
            "the same"
            if best is by["blocklang"]
            else str(best["configuration"]).rpartition(" w")[0]
        )
        lines.append(
            (
                case,
                *(f"{by[p]['rate'] / 1e12:.2f}" for p in ("copy", "triton", "blocklang")),
                f"{by['triton']['ms'] / by['blocklang']['ms']:.2f}",
                f"{best['rate'] / 1e12:.2f} ({kernel})",
                f"{best['of_copy']:.0%}",
            )
        )
    return table(header, lines)


def product_table(section: Section) -> str:
    """Matrix products on a GPU beside cuBLAS's and Triton's, and the peak of the hardware."""
    return operations_table(section, "product", {"cublas": "cuBLAS", "triton": "Triton"})


def attention_table(section: Section) -> str:
    """Attention on a GPU beside the libraries' and Triton's, and the peak of the hardware."""
    peers = {"cudnn": "cuDNN", "flash2": "FlashAttention-2", "triton": "Triton"}
    return operations_table(section, "batch x length", peers)


def operations_table(section: Section, cases: str, names: Mapping[str, str]) -> str:
    """Operations a second by the peers that take part, and by us."""
    rows = section.rows
    names = {p: name for p, name in names.items() if any(row["provider"] == p for row in rows)}
    header = (
        cases,
        *(f"{each}, TFLOP/s" for each in ("bound", *names.values(), "blocklang")),
        *(f"× {name}" for name in names.values()),
        "of the bound",
    )
    lines = []
    for case, by in section.cases.items():
        ours, peers = by.get("blocklang"), [by.get(p) for p in names]
        bound = next(iter(by.values()))["bound"]
        rates = [row["rate"] if row else None for row in (*peers, ours)]
        ratios = [peer["ms"] / ours["ms"] if peer and ours else None for peer in peers]
        lines.append(
            (
                case,
                f"{bound / 1e12:.0f}",
                *(f"{rate / 1e12:.0f}" if rate else "–" for rate in rates),
                *(f"{ratio:.2f}" if ratio else "–" for ratio in ratios),
                f"{ours['of_bound']:.0%}" if ours else "–",
            )
        )
    return table(header, lines)


def counters_table(section: Section) -> str:
    """What the hardware counts while the fastest kernels run."""
    header = (
        "kernel",
        "by",
        "µs",
        "tensor cores",
        "multiply-add units",
        "issue slots",
        "shared memory",
        "second-level cache, MB",
        "memory, MB",
    )
    shares = ("tensor cores", "multiply-add units", "issue slots", "load and store unit")
    lines = [
        (
            row["case"],
            row["provider"],
            f"{row['nanoseconds'] / 1e3:.0f}",
            *(f"{row[share]:.0f}%" for share in shares),
            f"{row['second-level cache bytes'] / 1e6:.0f}",
            f"{row['memory bytes'] / 1e6:.0f}",
        )
        for row in section.rows
    ]
    return table(header, lines)


def launch_table(section: Section) -> str:
    """Host time of a launch beside the driver's own."""
    header = ("launch of", "by", "µs of host time", "× the floor")
    lines = []
    for case, by in section.cases.items():
        floor = min(row["microseconds"] for name, row in by.items() if name.startswith("floor"))
        for provider, row in by.items():
            time = row["microseconds"]
            lines.append((case, provider, f"{time:.2f}", f"{time / floor:.1f}"))
    return table(header, lines)


def compile_table(section: Section) -> str:
    """Time of a first launch with empty caches."""
    header = ("kernel", "Triton, ms", "blocklang, ms", "Triton takes")
    lines = [
        (
            case,
            *(f"{by[p]['ms']:.0f}" for p in ("triton", "blocklang")),
            f"{by['triton']['ms'] / by['blocklang']['ms']:.1f} ×",
        )
        for case, by in section.cases.items()
    ]
    return table(header, lines)


def cpu_table(section: Section) -> str:
    """Kernels on the CPU beside NumPy and a copy."""
    header = (
        "kernel, float32",
        "copy, ms",
        "NumPy, ms",
        "blocklang, ms",
        "NumPy takes",
        "of the copy",
    )
    lines = [
        (
            case,
            *(f"{by[p]['ms']:.2f}" for p in ("copy", "numpy", "blocklang")),
            f"{by['numpy']['ms'] / by['blocklang']['ms']:.1f} ×",
            f"{by['blocklang']['of_copy']:.0%}",
        )
        for case, by in section.cases.items()
    ]
    return table(header, lines)


def cpu_products_table(section: Section) -> str:
    """Products and attention on the CPU beside NumPy."""
    header = ("kernel", "NumPy, GFLOP/s", "blocklang, GFLOP/s", "× NumPy")
    lines = [
        (
            case,
            *(f"{by[p]['rate'] / 1e9:.0f}" for p in ("numpy", "blocklang")),
            f"{by['blocklang']['of_numpy']:.2f}",
        )
        for case, by in section.cases.items()
    ]
    return table(header, lines)


def import_table(section: Section) -> str:
    """Time of fresh processes that import something."""
    names = {
        "python": "Python that imports nothing",
        "numpy": "`import numpy`",
        "blocklang": "`import blocklang`",
    }
    lines = [
        (names[provider], f"{row['ms']:.0f}")
        for by in section.cases.values()
        for provider, row in by.items()
    ]
    return table(("a process", "ms"), lines)


TABLES: Mapping[str, Callable[[Section], str]] = {
    "softmax": rowwise_table,
    "layernorm": rowwise_table,
    "gemm": product_table,
    "attention": attention_table,
    "attention_backward": attention_table,
    "ladder": ladder_report.speed_table,
    "ladder_code": ladder_report.code_table,
    "ladder_counters": ladder_report.counters_table,
    "counters": counters_table,
    "launch": launch_table,
    "first_launch": compile_table,
    "cpu": cpu_table,
    "cpu_products": cpu_products_table,
    "import": import_table,
}


ON_THE_CPU = ("cpu", "cpu_products", "import")
# What a plot can show, by the entry of a row that has it.
SHARES: Mapping[str, str] = {
    "of_copy": "share of the speed of a copy",
    "of_bound": "share of what tensor cores and memory allow",
}


def provenance(section: Section) -> str:
    """What the figures were measured on and with."""
    lines = []
    threads = sorted({row["threads"] for row in section.rows if "threads" in row})
    count = max(map(len, section.runs.values()))
    repeated = f", medians of up to {count} runs" if count > 1 else ""
    for environment in section.environments:
        versions = environment["versions"]
        shown = [f"Python {environment['python']}"]
        for package in ("numpy", "llvmlite", "torch", "triton"):
            if versions.get(package):
                shown.append(f"{package} {versions[package]}")
        gpu = environment["gpu"] if section.name not in ON_THE_CPU else None
        machine = gpu.split(",")[0] if gpu else environment["host"]
        machine += "".join(f", {count} threads" for count in threads)
        lines.append(f"*{machine}, {environment['date']}{repeated}; {', '.join(shown)}.*\n")
    return "".join(dict.fromkeys(lines))


def fill(page: str, sections: Mapping[str, Section], images: str = "") -> str:
    """The page with the tables that it asks for, and their plots where `images` names a folder.

    Raises ValueError for a table that does not exist.
    """

    def tables(match: re.Match[str]) -> str:
        begin, names, end = match.groups()
        unknown = set(names.split()) - set(TABLES)
        if unknown:
            raise ValueError(f"no table is called {min(unknown)}; there are: {', '.join(TABLES)}")
        shown = [sections[name] for name in names.split() if name in sections]
        parts = [f"\n{TABLES[each.name](each)}\n{provenance(each)}" for each in shown]
        drawn = {each.name for each in plotted(sections) if images} & set(names.split())
        parts += [f"\n![{name}]({images}/{name}.svg)\n" for name in sorted(drawn)]
        return begin + "".join(parts) + ("\n" if parts else "") + end

    return MARKED.sub(tables, page)


def bars(section: Section) -> tuple[str, dict[str, dict[str, float]]]:
    """What the plot of a section shows: the axis, and the length of each bar by case and provider.

    The bound is 1 in every case.
    """
    shown = ("cublas", "cudnn", "flash2", "triton", "numpy", "blocklang", "blocklang-shaped")
    share = next(name for name in SHARES if any(name in row for row in section.rows))
    lengths = {
        case: {p: row[share] for p, row in by.items() if p in shown}
        for case, by in section.cases.items()
    }
    return SHARES[share], lengths


def bar_figure(section: Section) -> Figure:
    """A bar for each case and provider."""
    from matplotlib.figure import Figure

    label, cases = bars(section)
    providers = list(dict.fromkeys(p for by in cases.values() for p in by))
    figure = Figure(figsize=(8, 0.7 + 0.5 * len(cases)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(providers)
    for index, provider in enumerate(providers):
        places = [n + height * (index - (len(providers) - 1) / 2) for n in range(len(cases))]
        lengths = [by.get(provider, 0) for by in cases.values()]
        axes.barh(places, lengths, height, label=provider)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(cases)), list(cases))
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.set_title(section.name)
    axes.legend(loc="lower left", bbox_to_anchor=(1, 0))
    return figure


FIGURES: Mapping[str, Callable[[Section], Figure]] = {"ladder": ladder_report.figure}
"""How sections are drawn whose plots are not bars of shares."""


def draw(section: Section, path: Path) -> None:
    """Write the plot of a section as SVG."""
    import matplotlib as mpl

    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "blocklang", "svg.fonttype": "none"}):
        figure = FIGURES.get(section.name, bar_figure)(section)
        figure.savefig(path, metadata={"Date": None, "Description": section.digest})


def plotted(sections: Mapping[str, Section]) -> Iterable[Section]:
    """The sections that have a plot."""
    return (
        section
        for section in sections.values()
        if any(share in row for share in SHARES for row in section.rows)
    )


def stale(root: Path) -> tuple[dict[Path, str], list[tuple[Section, Path]]]:
    """The pages that differ from what the results say, with the right text; the plots likewise."""
    sections = read_results(root / "benchmarks" / "results")
    pages = {}
    for path in (root / name for name in PAGES):
        page = path.read_text(encoding="utf-8") if path.exists() else ""
        on_site = path.is_relative_to((root / IMAGES).parent)
        images = Path(os.path.relpath(root / IMAGES, path.parent)).as_posix() if on_site else ""
        right = fill(page, sections, images)
        if right != page:
            pages[path] = right
    plots = [(section, root / IMAGES / f"{section.name}.svg") for section in plotted(sections)]
    return pages, [
        (section, path)
        for section, path in plots
        if not path.exists() or section.digest not in path.read_text(encoding="utf-8")
    ]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Run the command line; the result is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    check = parser.parse_args(arguments).check
    pages, plots = stale(root)
    for path, text in pages.items():
        print(f"{'stale' if check else 'written'}: {path.relative_to(root).as_posix()}")
        if not check:
            path.write_text(text, encoding="utf-8", newline="\n")
    for section, path in plots:
        print(f"{'stale' if check else 'written'}: {path.relative_to(root).as_posix()}")
        if not check:
            draw(section, path)
    return 1 if check and (pages or plots) else 0


if __name__ == "__main__":
    sys.exit(main())
