"""Where a model lives and in which dtype it runs: its device, narrower passes, arrays to tensors beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from inflab.errors import ModelError, SettingError
from inflab.products import tfloat32

__all__ = ["TF32", "autocast_dtype", "model_device", "on_cores", "read_later", "summing", "to_tensor"]

TF32 = "tfloat32"
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def model_device(model: nn.Module) -> torch.device:
    """Where a batch must be: the device of the first weight that is not offloaded.

    Returns:
        The device.

    Raises:
        ModelError: when the model has no weights at all.
    """
    spread = getattr(model, "hf_device_map", None)
    execution_device = getattr(getattr(model, "_hf_hook", None), "execution_device", None)
    if spread and execution_device is not None:
        return torch.device(execution_device)
    for value in [*model.parameters(), *model.buffers()]:
        if not value.is_meta:
            return value.device
    raise ModelError("every weight of the model is on the meta device; load its weights first")


def autocast_dtype(model: nn.Module, dtype: str | None) -> torch.dtype | None:
    """The dtype of autocast for a pass in `dtype`; None when the model runs in its own.

    Returns:
        A dtype narrower than the model's, or None.

    Raises:
        SettingError: when `dtype` is unknown, or not narrower than the model's.
    """
    if dtype is None:
        return None
    if dtype not in (*DTYPES, TF32):
        raise SettingError(f"dtype={dtype!r} is not one of {', '.join([*DTYPES, TF32])} or None")
    if dtype == TF32:
        where, kinds = model_device(model).type, {p.dtype for p in model.parameters() if p.is_floating_point()}
        if where != "cuda" or kinds != {torch.float32}:
            raise SettingError(f"dtype={TF32!r} is for a float32 model on an NVIDIA GPU; this one is on {where}")
        return None
    wanted = DTYPES[dtype]
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    if wanted == own:
        return None
    if wanted.itemsize >= own.itemsize:
        raise SettingError(
            f"dtype={dtype!r} is not narrower than the model's {own}; convert a copy of the model instead"
        )
    if own == torch.float64:  # autocast leaves float64 alone
        raise SettingError(
            f"dtype={dtype!r} cannot run a float64 model; convert a copy with copy.deepcopy(model).float()"
        )
    return wanted


def read_later(flags: dict[str, Tensor | bool], device: torch.device) -> Callable[[], dict[str, bool]]:
    """Ask for flags now, to read them later: of a GPU, without waiting for what it is given in between.

    Returns:
        What gives name -> flag.
    """
    if device.type != "cuda":
        return lambda: {name: bool(ok) for name, ok in flags.items()}
    found = torch.empty(len(flags), dtype=torch.bool, pin_memory=True)
    answers = [torch.as_tensor(ok, device=device) for ok in flags.values()]
    found.copy_(torch.stack(answers), non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(device))

    def read() -> dict[str, bool]:
        done.synchronize()
        return dict(zip(flags, found.tolist(), strict=True))

    return read


def on_cores(model: nn.Module, dtype: str | None) -> bool:
    """Whether sums over tokens run on the tensor cores of a GPU after a pass in `dtype`.

    What a bfloat16 or float16 pass leaves has at most the 10 bits of mantissa that those take, so covariances and
    gradients are exact there; what is rotated loses less by that than the pass itself rounded off.

    Returns:
        True or False.
    """
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    is_narrow = (autocast_dtype(model, dtype) or own) in (torch.bfloat16, torch.float16)
    return model_device(model).type == "cuda" and (dtype == TF32 or is_narrow)


@contextmanager
def summing(device: torch.device, on_cores: bool) -> Iterator[None]:
    """How sums over tokens are taken after a pass: in float32 also when the pass was narrower; see `on_cores`.

    Yields:
        Nothing.
    """
    with torch.autocast(device.type, enabled=False), tfloat32() if on_cores else nullcontext():
        yield


def to_tensor(value: np.ndarray, device: torch.device, floats: torch.dtype) -> Tensor:
    """An array beside the model: floats in `floats`, whole numbers as int64, masks as they are; one flag stays here."""
    tensor = torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))
    if device.type == "cuda" and (tensor.ndim or tensor.dtype != torch.bool):
        tensor = tensor.pin_memory().to(device, non_blocking=True)
    if tensor.is_floating_point():
        return tensor.to(floats)
    return tensor if tensor.dtype == torch.bool else tensor.long()
