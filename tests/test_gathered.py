"""What a pass leaves comes in order: at once on a CPU, many at a time from elsewhere, and all in the end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from inflab.run import gathered
from inflab.run.gathered import Gathered


class Away:
    """A tensor that is not on a CPU."""

    device = SimpleNamespace(type="cuda")
    nbytes = 40

    def __init__(self, value: float) -> None:
        self.value = value

    def cpu(self) -> Any:
        return torch.full((10,), self.value)


def test_on_a_cpu_nothing_waits() -> None:
    put: list[Any] = []
    Gathered(lambda place, value: put.append((place, value.tolist()))).add("a", torch.ones(2))
    assert put == [("a", [1.0, 1.0])]


def test_what_waits_is_handed_over_in_order_when_it_is_much_and_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathered, "_MOST", 120)
    values, seen = np.zeros((5, 10)), []
    held = Gathered(values.__setitem__)
    for place in range(5):
        held.add(place, Away(place + 1.0))  # type: ignore[arg-type]
        seen.append(int((values.sum(1) > 0).sum()))
    assert seen == [0, 0, 3, 3, 3]
    held.flush()
    held.flush()
    np.testing.assert_array_equal(values[:, 0], [1, 2, 3, 4, 5])
