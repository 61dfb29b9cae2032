"""Train a causal language model on a corpus: AdamW, a warm-up, a cosine, nothing else.

The loss counts the tokens that `is_target` marks and sees the tokens that `is_text` marks, as every influence
computed later does. The same seed gives the same weights on the same machine, and the caller's random numbers,
gradient mode and model stay as they were.
"""

from __future__ import annotations

import copy
import inspect
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from inflab.corpus import check_ids, corpus_dim
from inflab.errors import CorpusError, ModelError, NumericsError, SettingError
from inflab.schema import variable_attrs

__all__ = ["Trained", "blank", "train"]

_VARIABLES = ("token_id", "is_text", "is_target")
_LEAST = {"steps": 1, "epochs": 1, "batch_size": 1, "warmup": 0, "threads": 1, "seed": 0, "weight_decay": 0}
_KIND = {"weight_decay": "a number"}  # the others of _LEAST are counts
_FINAL_RATE = 0.05  # of learning_rate, at the end of the cosine


@dataclass(frozen=True)
class Trained:
    """What `train` gives back.

    Args:
        model: in eval mode, on the device it was trained on.
        history: `loss (step)` in nat per target token and `learning_rate (step)`.
        seconds: wall time of the training loop.

    Example:
        >>> trained = inflab.models.train(config, corpus, steps=3, progress=False)
        >>> trained.history["loss"].shape, trained.model.training
        ((3,), False)
    """

    model: Any
    history: xr.Dataset
    seconds: float


def train(
    model: Any,
    corpus: xr.Dataset,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int = 16,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.0,
    warmup: int = 50,
    clip: float = 1.0,
    reduction: Literal["mean", "sum"] = "mean",
    seed: int = 0,
    threads: int | None = None,
    progress: bool = True,
    label: str = "training",
) -> Trained:
    """Train a `transformers` causal language model on a text corpus.

    AdamW (betas 0.9, 0.95; weight decay on every parameter) with a linear warm-up and then a cosine down to 5% of the
    learning rate. Batches are drawn without replacement, epoch after epoch.

    Args:
        model: a `transformers` config, from which a model is drawn by `seed`, or a model, of which a copy is trained.
        corpus: from `inflab.encode` or `inflab.datasets.load`.
        steps: how many updates; give either `steps` or `epochs`.
        epochs: how many times to see the whole corpus.
        batch_size: sequences an update.
        learning_rate: at its highest.
        weight_decay: as in AdamW: each update shrinks weights by `learning_rate * weight_decay`.
        warmup: updates until the learning rate is at its highest.
        clip: longest gradient; longer ones are shortened to it.
        reduction: "mean" over the target tokens of a batch; "sum" over the tokens of a sequence, mean over sequences.
        seed: of the initial weights and the order.
        threads: CPU threads of torch while it trains; None leaves them alone. A tiny model is no slower on one, and
            its weights then do not depend on how many cores a machine has.
        progress: show a bar.
        label: what the bar says.

    Returns:
        The trained model in eval mode, its loss by step, and the seconds it took.

    Raises:
        SettingError: for a setting outside its domain.
        CorpusError: when the corpus is not text, has no target, or does not fit the model.
        ModelError: when the model has no token embedding.
        NumericsError: when the loss is no longer finite; says the step and the sequences.

    Example:
        >>> trained = inflab.models.train(config, corpus, steps=3, batch_size=8)
        >>> trained.history["learning_rate"].dims
        ('step',)
    """
    n = _check_corpus(corpus)
    per_epoch = math.ceil(n / batch_size) if batch_size >= 1 else 0
    n_steps = _check_settings(
        steps, epochs, per_epoch, reduction, batch_size=batch_size, threads=threads, seed=seed,
        learning_rate=learning_rate, clip=clip, weight_decay=weight_decay, warmup=warmup,
    )  # fmt: skip
    is_config = not isinstance(model, nn.Module)
    if not is_config:
        _check_fit(model, corpus)
    device = torch.device("cpu") if is_config else next(model.parameters()).device
    with _own_surroundings(device, seed, threads):
        pupil = (blank(model, seed) if is_config else copy.deepcopy(model)).train()
        _check_fit(pupil, corpus)
        tokens = {name: torch.from_numpy(corpus[name].to_numpy()).to(device) for name in _VARIABLES}
        optimizer = torch.optim.AdamW(
            pupil.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _cosine(n_steps, warmup))
        losses, rates = np.zeros(n_steps), np.zeros(n_steps)
        batches = islice(_batches(n, batch_size, seed), n_steps)
        bar = tqdm(batches, total=n_steps, desc=label, disable=not progress, unit="step", mininterval=0.5)
        began = time.perf_counter()
        with bar:
            for step, rows in enumerate(bar):
                total_loss, count = _token_loss(pupil, tokens, rows)
                losses[step], rates[step] = total_loss.item() / count, optimizer.param_groups[0]["lr"]
                if not math.isfinite(losses[step]):
                    ids = ", ".join(map(str, corpus[corpus_dim(corpus)].to_numpy()[rows]))
                    raise NumericsError(
                        f"loss is {losses[step]} at step {step} on {ids}; lower learning_rate={learning_rate}"
                    )
                optimizer.zero_grad(set_to_none=True)
                (total_loss / (count if reduction == "mean" else len(rows))).backward()
                nn.utils.clip_grad_norm_(pupil.parameters(), clip)
                optimizer.step()
                schedule.step()
                if step % 20 == 0 or step == n_steps - 1:
                    bar.set_postfix(loss=f"{losses[step]:.3f}", refresh=False)
        seconds = time.perf_counter() - began
        pupil.zero_grad(set_to_none=True)
    return Trained(pupil.eval(), _history(losses, rates), seconds)


@contextmanager
def _own_surroundings(device: torch.device, seed: int, threads: int | None) -> Iterator[None]:
    """Gradients on, dropout drawing from a generator of our own, threads as asked; all as before afterwards."""
    before = torch.get_num_threads()
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.random.fork_rng([device] if device.type == "cuda" else []),
    ):
        torch.manual_seed(seed)
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            yield
        finally:
            if threads is not None:
                torch.set_num_threads(before)


def blank(config: Any, seed: int) -> Any:
    """A float32 causal language model drawn from its config by seed, in eval mode."""
    from transformers import AutoModelForCausalLM

    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def _token_loss(model: nn.Module, tokens: dict[str, Tensor], rows: np.ndarray) -> tuple[Tensor, int]:
    """Summed -log p of the target tokens of some rows, and how many they are."""
    index = torch.from_numpy(rows).to(tokens["is_text"].device)
    is_text_bt = tokens["is_text"][index]
    columns = is_text_bt.any(0)  # columns that are padding in all rows are only work
    is_text_bt, is_target_bt = is_text_bt[:, columns], tokens["is_target"][index][:, columns]
    token_bt = tokens["token_id"][index][:, columns].long()
    offered = {
        "attention_mask": is_text_bt.long(),
        # Positions count from each text's first token, so left and right padding train alike.
        "position_ids": (is_text_bt.long().cumsum(-1) - 1).clamp(min=0),
        "use_cache": False,
    }
    takes = inspect.signature(model.forward).parameters
    logits_btv = model(token_bt, **{name: value for name, value in offered.items() if name in takes}).logits
    where = is_target_bt[:, 1:]
    loss = F.cross_entropy(logits_btv[:, :-1][where].float(), token_bt[:, 1:][where], reduction="sum")
    return loss, int(where.sum())


def _batches(n: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(n)
        for start in range(0, n, batch_size):
            yield order[start : start + batch_size]


def _cosine(n_steps: int, warmup: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        wave = 0.5 * (1 + math.cos(math.pi * min(1.0, step / n_steps)))
        return min(1.0, (step + 1) / max(1, warmup)) * (_FINAL_RATE + (1 - _FINAL_RATE) * wave)

    return factor


def _history(losses: np.ndarray, rates: np.ndarray) -> xr.Dataset:
    about_loss = variable_attrs("training loss", "nat per token", "mean -log p of the batch's target tokens")
    about_rate = variable_attrs("learning rate", "1", "of AdamW at this step")
    return xr.Dataset(
        {"loss": ("step", losses, about_loss), "learning_rate": ("step", rates, about_rate)},
        coords={"step": np.arange(len(losses))},
    )


def _check_settings(
    steps: int | None, epochs: int | None, per_epoch: int, reduction: str, **numbers: float | None
) -> int:
    """The number of updates."""
    if (steps is None) == (epochs is None):
        raise SettingError(f"steps={steps} and epochs={epochs}: give exactly one of them")
    for name, value in {"steps": steps, "epochs": epochs, **numbers}.items():
        if value is None:
            continue
        least = _LEAST.get(name)
        domain = "a positive number" if least is None else f"{_KIND.get(name, 'an integer')} of at least {least}"
        is_kind = math.isfinite(value) and (name not in _LEAST or name in _KIND or int(value) == value)
        if not (is_kind and (value > 0 if least is None else value >= least)):
            raise SettingError(f"{name}={value} is not {domain}")
    if reduction not in ("mean", "sum"):
        raise SettingError(f"reduction={reduction!r} is not one of 'mean', 'sum'")
    return steps if steps is not None else per_epoch * (epochs or 0)


def _check_corpus(corpus: xr.Dataset) -> int:
    """The number of sequences of a text corpus that can be trained on."""
    missing = set(_VARIABLES) - set(corpus.data_vars)
    if missing:
        raise CorpusError(f"corpus has no {', '.join(sorted(missing))}; train takes texts, see inflab.encode")
    check_ids(corpus)
    dim = corpus_dim(corpus)
    none = ~corpus["is_target"].any("token").to_numpy()
    if none.any():
        raise CorpusError(
            f"no target token in {dim} {', '.join(map(str, corpus[dim].to_numpy()[none][:5]))}; remove them"
        )
    return corpus.sizes[dim]


def _check_fit(model: nn.Module, corpus: xr.Dataset) -> None:
    if not hasattr(model, "get_input_embeddings") or not hasattr(model, "config"):
        raise ModelError(
            f"model of type {type(model).__name__} is no transformers causal language model; train takes one"
        )
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    highest, known = int(corpus["token_id"].where(corpus["is_text"], 0).max()), embedding.num_embeddings
    if highest >= known:
        raise CorpusError(
            f"token id {highest} is outside the model's vocabulary of {known}; encode with the model's tokenizer"
        )
    longest, most = int(corpus["is_text"].sum("token").max()), getattr(model.config, "max_position_embeddings", None)
    if most is not None and longest > most:
        raise CorpusError(
            f"a text of {longest} tokens is longer than the model's {most} positions; use encode(max_length={most})"
        )
