"""One source makes both notebooks: stubs here, solutions there, nothing of the one in the other."""

from __future__ import annotations

from types import ModuleType

import nbformat
import pytest

from tests.course.conftest import COURSE

CELL = """def square(x):
    # solution
    return x * x
    # stub
    #: raise NotImplementedError("square x")
    # end"""


def test_a_cell_is_a_stub_here_and_solved_there(make: ModuleType) -> None:
    assert make.learner(CELL) == 'def square(x):\n    raise NotImplementedError("square x")'
    assert make.instructor(CELL) == "def square(x):\n    return x * x"
    assert make.learner("x = 1") == make.instructor("x = 1") == "x = 1"


@pytest.mark.parametrize("broken", ["# end", "# stub\n#: x\n# end", "# solution\nx", "# solution\n# solution\n# end",
                                    "# solution\n# stub\nx = 1\n# end"])  # fmt: skip
def test_marks_that_do_not_fit_are_refused(make: ModuleType, broken: str) -> None:
    with pytest.raises(ValueError, match="mark|missing|stub"):
        make.learner(broken)


def test_the_notebooks_are_of_todays_sources(make: ModuleType) -> None:
    assert make.main(["--check"]) == 0


def test_no_solution_is_left_in_a_learners_notebook(make: ModuleType) -> None:
    for path in sorted((COURSE / "source").glob("*.py")):
        both = [nbformat.read(folder / f"{path.stem}.ipynb", 4) for folder in (COURSE, COURSE / "solutions")]
        stuck = both[0].cells.pop()
        assert (COURSE / "solutions" / path.with_suffix(".ipynb").name).exists()
        assert f"(solutions/{path.stem}.ipynb)" in stuck.source
        learners, teachers = both
        assert not any("instructor" in cell.metadata.get("tags", []) for cell in learners.cells)
        own = [cell for cell in teachers.cells if "instructor" in cell.metadata.get("tags", [])]
        assert len(own) == 1 and own[0].source.startswith("**For teachers.**")
        teachers.cells = [cell for cell in teachers.cells if cell not in own]
        changed = [(a.source, b.source) for a, b in zip(*(n.cells for n in both), strict=True) if a.source != b.source]
        assert len(changed) >= 2, f"{path.stem} has fewer than two exercises"
        assert all("# solution" not in a and "# solution" not in b for a, b in changed)
        assert all(not cell.get("outputs") for n in both for cell in n.cells)
