"""Next-token prediction."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch.nn.functional as F
import xarray as xr
from torch import Tensor, nn

from inflab.corpus import corpus_dim
from inflab.errors import CorpusError
from inflab.tasks.base import Batch, Draws, Task, at_least_float32, check_choice, draw_class, logits_of, margin, refuse

__all__ = ["CausalLM"]

_IGNORED = -100  # a label that no vocabulary has


@dataclass(frozen=True)
class CausalLM(Task):
    """Next-token prediction: L = -sum of log p over target tokens, f = log p(completion | prompt) (GB23 eq. 24).

    Prompt tokens are context: their positions receive gradient through attention only.

    Args:
        measurement: "log_probability", or "margin": the sum over target tokens of log(p / (1 - p)).

    Example:
        >>> inflab.CausalLM(measurement="margin")
        CausalLM(measurement='margin')
        >>> inflab.Problem(model, inflab.CausalLM(), corpus).task.measures
        'log_probability'
    """

    measurement: Literal["log_probability", "margin"] = "log_probability"

    def __post_init__(self) -> None:
        check_choice("measurement", self.measurement, ("log_probability", "margin"))

    def prepare(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Adds where targets are, and whether anything is padding.

        Returns:
            The arrays, `predicting_example` and `predicting_column (n,)`, and `is_padded ()`, which stays here.
        """
        example, column = np.nonzero(arrays["is_target"][:, 1:])
        is_padded = np.array(not arrays["is_text"].all())
        return {**arrays, "predicting_example": example, "predicting_column": column, "is_padded": is_padded}

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits `(example, token, vocabulary)`; texts begin at the first column (`inflab.corpus.batch`).

        Returns:
            The logits.

        Raises:
            CorpusError: a token id or a position is outside the model's tables.
        """
        is_text = batch["is_text"]
        takes = inspect.signature(model.forward).parameters
        offered: dict[str, Any] = {
            "attention_mask": is_text.long(),
            "position_ids": (is_text.long().cumsum(-1) - 1).clamp(min=0),
            "use_cache": False,
        }
        if "is_padded" in batch and not batch["is_padded"] and not _learns_positions(model):
            # A model given a mask or positions looks whether they say anything, and that waits for a GPU.
            for name in ("attention_mask", "position_ids"):
                if name in takes and takes[name].default is None:
                    del offered[name]
        # The id of padding may lie outside the vocabulary (a token added to the tokenizer alone).
        token_id = batch["token_id"].masked_fill(~is_text, 0)
        try:
            outputs = model(token_id, **{name: value for name, value in offered.items() if name in takes})
        except IndexError as error:
            raise CorpusError(
                f"{type(model).__name__} failed with {error!s}: the largest token id is {int(token_id.max())}, the "
                f"longest text has {int(is_text.sum(1).max())} tokens; encode with its own tokenizer, or shorten"
            ) from error
        return logits_of(model, outputs)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """-log p of the target tokens, summed over each example."""
        return -self._sum(self._token_log_probability(outputs, batch), batch)

    def sample(self, outputs: Tensor, batch: Batch, draws: Draws) -> Batch:
        """Target tokens drawn from softmax(logits) by inverse transform, one uniform number a text position."""
        (example, column), logits_nv = self._predicting(outputs, batch)
        # Drawn by position in the text, not in the row: the same text padded otherwise gets the same labels.
        position = (batch["is_text"].long().cumsum(-1) - 1)[example, column + 1]
        uniform_bt = draws.uniform(outputs.shape[1]).to(logits_nv.device)
        label = batch["token_id"].clone()
        label[example, column + 1] = draw_class(logits_nv, uniform_bt[example, position]).to(label.dtype)
        return {**batch, "label": label}

    def measure(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Log-probability (nat) or margin of the completion."""
        if self.measurement == "log_probability":
            return -self.loss(outputs, batch)
        (example, column), logits_nv = self._predicting(outputs, batch)
        return self._sum(margin(logits_nv, batch["token_id"][example, column + 1]), batch)

    def token_log_probability(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Log p of every target token at its own position, `(example, token)`; 0 elsewhere."""
        example, column = _predicting_places(batch)
        value_n = self._token_log_probability(outputs, batch)
        # index_put, not assignment: this is differentiated forwards and backwards.
        base = value_n.new_zeros(batch["is_text"].shape)
        return base.index_put((example, column + 1), value_n)

    def mask(self, batch: Batch) -> Tensor:
        """`is_text`: padding counts nowhere."""
        return batch["is_text"]

    def check(self, model: nn.Module, corpus: xr.Dataset) -> None:
        """Refuse missing variables, wrong dtypes, rows without text or target, and what the model has no place for."""
        missing = {"token_id", "is_text", "is_target"} - set(corpus.data_vars)
        if missing:
            raise CorpusError(f"CausalLM needs the variables {sorted(missing)}; see inflab.encode")
        dim = corpus_dim(corpus)
        ids = corpus[dim].to_numpy()
        token_id, is_text, is_target = _rows(corpus)
        if not np.issubdtype(token_id.dtype, np.integer):
            raise CorpusError(f"token_id has dtype {token_id.dtype}; ids are whole numbers: token_id.astype('int32')")
        for name, mask in (("is_text", is_text), ("is_target", is_target)):
            if mask.dtype != bool:
                raise CorpusError(f"{name} has dtype {mask.dtype}; a mask is boolean: {name}.astype(bool)")
        refuse(ids, ~is_text.any(axis=1), dim, "no token of text (all masked)", "remove these rows")
        refuse(
            ids,
            (is_target & ~is_text).any(axis=1),
            dim,
            "is_target where is_text is False",
            "mask them alike",
        )
        first = np.zeros_like(is_text)
        first[np.arange(len(ids)), is_text.argmax(axis=1)] = True
        refuse(
            ids,
            (is_target & first).any(axis=1),
            dim,
            "the first token as a target",
            "nothing predicts it: is_target must be False",
        )
        refuse(
            ids,
            ~is_target.any(axis=1),
            dim,
            "no target token",
            "give a completion, or a text of two tokens or more",
        )
        holes = np.abs(np.diff(is_text.astype(np.int8), axis=1)).sum(axis=1) + is_text[:, 0] + is_text[:, -1] > 2
        refuse(ids, holes, dim, "padding inside the text", "pad on the left or on the right")
        config: Any = getattr(model, "config", None)
        if hasattr(config, "get_text_config"):  # models of images and text keep two
            config = config.get_text_config()
        vocabulary = getattr(config, "vocab_size", None)
        if vocabulary is not None:
            outside = ((token_id < 0) | (token_id >= vocabulary)) & is_text
            mend = "encode with the model's own tokenizer"
            refuse(
                ids,
                outside.any(axis=1),
                dim,
                f"token ids outside the model's vocabulary of {vocabulary}",
                mend,
            )
        longest = getattr(config, "max_position_embeddings", None)
        if longest is not None:
            too_long = is_text.sum(axis=1) > longest
            refuse(
                ids,
                too_long,
                dim,
                f"more than the model's {longest} positions",
                "shorten them, or encode with max_length",
            )

    def _predicting(self, outputs: Tensor, batch: Batch) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Where the next token is a target, and the logits there, `(n, vocabulary)`.

        Selected, not multiplied: logits at padding may be NaN.

        Returns:
            The places and the logits.
        """
        places = _predicting_places(batch)
        return places, at_least_float32(outputs[places])

    def _token_log_probability(self, outputs: Tensor, batch: Batch) -> Tensor:
        label_bt = batch.get("label", batch["token_id"])
        example, column = _predicting_places(batch)
        n, length = label_bt.shape
        # Where every place but the last of each row is meant, all are text: the logits need no second copy.
        if len(example) == n * (length - 1) and outputs.shape[1] == length:
            label_bt = F.pad(label_bt[:, 1:], (0, 1), value=_IGNORED)
            logits_nv = at_least_float32(outputs).flatten(0, 1)
            loss_n = F.cross_entropy(logits_nv, label_bt.flatten(), reduction="none", ignore_index=_IGNORED)
            return -loss_n.view(n, length)[:, :-1].flatten()
        _, logits_nv = self._predicting(outputs, batch)
        return -F.cross_entropy(logits_nv, label_bt[example, column + 1], reduction="none")

    def _sum(self, value_n: Tensor, batch: Batch) -> Tensor:
        example, _ = _predicting_places(batch)
        return value_n.new_zeros(len(batch["is_target"])).index_add(0, example, value_n)


def _learns_positions(model: nn.Module) -> bool:
    """Whether positions have weights: then each example must bring its own, so that gradients are told apart."""
    find: Any = getattr(model, "get_input_embeddings", None)
    words = None if find is None else find()
    return words is None or any(isinstance(one, nn.Embedding) and one is not words for one in model.modules())


def _predicting_places(batch: Batch) -> tuple[Tensor, Tensor]:
    """Examples and columns whose next token is a target, `(n,)` each."""
    if "predicting_example" in batch:
        return batch["predicting_example"], batch["predicting_column"]
    example, column = batch["is_target"][:, 1:].nonzero(as_tuple=True)
    return example, column


def _rows(corpus: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ordered = corpus[["token_id", "is_text", "is_target"]].transpose(corpus_dim(corpus), "token", ...)
    return ordered["token_id"].to_numpy(), ordered["is_text"].to_numpy(), ordered["is_target"].to_numpy()
