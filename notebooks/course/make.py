"""Write the learner's and the instructor's notebooks of the course from one source.

    python notebooks/course/make.py            # writes them
    python notebooks/course/make.py --check    # fails when they are not of today's sources

A source is a Python file in jupytext's percent format. Lines between `# solution` and `# end` stand in the instructor's
notebook; the learner's has the lines after `# stub` instead, which the source keeps as comments (`#: return ...`). Cells
with the tag "instructor" stand in the instructor's notebook alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
_BEGIN, _STUB, _END = "# solution", "# stub", "# end"
_STUB_MARK = "#: "
_OWN = "instructor"
_STUCK = "**Stuck?** The same lesson [with solutions](solutions/{name}) lies in the folder `solutions`."


def learner(source: str) -> str:
    """A cell with its solutions taken out and its stubs put in."""
    return "\n".join(_lines(source, is_solved=False))


def instructor(source: str) -> str:
    """A cell with its solutions, without marks and stubs."""
    return "\n".join(_lines(source, is_solved=True))


def _lines(source: str, *, is_solved: bool) -> list[str]:
    kept, part = [], ""
    for line in source.split("\n"):
        word = line.strip()
        if word in (_BEGIN, _STUB, _END):
            if (word == _BEGIN) != (part == "") or (word == _STUB and part != _BEGIN):
                raise ValueError(f"the mark {word!r} stands where {part or 'nothing'!r} is open, in:\n{source}")
            part = "" if word == _END else word
        elif part == _STUB:
            before, mark, stub = line.partition(_STUB_MARK)
            if not mark or before.strip():
                raise ValueError(f"a line of a stub must begin with {_STUB_MARK!r}: {line!r}")
            kept += [] if is_solved else [before + stub]
        elif part != _BEGIN or is_solved:
            kept.append(line)
    if part:
        raise ValueError(f"{_END!r} is missing, in:\n{source}")
    return kept


def made(path: Path) -> dict[Path, str]:
    """Both notebooks of a source.

    Args:
        path: of the source.

    Returns:
        File -> its text.
    """
    found = {}
    for target, change in (
        (HERE / f"{path.stem}.ipynb", learner),
        (HERE / "solutions" / f"{path.stem}.ipynb", instructor),
    ):
        notebook = jupytext.read(path)
        if change is learner:
            notebook.cells = [cell for cell in notebook.cells if _OWN not in cell.metadata.get("tags", [])]
            notebook.cells.append(nbformat.v4.new_markdown_cell(_STUCK.format(name=target.name)))
        for number, cell in enumerate(notebook.cells):
            cell["id"] = f"cell-{number}"
            cell.metadata = NotebookNode({k: v for k, v in cell.metadata.items() if k == "tags"})
            if cell.cell_type == "code":
                cell.source = change(cell.source)
        notebook.metadata = NotebookNode({
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        })
        notebook.nbformat, notebook.nbformat_minor = 4, 5
        found[target] = nbformat.writes(notebook) + "\n"
    return found


def main(arguments: list[str]) -> int:
    """Run the command.

    Args:
        arguments: of the command line.

    Returns:
        0, or 1 when `--check` finds a notebook that is not of its source.
    """
    texts = {target: text for path in sorted((HERE / "source").glob("*.py")) for target, text in made(path).items()}
    there = {*HERE.glob("*.ipynb"), *(HERE / "solutions").glob("*.ipynb")}
    old = sorted(
        {target for target, text in texts.items() if target not in there or target.read_text("utf-8") != text}
        | (there - set(texts))
    )
    if "--check" in arguments:
        for target in old:
            print(f"{target.relative_to(HERE)} is not of its source; run: make course", file=sys.stderr)
        return int(bool(old))
    (HERE / "solutions").mkdir(exist_ok=True)
    for target, text in texts.items():
        target.write_text(text, "utf-8")
    print(f"{len(texts)} notebooks of {len(texts) // 2} lessons; {len(old)} were written anew")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
