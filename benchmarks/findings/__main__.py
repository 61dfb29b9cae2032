"""`python -m benchmarks.findings`: train the checkpoints, execute the notebooks, write the table of findings.

`checkpoints` trains those that are missing or were made otherwise (with `--again` all of them); `run` executes the
notebooks at full size and then reports; `report` reads the rows out of the executed notebooks into
notebooks/findings/results.json and the README. Names after the command do only what begins with them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.findings import checkpoint, report
from benchmarks.findings.execute import NOTEBOOKS, execute


def main(arguments: list[str]) -> None:
    """Run the command.

    Args:
        arguments: of the command line.
    """
    steps: dict[str, Callable[[argparse.Namespace], None]] = {
        "checkpoints": _checkpoints, "run": _run, "report": _report,
    }  # fmt: skip
    parser = argparse.ArgumentParser("python -m benchmarks.findings", description="The paper's findings, rerun.")
    parser.add_argument("step", choices=list(steps))
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--again", action="store_true", help="train checkpoints that are there already")
    asked = parser.parse_args(arguments)
    steps[asked.step](asked)


def _is_asked(name: str, asked: argparse.Namespace) -> bool:
    return not asked.names or any(name.startswith(start) for start in asked.names)


def _checkpoints(asked: argparse.Namespace) -> None:
    for recipe in checkpoint.registered():
        for seed in checkpoint.SEEDS if _is_asked(recipe.name, asked) else ():
            if not asked.again and _is_current(recipe, seed):
                continue
            path = checkpoint.build(recipe, seed)
            print(
                f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, {checkpoint.card(recipe, seed)['loss']} nat a token"
            )


def _is_current(recipe: checkpoint.Recipe, seed: int) -> bool:
    try:
        checkpoint.card(recipe, seed)
    except (FileNotFoundError, ValueError):
        return False
    return True


def _run(asked: argparse.Namespace) -> None:
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        if _is_asked(path.stem, asked):
            print(f"{path.stem} ...", flush=True)
            print(f"{path.stem}: {execute(path)}", flush=True)
    _report(asked)


def _report(asked: argparse.Namespace) -> None:
    report.write(Path(__file__).resolve().parents[2] / "README.md")


if __name__ == "__main__":
    main(sys.argv[1:])
