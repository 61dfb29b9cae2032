"""The README's tables of accuracy, written from what was measured: nothing in them is typed by hand."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

import inflab
from benchmarks.accuracy.banks import BANKS, DATA
from benchmarks.accuracy.cases import TITLES
from benchmarks.accuracy.responses import summary

__all__ = ["agreement_table", "response_table", "write"]

_BEGIN, _END = "<!-- accuracy: written by python -m benchmarks.accuracy report -->", "<!-- /accuracy -->"


def agreement_table(found: dict[str, xr.Dataset]) -> str:
    """LDS of every method on every task, with 95% intervals.

    Args:
        found: case -> result of `inflab.lds`.

    Returns:
        Markdown.
    """
    names = list(dict.fromkeys(str(m) for one in found.values() for m in one["estimator"].to_numpy()))
    head = [f"| LDS | {' | '.join(TITLES[name] for name in found)} |", "| --- |" + " --- |" * len(found)]
    rows = []
    for method in names:
        cells = [_cell(one, method) for one in found.values()]
        rows.append(f"| {method} | {' | '.join(cells)} |")
    ceilings = [f"{float(one['ceiling']):.2f} ({_range(one['ceiling_interval'])})" for one in found.values()]
    rows.append(f"| *what the retrained models allow* | {' | '.join(ceilings)} |")
    return "\n".join([*head, *rows])


def response_table(found: xr.Dataset) -> str:
    """GB23 section 5.1: correlation with the proximal Bregman response, and LiSSA's cost over EK-FAC's.

    Args:
        found: of `inflab.load` on the gathered repeats.

    Returns:
        Markdown.
    """
    said = summary(found)
    names = [str(name) for name in said["estimator"].to_numpy()]
    rows = [
        f"| Pearson's r | {' | '.join(names)} | EK-FAC above dot product | LiSSA's time over EK-FAC's |",
        "| --- |" + " --- |" * (len(names) + 2),
    ]
    for case in said["case"].to_numpy():
        one = said.sel(case=case)
        each = [one.sel(estimator=name) for name in names]
        cells = [f"{float(m['correlation']):.2f} ({_range(m['interval'])})" for m in each]
        above = f"{float(one['above_dot']):+.2f} ({_range(one['above_dot_interval'])})"
        rows.append(f"| {TITLES[str(case)]} | {' | '.join(cells)} | {above} | {float(one['cost_ratio']):.0f} x |")
    return "\n".join(rows)


def write(readme: Path) -> None:
    """Put the tables between the marks of a README.

    Args:
        readme: the file.

    Raises:
        ValueError: when the marks are not there.
    """
    text = readme.read_text("utf-8")
    if _BEGIN not in text or _END not in text:
        raise ValueError(f"{readme} lacks the lines {_BEGIN!r} and {_END!r} between which the tables go")
    found = {name: inflab.load(DATA / f"agreement-{name}.zarr") for name in BANKS}
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    parts = [agreement_table(found), response_table(xr.load_dataset(DATA / "responses.nc", engine="scipy"))]
    readme.write_text(before + _BEGIN + "\n\n" + "\n\n".join(parts) + "\n\n" + _END + after, "utf-8")


def _cell(one: xr.Dataset, method: str) -> str:
    if method not in one["estimator"].to_numpy().tolist():
        return ""
    return f"{float(one['lds'].sel(estimator=method)):.2f} ({_range(one['interval'].sel(estimator=method))})"


def _range(interval: xr.DataArray) -> str:
    low, high = (float(interval.sel(bound=bound)) for bound in ("low", "high"))
    return f"{low:.2f} to {high:.2f}"
