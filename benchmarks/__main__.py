"""`python -m benchmarks`: measure, then write the table and the charts.

Without arguments everything that needs no accelerator is measured; `W1 W3` names some workloads; `--report` measures
nothing and writes table and charts from what was measured before; `--quick --out DIR` is a smoke test at tiny sizes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.harness import measure
from benchmarks.setting import FULL, QUICK
from benchmarks.workloads import GROWTH, WORKLOADS

_HERE = Path(__file__).parent


def main(arguments: list[str]) -> str | None:
    """Run the command.

    Args:
        arguments: of the command line.

    Returns:
        What failed, for `sys.exit`; None when nothing did.
    """
    known = {workload.name: workload for workload in (*WORKLOADS, *GROWTH)}
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measure inflab beside its peers.")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"some of {', '.join(known)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one run each: a smoke test")
    parser.add_argument("--runs", type=int, default=3, help="of each contender, by turns")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the table and the charts")
    parser.add_argument("--cache", type=Path, default=_HERE.parent / "build" / "bench", help="for models and factors")
    parser.add_argument("--out", type=Path, default=_HERE, help="gets results/, charts/ and RESULTS.md")
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.workloads if name not in known]
    if unknown:
        parser.error(f"workload {unknown[0]!r} is not one of {', '.join(known)}")
    if asked.quick and asked.out == _HERE:
        parser.error("--quick needs --out: its numbers say nothing and must not replace real ones")
    results, failures = asked.out / "results", {}
    if not asked.report:
        # W7 needs an accelerator: python -m benchmarks.gpu
        names = asked.workloads or [name for name in known if name != "W7"]
        size, runs = (QUICK, 1) if asked.quick else (FULL, asked.runs)
        failures = measure([known[name] for name in names], size, asked.cache, results, runs=runs)
    from benchmarks import charts, report

    report.write(results, asked.out / "RESULTS.md")
    written = charts.draw(results, asked.out / "charts")
    print(f"wrote {asked.out / 'RESULTS.md'} and {', '.join(path.name for path in written)}")
    return f"no result for {', '.join(failures)}; see above" if failures else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
