"""Tasks: what the loss of one example is, how to sample pseudo-labels, what a query measures.

Losses are sums over tokens, never means (METHOD section 1). With a measurement f = log p and a loss L = -log p,
a positive influence means that training on the sequence raises f. Pseudo-labels come from the model's own
predictive distribution (true Fisher, GB23 section 2.2) and depend on the seed and on the example's id only, so
that batch size, order and padding leave them as they are.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor, nn

from inflab.corpus import corpus_dim
from inflab.errors import CorpusError, ModelError, SettingError

__all__ = ["CausalLM", "Classification", "Draws", "Regression", "Task"]

Batch = Mapping[str, Tensor]


class Draws:
    """Random numbers for the examples of one batch, keyed by seed and example id.

    Args:
        seed: the seed of the whole fit.
        ids: the ids of the batch's examples, in order.
    """

    def __init__(self, seed: int, ids: Sequence[Any]) -> None:
        keys = (hashlib.blake2b(f"{seed}:{i}".encode(), digest_size=16).digest() for i in ids)
        self._streams = [
            np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little"))) for key in keys
        ]

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1), float64 on the CPU, of shape `(example, *shape)`."""
        return torch.from_numpy(np.stack([stream.random(shape) for stream in self._streams]))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, float64 on the CPU, of shape `(example, *shape)`."""
        return torch.from_numpy(np.stack([stream.standard_normal(shape) for stream in self._streams]))


class Task:
    """Base of all tasks. A subclass writes `loss`, `sample` and, if f is not -loss, `measure`.

    A batch maps the corpus' variable names to tensors whose first axis is the example. `forward` may be
    overridden when the model does not take `batch["input"]` alone.
    """

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Run the model; the outputs go to `loss`, `sample` and `measure`."""
        outputs = model(batch["input"])
        return outputs.logits if hasattr(outputs, "logits") else outputs  # type: ignore[no-any-return]

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Training loss of each example in nats, `(example,)`, summed over its tokens."""
        raise TypeError(f"{type(self).__name__} must define loss(outputs, batch) -> (example,)")

    def sample(self, outputs: Tensor, batch: Batch, draws: Draws) -> Batch:
        """The batch with its labels replaced by draws from the model's own predictive distribution."""
        raise TypeError(
            f"{type(self).__name__} must define sample(outputs, batch, draws) -> batch; or use fisher='empirical'"
        )

    def measure(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The query measurement f of each example, `(example,)`; minus the loss unless overridden."""
        return -self.loss(outputs, batch)

    def mask(self, batch: Batch) -> Tensor | None:
        """Which tokens are text, `(example, token)` bool, or None where every position counts."""
        return None

    def check(self, model: nn.Module, corpus: xr.Dataset) -> None:
        """Refuse a corpus that this task cannot use, before any work.

        Raises:
            CorpusError: saying which variable or row is wrong.
        """
        missing = {"input", "target"} - set(corpus.data_vars)
        if missing:
            raise CorpusError(
                f"{type(self).__name__} needs the variables {sorted(missing)}; see inflab.corpus.from_arrays"
            )


@dataclass(frozen=True)
class CausalLM(Task):
    """Next-token prediction: L = -sum of log p over target tokens, f = log p(completion | prompt) (GB23 eq. 24).

    Prompt tokens are context: their positions receive gradient through attention only.

    Args:
        measurement: "log_probability", or "margin": the sum over target tokens of log(p / (1 - p)).
    """

    measurement: Literal["log_probability", "margin"] = "log_probability"

    def __post_init__(self) -> None:
        _check_choice("measurement", self.measurement, ("log_probability", "margin"))

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits `(example, token, vocabulary)`; positions count from each text's first token on either padding side."""
        is_text = batch["is_text"]
        takes = inspect.signature(model.forward).parameters
        offered: dict[str, Any] = {
            "attention_mask": is_text.long(),
            "position_ids": (is_text.long().cumsum(-1) - 1).clamp(min=0),
            "use_cache": False,
        }
        takes_any = any(p.kind is p.VAR_KEYWORD for p in takes.values())
        if "attention_mask" not in takes and not takes_any and not bool(is_text[:, 0].all()):
            raise ModelError(
                f"{type(model).__name__}.forward takes no attention_mask, so texts padded left are wrong; pad right"
            )
        outputs = model(
            batch["token_id"], **{name: value for name, value in offered.items() if name in takes}
        )
        return outputs.logits if hasattr(outputs, "logits") else outputs  # type: ignore[no-any-return]

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """-log p of the target tokens, summed over each example."""
        return -self._sum(self._token_log_probability(outputs, batch), batch)

    def sample(self, outputs: Tensor, batch: Batch, draws: Draws) -> Batch:
        """Target tokens drawn from softmax(logits) by inverse transform, one uniform number a text position."""
        where, logits_nv = self._predicting(outputs, batch)
        # Drawn by position in the text, not in the row: the same text padded otherwise gets the same labels.
        position = (batch["is_text"].long().cumsum(-1) - 1)[:, 1:][where]
        uniform_bt = draws.uniform(outputs.shape[1]).to(logits_nv.device)
        uniform_n = uniform_bt[where.nonzero()[:, 0], position]
        label = batch["token_id"].clone()
        label[:, 1:][where] = _draw(logits_nv, uniform_n).to(label.dtype)
        return {**batch, "label": label}

    def measure(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Log-probability (nat) or margin of the completion."""
        if self.measurement == "log_probability":
            return -self.loss(outputs, batch)
        where, logits_nv = self._predicting(outputs, batch)
        return self._sum(_margin(logits_nv, batch["token_id"][:, 1:][where]), batch)

    def token_log_probability(self, outputs: Tensor, batch: Batch) -> Tensor:
        """log p of every target token at its own position, `(example, token)`; 0 elsewhere."""
        where, _ = self._predicting(outputs, batch)
        value_n = self._token_log_probability(outputs, batch)
        # index_put, not assignment: this is differentiated forwards and backwards.
        example, column = where.nonzero(as_tuple=True)
        base = value_n.new_zeros(batch["is_text"].shape)
        return base.index_put((example, column + 1), value_n)

    def mask(self, batch: Batch) -> Tensor:
        """`is_text`: padding counts nowhere."""
        return batch["is_text"]

    def check(self, model: nn.Module, corpus: xr.Dataset) -> None:
        """Refuse missing variables, rows without text or target, and ids or lengths beyond the model's."""
        missing = {"token_id", "is_text", "is_target"} - set(corpus.data_vars)
        if missing:
            raise CorpusError(f"CausalLM needs the variables {sorted(missing)}; see inflab.encode")
        dim = corpus_dim(corpus)
        ids = corpus[dim].to_numpy()
        is_text, is_target = (
            corpus[name].transpose(dim, "token").to_numpy() for name in ("is_text", "is_target")
        )
        token_id = corpus["token_id"].transpose(dim, "token").to_numpy()
        _refuse(ids, ~is_text.any(axis=1), dim, "no token of text (all masked)", "remove these rows")
        _refuse(
            ids,
            (is_target & ~is_text).any(axis=1),
            dim,
            "is_target where is_text is False",
            "mask them alike",
        )
        first = np.zeros_like(is_text)
        first[np.arange(len(ids)), is_text.argmax(axis=1)] = True
        _refuse(
            ids,
            (is_target & first).any(axis=1),
            dim,
            "the first token as a target",
            "nothing predicts it: is_target must be False",
        )
        _refuse(
            ids,
            ~is_target.any(axis=1),
            dim,
            "no target token",
            "give a completion, or a text of two tokens or more",
        )
        holes = (
            np.abs(np.diff(is_text.astype(np.int8), axis=1)).sum(axis=1) + is_text[:, 0] + is_text[:, -1] > 2
        )
        _refuse(ids, holes, dim, "padding inside the text", "pad on the left or on the right")
        config = getattr(model, "config", None)
        vocabulary = getattr(config, "vocab_size", None)
        if vocabulary is not None:
            outside = ((token_id < 0) | (token_id >= vocabulary)) & is_text
            mend = "encode with the model's own tokenizer"
            _refuse(
                ids,
                outside.any(axis=1),
                dim,
                f"token ids outside the model's vocabulary of {vocabulary}",
                mend,
            )
        longest = getattr(config, "max_position_embeddings", None)
        if longest is not None:
            too_long = is_text.sum(axis=1) > longest
            _refuse(
                ids,
                too_long,
                dim,
                f"more than the model's {longest} positions",
                "shorten them, or encode with max_length",
            )

    def _predicting(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Where the next token is a target, `(example, token - 1)`, and the logits there, `(n, vocabulary)`.

        Selected, not multiplied: logits at padding may be NaN.
        """
        where = batch["is_target"][:, 1:]
        return where, _at_least_float32(outputs[:, :-1][where])

    def _token_log_probability(self, outputs: Tensor, batch: Batch) -> Tensor:
        where, logits_nv = self._predicting(outputs, batch)
        label = batch.get("label", batch["token_id"])[:, 1:][where]
        return -F.cross_entropy(logits_nv, label, reduction="none")

    def _sum(self, value_n: Tensor, batch: Batch) -> Tensor:
        where = batch["is_target"][:, 1:]
        return value_n.new_zeros(len(where)).index_add(0, where.nonzero()[:, 0], value_n)


@dataclass(frozen=True)
class Classification(Task):
    """Softmax classification: L = -log p(class), f = log p(class) or its margin.

    Args:
        measurement: "log_probability", or "margin": log(p / (1 - p)).
    """

    measurement: Literal["log_probability", "margin"] = "log_probability"

    def __post_init__(self) -> None:
        _check_choice("measurement", self.measurement, ("log_probability", "margin"))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """-log p of the class, `(example,)`."""
        return F.cross_entropy(_at_least_float32(outputs), batch["target"].long(), reduction="none")

    def sample(self, outputs: Tensor, batch: Batch, draws: Draws) -> Batch:
        """Classes drawn from softmax(logits)."""
        return {**batch, "target": _draw(_at_least_float32(outputs), draws.uniform().to(outputs.device))}

    def measure(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Log-probability (nat) or margin of the class, `(example,)`."""
        if self.measurement == "log_probability":
            return -self.loss(outputs, batch)
        return _margin(_at_least_float32(outputs), batch["target"].long())

    def check(self, model: nn.Module, corpus: xr.Dataset) -> None:
        """Refuse missing variables, negative classes and non-finite inputs."""
        super().check(model, corpus)
        dim = corpus_dim(corpus)
        _refuse_non_finite(corpus, dim)
        target = corpus["target"].to_numpy()
        if target.ndim != 1 or not np.array_equal(target, np.round(target)):
            raise CorpusError(
                f"target has shape {target.shape} and dtype {target.dtype}; classes are one whole number an example"
            )
        _refuse(corpus[dim].to_numpy(), target < 0, dim, "negative classes", "number the classes from 0")


@dataclass(frozen=True)
class Regression(Task):
    """Squared loss L = |y - f|^2 / 2, the log-likelihood of a Gaussian of unit variance up to a constant.

    Args:
        measurement: "log_probability" (minus the loss), or "output": the prediction itself, summed over outputs.
    """

    measurement: Literal["log_probability", "output"] = "log_probability"

    def __post_init__(self) -> None:
        _check_choice("measurement", self.measurement, ("log_probability", "output"))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Half the squared error, summed over outputs, `(example,)`."""
        target = batch["target"].to(outputs.dtype).reshape(outputs.shape)
        return 0.5 * (outputs - target).square().flatten(1).sum(1)

    def sample(self, outputs: Tensor, batch: Batch, draws: Draws) -> Batch:
        """Targets drawn from N(output, 1)."""
        noise = draws.normal(*outputs.shape[1:]).to(outputs.device, outputs.dtype)
        return {**batch, "target": outputs.detach() + noise}

    def measure(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Minus the loss, or the prediction, `(example,)`."""
        return outputs.flatten(1).sum(1) if self.measurement == "output" else -self.loss(outputs, batch)

    def check(self, model: nn.Module, corpus: xr.Dataset) -> None:
        """Refuse missing variables and non-finite numbers."""
        super().check(model, corpus)
        _refuse_non_finite(corpus, corpus_dim(corpus))


def _draw(logits_nv: Tensor, uniform_n: Tensor) -> Tensor:
    """One class a row from softmax(logits), by inverse transform of given uniform numbers."""
    cdf = logits_nv.detach().double().softmax(-1).cumsum(-1)
    drawn = torch.searchsorted(cdf, (uniform_n * cdf[:, -1]).unsqueeze(-1), right=True).squeeze(-1)
    return drawn.clamp(max=logits_nv.shape[-1] - 1)


def _margin(logits_nv: Tensor, label_n: Tensor) -> Tensor:
    correct = logits_nv.gather(-1, label_n.unsqueeze(-1))
    others = logits_nv.scatter(-1, label_n.unsqueeze(-1), -torch.inf)
    return correct.squeeze(-1) - others.logsumexp(-1)


def _at_least_float32(value: Tensor) -> Tensor:
    return value if value.dtype == torch.float64 else value.float()


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingError(f"{name}={value!r} is not one of {', '.join(map(repr, choices))}")


def _refuse(ids: np.ndarray, is_bad: np.ndarray, dim: str, what: str, mend: str) -> None:
    if is_bad.any():
        bad = ids[is_bad]
        more = "" if len(bad) <= 5 else f" and {len(bad) - 5} more"
        raise CorpusError(f"{dim} {', '.join(map(str, bad[:5]))}{more}: {what}; {mend}")


def _refuse_non_finite(corpus: xr.Dataset, dim: str) -> None:
    for name in ("input", "target"):
        value = corpus[name].transpose(dim, ...).to_numpy()
        is_bad = ~np.isfinite(value.reshape(len(value), -1)).all(axis=1)
        _refuse(
            corpus[dim].to_numpy(), is_bad, dim, f"NaN or infinity in {name}", "mend or remove these rows"
        )
