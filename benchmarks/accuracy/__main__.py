"""`python -m benchmarks.accuracy`: make what the findings and the README's tables of accuracy rest on.

`banks`, `responses`, `removals` and `agreement` each write to notebooks/findings/data; `report` writes the README's
tables from there; `all` does one after the other. Names of cases after the command do only these.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import xarray as xr
from tqdm.auto import tqdm

import inflab
from benchmarks.accuracy import banks, removals, report, responses
from benchmarks.accuracy.cases import case

_REPEATS = 10
_MEMBERS = 10


def main(arguments: list[str]) -> None:
    """Run the command.

    Args:
        arguments: of the command line.
    """
    steps: dict[str, Callable[[list[str]], None]] = {
        "banks": _banks, "responses": _responses, "removals": _removals, "agreement": _agreement, "report": _report,
    }  # fmt: skip
    parser = argparse.ArgumentParser("python -m benchmarks.accuracy", description="Hold methods against ground truth.")
    parser.add_argument("step", choices=[*steps, "all"])
    parser.add_argument("names", nargs="*", metavar="CASE")
    asked = parser.parse_args(arguments)
    for name in list(steps) if asked.step == "all" else [asked.step]:
        steps[name](asked.names)


def _banks(names: list[str]) -> None:
    for name in names or [*banks.BANKS, "concrete-fixed"]:
        banks.build(name)


def _responses(names: list[str]) -> None:
    """Repeats are kept one by one, so that a run that was broken off goes on; written when all of them are there."""
    for name in names or list(responses.RESPONSES):
        for number in tqdm(range(_REPEATS), desc=f"responses: {name}", unit="repeat"):
            kept = _kept(name, number)
            if not kept.exists():
                found = responses.repeat(name, number)
                kept.parent.mkdir(parents=True, exist_ok=True)
                found.to_netcdf(kept.with_suffix(".part"), engine="scipy")
                kept.with_suffix(".part").rename(kept)
    if all(_kept(name, number).exists() for name in responses.RESPONSES for number in range(_REPEATS)):
        each = {
            name: [xr.load_dataset(_kept(name, n), engine="scipy") for n in range(_REPEATS)]
            for name in responses.RESPONSES
        }
        responses.gathered(each).to_netcdf(banks.DATA / "responses.nc", engine="scipy")
        print("wrote responses.nc")


def _kept(name: str, number: int) -> Path:
    return banks.DATA / "unfinished-responses" / f"{name}-{number}.nc"


def _removals(names: list[str]) -> None:
    for name in names or removals.CASES:
        _save(removals.removal(name), f"removal-{name}")


def _agreement(names: list[str]) -> None:
    for name in names or [*banks.BANKS, "concrete-fixed"]:
        chosen = case(name.removesuffix("-fixed"))
        if name.endswith("-fixed"):
            scores = banks.deterministic(chosen)
        else:
            scores = banks.scores(chosen, banks.members(chosen, _MEMBERS))
        _save(banks.slim(inflab.lds(scores, banks.bank_of(name))), f"agreement-{name}")


def _report(names: list[str]) -> None:
    report.write(Path(__file__).resolve().parents[2] / "README.md")


def _save(found: xr.Dataset, name: str) -> None:
    target = banks.DATA / f"{name}.zarr"
    shutil.rmtree(target, ignore_errors=True)
    inflab.save(found, target)
    print(f"wrote {target.name}")


if __name__ == "__main__":
    main(sys.argv[1:])
