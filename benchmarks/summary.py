"""Numbers from the JSON that `harness` wrote: medians, ratios, what was reached, shares of the roofline, growth."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.roofline import fit_flops
from benchmarks.setting import SIZES
from benchmarks.workloads import GROWTH, OURS, WORKLOADS, Target, Workload

__all__ = ["Growth", "Limit", "Ratio", "Row", "budgets", "growths", "peaks", "ratios", "read", "rooflines", "rows"]

Found = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One timed section of one contender: medians over its runs.

    Attributes:
        workload, contender, section: which.
        seconds: with `fastest` and `slowest`; `runs` of them.
        peak: bytes resident at most.
        grown: bytes of which the section's own.
        agreement: see `agreement.compare`; None of the first contender.
    """

    workload: str
    contender: str
    section: str
    seconds: float
    fastest: float
    slowest: float
    runs: int
    peak: float
    grown: float
    agreement: Found | None


@dataclass(frozen=True)
class Ratio:
    """How a target turned out.

    Attributes:
        workload: which.
        what: the timed sections of ours.
        ours, other: contenders.
        ours_seconds, other_seconds: medians.
        ratio: median over pairs of neighbouring runs of the other's time by ours; with `least` and `most`. NaN where
            the numbers differ.
        goal: what was to be reached.
    """

    workload: str
    what: str
    ours: str
    other: str
    ours_seconds: float
    other_seconds: float
    ratio: float
    least: float
    most: float
    goal: float


@dataclass(frozen=True)
class Limit:
    """Bytes that must not exceed others.

    Attributes:
        workload, contender: which of ours.
        other: whose peak is the limit; empty where it is the budget.
        measured, limit: bytes.
    """

    workload: str
    contender: str
    other: str
    measured: float
    limit: float


@dataclass(frozen=True)
class Growth:
    """How one work grew with one size.

    Attributes:
        axis, work: the size, and what was done.
        sizes, seconds: measured.
        exponent: e of `seconds ~ size^e`.
        beyond: the same of what was added to the smallest: without the part of the work that does not grow, such as
            the eigendecompositions of a fit with the number of sequences.
    """

    axis: str
    work: str
    sizes: list[int]
    seconds: list[float]
    exponent: float
    beyond: float


def read(results: Path) -> dict[str, Found]:
    """Workload -> what was measured, in the order of `WORKLOADS`; those without a file are left out."""
    paths = {workload.name: results / f"{workload.name}.json" for workload in (*WORKLOADS, *GROWTH)}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def rows(name: str, found: Found) -> Iterator[Row]:
    """Every timed section of every contender of a workload."""
    for contender, own in found["contenders"].items():
        for section in own["runs"][0]["sections"]:
            timed = [run["sections"][section] for run in own["runs"]]
            seconds = [one["seconds"] for one in timed]
            yield Row(
                name, contender, section, statistics.median(seconds), min(seconds), max(seconds), len(seconds),
                statistics.median(one["peak_bytes"] for one in timed),
                statistics.median(one["peak_bytes"] - one["before_bytes"] for one in timed),
                own.get("agreement"),
            )  # fmt: skip


def ratios(workload: Workload, found: Found) -> Iterator[Ratio]:
    """Every target of a workload."""
    for target in workload.targets:
        yield _ratio(workload, target, found["contenders"])


def _ratio(workload: Workload, target: Target, contenders: Found) -> Ratio:
    first = workload.contenders[0].name
    ours = target.ours or first
    mine = _seconds(contenders[ours]["runs"], target.sections)
    theirs = _seconds(contenders[target.other]["runs"], target.other_sections or target.sections)
    pairs = [other / own for own, other in zip(mine, theirs, strict=False)]
    agreed = [contenders[name]["agreement"]["holds"] for name in (ours, target.other) if name != first]
    said = (statistics.median(pairs), min(pairs), max(pairs)) if all(agreed) else (float("nan"),) * 3
    return Ratio(
        workload.name, " + ".join(target.sections), ours, target.other, statistics.median(mine),
        statistics.median(theirs), *said, target.at_least,
    )  # fmt: skip


def _seconds(runs: Sequence[Found], sections: tuple[str, ...]) -> list[float]:
    return [sum(run["sections"][section]["seconds"] for section in sections) for run in runs]


def rooflines(found: Found) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """How much of the machine's rate a fit turned into FLOPs that must be done.

    Args:
        found: measurements of a workload whose contenders fit.

    Returns:
        BLAS library -> measured FLOP/s; contender -> library -> share of it.
    """
    total = fit_flops(SIZES[found["size"]])["total"]
    own = {name: one["runs"] for name, one in found["contenders"].items()}
    notes = [run["notes"] for runs in own.values() for run in runs if run["notes"]]
    rates = {name: statistics.median(note[name] for note in notes) for name in notes[0]}
    shares = {
        name: {library: total / rate / statistics.median(_seconds(runs, ("fit",))) for library, rate in rates.items()}
        for name, runs in own.items()
    }
    return rates, shares


def budgets(workload: Workload, found: Found) -> Iterator[Limit]:
    """Our contenders with a budget: what the largest of their sections grew by, and the budget and a tenth."""
    for contender in workload.contenders:
        memory = contender.options.get("memory")
        if contender.side == OURS and isinstance(memory, str):
            grown = max(row.grown for row in rows(workload.name, found) if row.contender == contender.name)
            scale = {"MB": 1e6, "GB": 1e9}[memory[-2:]]
            yield Limit(workload.name, contender.name, "", grown, 1.1 * scale * float(memory[:-2]))


def peaks(workload: Workload, found: Found) -> Iterator[Limit]:
    """The pairs of the targets that are at the same memory: our peak, and the other's."""
    most: dict[str, float] = {}
    for row in rows(workload.name, found):
        most[row.contender] = max(row.peak, most.get(row.contender, 0.0))
    first = workload.contenders[0].name
    pairs = [(target.ours or first, target.other) for target in workload.targets if target.same_memory]
    for ours, other in dict.fromkeys(pairs):
        yield Limit(workload.name, ours, other, most[ours], most[other])


def growths(found: Found) -> Iterator[Growth]:
    """How each work grew with each size, of a workload whose sections are named "work size"."""
    for axis, own in found["contenders"].items():
        by_work: dict[str, dict[int, list[float]]] = {}
        for run in own["runs"]:
            for section, timed in run["sections"].items():
                work, _, size = section.rpartition(" ")
                by_work.setdefault(work, {}).setdefault(int(size), []).append(timed["seconds"])
        for work, seconds in by_work.items():
            sizes = sorted(seconds)
            medians = [statistics.median(seconds[size]) for size in sizes]
            beyond = [value - medians[0] for value in medians[1:]]
            yield Growth(
                axis, work, sizes, medians, _slope(sizes, medians),
                _slope([size - sizes[0] for size in sizes[1:]], beyond),
            )  # fmt: skip


def _slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Exponent of `seconds ~ size^e` by least squares in the logarithms; NaN where that says nothing."""
    if len(sizes) < 2 or min(seconds) <= 0:
        return float("nan")
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
