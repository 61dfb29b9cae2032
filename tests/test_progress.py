"""Progress is told to a function instead of a bar, only where and while one listens, and however the work ends."""

from __future__ import annotations

import threading

import pytest

from inflab import progress
from tests import tiny


class Heard(list[tuple[str, int, int]]):
    def __call__(self, what: str, done: int, total: int) -> None:
        self.append((what, done, total))


def test_a_listener_hears_the_begin_and_the_end_and_no_bar_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    heard = Heard()
    with progress.telling(heard), progress.progress_bar(1000, "scores") as bar:
        for _ in range(500):
            bar.update(2)
    assert heard[0] == ("scores", 0, 1000)
    assert heard[-1] == ("scores", 1000, 1000)
    done = [one[1] for one in heard]
    assert done == sorted(done)
    assert len(done) < 100  # a browser is not flooded
    assert capsys.readouterr().err == ""


def test_what_is_not_shown_is_not_told() -> None:
    heard = Heard()
    with progress.telling(heard), progress.progress_bar(2, "scores", shown=False) as bar:
        bar.update(2)
    assert heard == []


def test_after_the_block_a_bar_is_a_bar_again_also_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    outer, inner = Heard(), Heard()
    with progress.telling(outer):
        with pytest.raises(ValueError, match="no"), progress.telling(inner), progress.progress_bar(3, "inner"):
            raise ValueError("no")
        list(progress.stepped(2, "outer"))
    assert inner == [("inner", 0, 3)]
    assert [one[0] for one in outer] == ["outer"] * len(outer)
    assert outer[-1] == ("outer", 2, 2)
    with progress.progress_bar(2, "seen"):
        pass
    assert "seen" in capsys.readouterr().err


def test_another_thread_does_not_listen() -> None:
    heard = Heard()

    def work() -> None:
        with progress.progress_bar(1, "elsewhere") as bar:
            bar.update()

    with progress.telling(heard):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert heard == []


def test_counting_may_break_off_and_closes_its_bar() -> None:
    heard = Heard()
    with progress.telling(heard):
        for step in progress.stepped(5, "CG"):
            if step == 2:
                break
    assert heard[0] == ("CG", 0, 5)
    assert heard[-1][1] < 5


def test_a_pass_over_the_data_tells() -> None:
    fitted, heard = tiny.fitted(), Heard()
    with progress.telling(heard):
        fitted.score(tiny.queries())
    ends = [one for one in heard if one[1] == one[2]]
    assert ("scores", len(tiny.TEXTS), len(tiny.TEXTS)) in ends
