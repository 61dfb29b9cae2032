"""What travels between processes: tensors as arrays, a problem as a closed parcel.

Dask pickles a tensor inside a dataclass by writing it into a file in memory and reading it from there: 1.1 s for 270 MB
on a 2-core machine, there and back, against 0.03 s for an array, whose memory is sent as it is. A worker may have to
hand the problem on to another one while a pass has hooks on its model: so it keeps what it got, unopened, beside it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inflab.errors import SettingError
from inflab.problem import Problem
from inflab.products import as_right_side

__all__ = ["boxed", "unboxed"]


class _Parcel:
    """A problem as bytes; each process opens its own once."""

    def __init__(self, header: Any, frames: list[Any]) -> None:
        self._sent = header, frames
        self._problem: Problem | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _Parcel, self._sent

    @classmethod
    def of(cls, problem: Problem) -> _Parcel:
        """Close a problem; dask pickles it, and with it the model, unless `copyreg` knows how workers load that.

        Returns:
            The parcel.

        Raises:
            SettingError: when it cannot be pickled.
        """
        from distributed.protocol.serialize import serialize

        try:
            header, frames = serialize(problem, on_error="raise")
        except Exception as error:  # whatever a user's class raises
            why, name = error.__cause__ or error, repr(problem).partition("\n")[0]
            raise SettingError(
                f"client= cannot send {name} to workers ({type(why).__name__}: {why}); have workers load the model "
                "themselves (copyreg.pickle), or leave out what cannot be pickled"
            ) from error
        return cls(header, [np.frombuffer(frame, np.uint8) for frame in frames])

    def open(self) -> Problem:
        """The problem."""
        from distributed.protocol.serialize import deserialize

        if self._problem is None:
            header, frames = self._sent
            self._problem = deserialize(header, [memoryview(frame) for frame in frames])
        return self._problem


class _Box:
    """A tensor on the CPU."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __reduce__(self) -> tuple[Any, ...]:
        array = self.tensor.numpy()
        return _box, (np.asarray(array, order="C"), self.tensor.ndim == 2 and not self.tensor.is_contiguous())


def _box(array: np.ndarray, is_factor: bool) -> _Box:
    there = torch.from_numpy(array if array.flags.writeable else array.copy())
    return _Box(as_right_side(there) if is_factor else there)


def boxed(value: Any) -> Any:
    """The same with tensors in boxes and problems in parcels, also inside dicts, lists, tuples and dataclasses."""
    memo: dict[int, _Box] = {}  # one tensor in two places stays one

    def box(part: Any) -> Any:
        if isinstance(part, Problem):
            return _Parcel.of(part)
        if type(part) is Tensor and part.device.type == "cpu" and not part.requires_grad:
            return memo.setdefault(id(part), _Box(part))
        return part

    return _mapped(value, box)


def unboxed(value: Any) -> Any:
    """The same with everything out of its box."""

    def unbox(part: Any) -> Any:
        if isinstance(part, _Parcel):
            return part.open()
        return part.tensor if isinstance(part, _Box) else part

    return _mapped(value, unbox)


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {name: _mapped(part, change) for name, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_mapped(part, change) for part in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        new = copy.copy(value)
        for name in (field.name for field in dataclasses.fields(value)):
            object.__setattr__(new, name, _mapped(getattr(value, name), change))
        return new
    return change(value)
