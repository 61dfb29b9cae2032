"""The table: from the JSON files to RESULTS.md. Measures nothing, so it can be written again at any time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.roofline import fit_flops
from benchmarks.setting import SIZES
from benchmarks.summary import Found, Ratio, Row, budgets, growths, peaks, ratios, read, rooflines, rows
from benchmarks.workloads import WORKLOADS

__all__ = ["AXES", "write"]

#: The sizes that `scaling` varies, in words.
AXES = {
    "n_train": "training sequences", "n_queries": "queries", "length": "tokens of a sequence", "hidden": "hidden width",
}  # fmt: skip
_MEASURES = {
    "spearman": "Spearman, median over queries", "overlap": "overlap of the top 10, median over queries",
    "pearson": "Pearson over all pairs",
}  # fmt: skip
_KNOWN = {workload.name: workload for workload in WORKLOADS}


_NO_DEVICE = "W7, on a data-centre GPU, is not measured: `python -m benchmarks.gpu` does it where there is one.\n"


def write(results: Path, page: Path) -> None:
    """Write the page.

    Args:
        results: folder of the JSON files.
        page: the Markdown file.

    Raises:
        FileNotFoundError: when nothing has been measured.
    """
    found = read(results)
    if not found:
        raise FileNotFoundError(f"results={str(results)!r} holds no measurement; run `make bench` first")
    parts = [_head(found), _times(found)]
    parts += [_roofline(found["W1"])] if "W1" in found else []
    parts += [_memory(found)]
    parts += [_fidelity(found), _accelerator(found["W7"]) if "W7" in found else _NO_DEVICE]
    parts += [_growth(found["growth"])] if "growth" in found else []
    parts += [_workers(found["workers"])] if "workers" in found else []
    parts += [_everything(found)]
    page.write_text("\n".join(part for part in parts if part))


def _head(found: dict[str, Found]) -> str:
    first = next(iter(found.values()))
    size, machine = SIZES[first["size"]], first["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    dates = sorted({one["created_at"][:10] for one in found.values()})
    return f"""# Benchmarks

Written by `python -m benchmarks` from the folder `results` beside it; do not edit.

GPT-NeoX with vocabulary {size.vocabulary}, hidden width {size.hidden}, {size.layers} blocks and MLPs of \
{4 * size.hidden}; sequences of {size.length} tokens, {size.train} for training
and {size.queries} queries; float32; the {2 * size.layers} MLP matrices; empirical Fisher; damping 0.1 times the mean \
eigenvalue on both sides.
Every run is a process of its own, and the sides take turns. Seconds are medians, in brackets the fastest and the
slowest run; imports, models and data are not timed. Kronfluence runs at the faster of its batch sizes. A ratio is the
median over neighbouring runs, and is shown only where the numbers of both sides agree to 1e-4 of the largest.

Measured {" to ".join(dict.fromkeys([dates[0], dates[-1]]))} on {machine["processor"]}, {machine["threads"]} threads;
Python {machine["python"]}, {versions}.
"""


def _table(title: str, head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    if len(lines) == 2:
        return ""
    return f"## {title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _times(found: dict[str, Found]) -> str:
    def line(ratio: Ratio) -> list[str]:
        is_known = not math.isnan(ratio.ratio)
        said = f"{ratio.ratio:.1f} x ({ratio.least:.1f} to {ratio.most:.1f})" if is_known else "numbers differ"
        return [
            f"{ratio.workload} {_KNOWN[ratio.workload].title}: {ratio.what}",
            f"{ratio.ours}: {_seconds(ratio.ours_seconds)}",
            f"{ratio.other}: {_seconds(ratio.other_seconds)}",
            said,
            f"{ratio.goal:g} x",
            _reached(is_known and ratio.ratio >= ratio.goal),
        ]

    reached = [ratio for name, one in found.items() if name in _KNOWN for ratio in ratios(_KNOWN[name], one)]
    return _table("Time", ["work", "ours", "peer", "ratio", "goal", "reached"], map(line, reached))


def _roofline(found: Found) -> str:
    rates, shares = rooflines(found)
    flops = fit_flops(SIZES[found["size"]])
    named = ", ".join(f"{name.removesuffix('_flops')} {rate / 1e9:.0f}" for name, rate in rates.items())
    parts = ", ".join(f"{part} {value / 1e9:.0f}" for part, value in flops.items() if part != "total")
    head = ["fit", *(f"share of {name.removesuffix('_flops')}'s rate" for name in rates)]
    body = [[name, *(f"{share:.2f}" for share in one.values())] for name, one in shares.items()]
    return f"""{_table("Share of the roofline", head, body)}
A fit must do {flops["total"] / 1e9:.0f} GFLOP ({parts}; `benchmarks/roofline.py` counts them).
Measured rate of a float32 product of 4096 x 1024 by 1024 x 1024, in GFLOP/s: {named}.
"""


def _memory(found: dict[str, Found]) -> str:
    body = []
    for name in filter(_KNOWN.__contains__, found):
        for one in (*peaks(_KNOWN[name], found[name]), *budgets(_KNOWN[name], found[name])):
            said = (f"peak {_gb(one.measured)}", f"{one.other}: {_gb(one.limit)}")
            if not one.other:
                said = (f"grew by {_gb(one.measured)}", f"the budget and a tenth: {_gb(one.limit)}")
            body.append([f"{name} {one.contender}", *said, _reached(one.measured <= one.limit)])
    return _table("Memory", ["work", "measured", "at most", "reached"], body)


def _fidelity(found: dict[str, Found]) -> str:
    """What is approximate on purpose, against what is exact."""
    agreed = {
        (name, contender): own["agreement"]
        for name, one in found.items()
        for contender, own in one["contenders"].items()
        if "agreement" in own
    }
    body: list[tuple[str, str, str, bool]] = []

    def at_least(key: tuple[str, str], measure: str, goal: float) -> None:
        if key in agreed:
            value = agreed[key][measure]
            body.append((f"{key[0]} {_MEASURES[measure]}, {key[1]}", f"{value:.4f}", f"{goal:g}", value >= goal))

    at_least(("W2", "inflab, rank 32"), "spearman", 0.99)
    at_least(("W6", "Kronfluence, pairwise"), "spearman", 0.98)
    at_least(("W6", "Kronfluence, pairwise"), "overlap", 0.85)
    if "W6" in found:
        notes = found["W6"]["contenders"]["inflab"]["runs"][0]["notes"]
        share = notes["index_bytes"] / notes["dense_bytes"]
        said = f"{share:.2%} ({notes['index_bytes'] / 1e6:.1f} MB)"
        body.append(("W6 bytes of the index by those of dense float32 gradients", said, "at most 3%", share <= 0.03))
    at_least(("W7", "inflab, bf16"), "pearson", 0.98)
    head = ["approximate against exact", "measured", "goal", "reached"]
    return _table("Fidelity", head, [[*words, _reached(is_reached)] for *words, is_reached in body])


def _accelerator(found: Found) -> str:
    size, machine = SIZES[found["size"]], found["machine"]
    return f"""W7 ran on {machine["processor"]}: hidden width {size.hidden}, {size.layers} blocks, vocabulary \
{size.vocabulary}, {size.train} sequences of {size.length} random tokens, {size.queries} queries; one process \
for all runs; its memory is the device's. {found.get("remark", "")}
"""


def _growth(found: Found) -> str:
    head = ["work", "against", "from, to", "seconds", "exponent", "exponent beyond the smallest"]
    body = [
        [
            one.work,
            AXES[one.axis],
            f"{one.sizes[0]}, {one.sizes[-1]}",
            f"{_seconds(one.seconds[0])}, {_seconds(one.seconds[-1])}",
            *("" if math.isnan(value) else f"{value:.2f}" for value in (one.exponent, one.beyond)),
        ]
        for one in growths(found)
    ]
    goal = "Goal against training sequences: an exponent of .95 to 1.05, beyond the smallest.\n"
    return f"{_table('Growth', head, body)}\n{goal}"


def _workers(found: Found) -> str:
    (grown,) = growths(found)
    one, two = grown.seconds
    body = [["2 Dask workers of one thread against 1", f"{one / two:.2f} x", "1.7 x", _reached(one / two >= 1.7)]]
    return _table("Workers", [f"{_seconds(one)}, {_seconds(two)}", "ratio", "goal", "reached"], body)


def _everything(found: dict[str, Found]) -> str:
    def line(row: Row, batch: int | None) -> list[str]:
        spread = f"{_seconds(row.seconds)} ({row.fastest:.3g} to {row.slowest:.3g}; {row.runs})"
        name = f"{row.contender}, batch {batch}" if batch else row.contender
        return [f"{row.workload} {name}", row.section, spread, _gb(row.peak), _gb(row.grown), _agreed(row)]

    head = ["work", "timed", "seconds (fastest to slowest; runs)", "peak", "grew by", "differs from the first by"]
    body = [
        line(row, one["contenders"][row.contender]["options"].get("batch_size"))
        for name, one in found.items()
        if name in _KNOWN
        for row in rows(name, one)
    ]
    return _table("All measurements", head, body)


def _agreed(row: Row) -> str:
    if row.agreement is None:
        return ""
    said = f"{row.agreement['relative']:.0e} of the largest"
    if "spearman" in row.agreement and row.agreement["relative"] > 1e-4:
        said += f"; Spearman {row.agreement['spearman']:.4f}, Pearson {row.agreement['pearson']:.4f}"
    return said


def _reached(is_reached: bool) -> str:
    return "yes" if is_reached else "**no**"


def _seconds(value: float) -> str:
    return f"{value:.3g} s"


def _gb(value: float) -> str:
    return f"{value / 1e9:.2f} GB"
