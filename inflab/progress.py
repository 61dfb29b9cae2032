"""How far long work is: a bar of `tqdm`, or a function that is told, for those who look elsewhere than at the cell.

    with progress.telling(lambda what, done, total: ...):
        influence.score(queries)

Only within the block, and only in its own thread: nothing stays set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, Self

from tqdm.auto import tqdm

__all__ = ["Bar", "Tell", "progress_bar", "stepped", "telling"]

#: Is told what is being done, how much of it is done, and of how much.
Tell = Callable[[str, int, int], None]

_OFTEN = 0.05  # seconds between two messages: a browser draws no more
_listener: ContextVar[Tell | None] = ContextVar("inflab_progress", default=None)


class Bar(Protocol):
    """What work that is under way needs of a bar."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: Any) -> Any: ...

    def update(self, n: int = 1) -> Any:
        """So many more are done."""


@contextmanager
def telling(tell: Tell) -> Iterator[None]:
    """Within the block, tell a function where a bar would be shown.

    Args:
        tell: called with what is done, how many are done, and how many there are.
    """
    before = _listener.set(tell)
    try:
        yield
    finally:
        _listener.reset(before)


def progress_bar(total: int, what: str, unit: str = "it", *, shown: bool = True) -> Bar:
    """A bar for work in `total` parts.

    Args:
        total: how many parts.
        what: is done.
        unit: what a part is.
        shown: False makes a bar that nobody sees.

    Returns:
        A bar, to be used in a `with` block.
    """
    tell = _listener.get()
    if shown and tell is not None:
        return _Told(tell, total, what)
    made: Bar = tqdm(total=total, desc=what, unit=unit, disable=not shown, leave=False)
    return made


def stepped(total: int, what: str, unit: str = "step", *, shown: bool = True) -> Iterator[int]:
    """Count to `total` under a bar; the loop may break off before.

    Yields:
        0, 1, ...
    """
    with progress_bar(total, what, unit, shown=shown) as bar:
        for step in range(total):
            yield step
            bar.update()


class _Told:
    def __init__(self, tell: Tell, total: int, what: str) -> None:
        self._tell, self._total, self._what = tell, total, what
        self._done, self._said = 0, -_OFTEN

    def __enter__(self) -> Self:
        self._tell(self._what, 0, self._total)
        return self

    def __exit__(self, *error: Any) -> None:
        return None

    def update(self, n: int = 1) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._said >= _OFTEN or self._done >= self._total:
            self._said = now
            self._tell(self._what, self._done, self._total)
