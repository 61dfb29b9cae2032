"""Values that a pass leaves for each batch and layer: asked of a GPU many at a time, since each asking waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["Gathered"]

_MOST = 2**26  # bytes that wait on a device


class Gathered:
    """Hands arrays over in the order in which their tensors came; at once on a CPU.

    Args:
        put: called with a place and the values that belong there.
    """

    def __init__(self, put: Callable[[Any, np.ndarray], None]) -> None:
        self._put = put
        self._waiting: list[tuple[Any, Tensor]] = []
        self._bytes = 0

    def add(self, place: Any, value: Tensor) -> None:
        """Hand over now, or keep until enough wait or `flush`."""
        if value.device.type == "cpu":
            self._put(place, value.numpy())
            return
        self._waiting.append((place, value))
        self._bytes += value.nbytes
        if self._bytes >= _MOST:
            self.flush()

    def flush(self) -> None:
        """Hand over all that waits."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        for place, value in waiting:
            self._put(place, value.cpu().numpy())
