"""The tables and the plot of benchmarks/gemm_ladder.py, for `tools.report`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tools.generate_docs import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tools.report import Section

LIBRARY = "cublas"


def stages(section: Section) -> list[Mapping[str, Any]]:
    """The rows of the stages, in their order."""
    return sorted(
        (row for row in section.rows if row["provider"] == "blocklang"),
        key=lambda row: row["stage"],
    )


def library(section: Section) -> Mapping[str, Any] | None:
    """The row of the vendor's library, if it was measured."""
    return next((row for row in section.rows if row["provider"] == LIBRARY), None)


def speed_table(section: Section) -> str:
    """Each stage beside the one before, its bound and the library."""
    header = (
        "stage",
        "ms",
        "TFLOP/s",
        "× the one before",
        "on-chip bytes a FLOP",
        "bound, TFLOP/s",
        "by",
        "of the bound",
        "of cuBLAS",
    )
    found, peer = stages(section), library(section)
    lines = []
    for before, row in zip([None, *found], found, strict=False):
        lines.append(
            (
                f"{row['stage']}. {row['case']}",
                f"{row['ms']:.3f}",
                f"{row['rate'] / 1e12:.1f}",
                f"{before['ms'] / row['ms']:.2f}" if before else "–",
                f"{1 / row['on_chip_intensity']:.3f}",
                f"{row['bound'] / 1e12:.0f}",
                row["bound_by"],
                f"{row['of_bound']:.0%}",
                f"{peer['ms'] / row['ms']:.1%}" if peer else "–",
            )
        )
    if peer:
        rate = f"{peer['rate'] / 1e12:.1f}"
        lines.append(("cuBLAS", f"{peer['ms']:.3f}", rate, *6 * ("–",)))
    size = found[0]
    title = (
        f"{size['size']}: {size['operations'] / 1e9:.1f} GFLOP, {size['memory_bytes'] / 1e6:.0f} MB"
        f" of memory at best, so {size['intensity']:.0f} FLOP for each byte.\n\n"
    )
    return title + table(header, lines)


def code_table(section: Section) -> str:
    """What the machine code of each stage uses, and what stands in its PTX."""
    header = (
        "stage",
        "tile",
        "threads",
        "registers",
        "shared, KiB",
        "spilled bytes",
        "programs at a time",
        "bytes a load",
        "in the PTX",
    )
    lines = []
    for row in stages(section):
        tile = "×".join(str(row["tile"][f"BLOCK_{axis}"]) for axis in "MNK"
                        if f"BLOCK_{axis}" in row["tile"])  # fmt: skip
        lines.append(
            (
                f"{row['stage']}. {row['case']}",
                tile,
                str(row["program_threads"]),
                str(row["registers"]),
                f"{row['shared_bytes'] / 1024:.0f}",
                str(row["spilled_bytes"]),
                str(row["programs"]),
                str(row["load_bytes"] or "–"),
                ", ".join(f"{n} {kind}" for kind, n in row["instructions"].items() if n),
            )
        )
    return table(header, lines)


def counters_table(section: Section) -> str:
    """What the hardware counted while each stage ran."""
    shares = ("multiply-add units", "tensor cores", "load and store unit", "issue slots", "warps")
    header = ("stage", "µs", *shares, "second-level cache, MB", "a warp waits for")
    lines = []
    for number, row in enumerate(section.rows, 1):
        waits = {name: ratio for name, ratio in row.items() if name.startswith("waiting for ")}
        longest = max(waits, key=lambda name: waits[name])
        lines.append(
            (
                f"{number}. {row['case']}",
                f"{row['nanoseconds'] / 1e3:.0f}",
                *(f"{row[share]:.0f}%" for share in shares),
                f"{row['second-level cache bytes'] / 1e6:.0f}",
                longest.removeprefix("waiting for "),
            )
        )
    return table(header, lines)


def figure(section: Section) -> Figure:
    """How fast the stages are, and where they lie under the roof of on-chip bytes."""
    from matplotlib.figure import Figure

    found, peer = stages(section), library(section)
    drawn = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = drawn.subplots(1, 2)
    names = [f"{row['stage']}. {row['case']}" for row in found]
    rates = [row["rate"] / 1e12 for row in found]
    left.barh(names, rates, label="measured")
    left.plot([row["bound"] / 1e12 for row in found], names, "k|", markersize=14, label="bound")
    if peer:
        left.axvline(peer["rate"] / 1e12, color="C1", label="cuBLAS")
    left.set_xscale("log")
    left.set_xlim(left=min(rates) / 3)
    left.invert_yaxis()
    left.set_xlabel("TFLOP/s")
    left.legend(loc="upper right")
    draw_roofs(right, found)
    return drawn


def draw_roofs(axes: Any, found: list[Mapping[str, Any]]) -> None:
    """The roofs, with a point for each stage."""
    peaks = found[0]["peaks"]
    places = [row["on_chip_intensity"] for row in found]
    ends = [min(places) / 2, max(places) * 4]
    for name, peak in peaks["arithmetic"].items():
        corner = peak / peaks["on_chip"]
        xs = [ends[0], corner, ends[1]]
        axes.plot(xs, [min(x * peaks["on_chip"], peak) / 1e12 for x in xs], label=name)
    for row, place in zip(found, places, strict=True):
        axes.plot(place, row["rate"] / 1e12, "ko", markersize=4)
        axes.annotate(
            str(row["stage"]),
            (place, row["rate"] / 1e12),
            textcoords="offset points",
            xytext=(5, -9),
        )
    axes.set(xscale="log", yscale="log", xlabel="FLOP for each byte on chip", ylabel="TFLOP/s")
    axes.legend(loc="lower right")
