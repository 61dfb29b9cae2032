"""Problem: what was learned, by which loss, from what."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from inflab import corpus as corpora
from inflab.adapters import from_dataset
from inflab.cards import Card, as_html, as_text, problem_card
from inflab.columns import check_pieces
from inflab.errors import (
    CorpusError,
    LayerError,
    ModelError,
    NumericsError,
    SettingError,
    check_count,
    is_finite_number,
)
from inflab.layer import select_layers
from inflab.tasks import Task

__all__ = ["Checkpoint", "Problem"]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Where training stood at the end of a segment, for the methods that follow it.

    Args:
        state: name -> tensor, a `state_dict` of the whole model or of its trainable parameters; or the path of a
            `.safetensors` file with one, which is read when it is needed.
        learning_rate: mean rate over the segment that ends here.
        steps: optimizer steps of the segment that ends here.

    Raises:
        SettingError: when one of these is outside its domain.

    Example:
        >>> end = inflab.Checkpoint(model.state_dict(), learning_rate=3e-3, steps=80)
        >>> inflab.Problem(model, inflab.CausalLM(), corpus, checkpoints=[end]).checkpoints[0].steps
        80
    """

    state: Mapping[str, Tensor] | str | Path = field(repr=False)
    learning_rate: float
    steps: int

    def __post_init__(self) -> None:
        if not is_finite_number(self.learning_rate) or self.learning_rate <= 0:
            raise SettingError(f"learning_rate={self.learning_rate!r} must be a finite number above 0")
        check_count("steps", self.steps)
        if isinstance(self.state, (str, Path)):
            if not Path(self.state).is_file():
                raise SettingError(f"state={str(self.state)!r} is no file; give a .safetensors file or a state_dict")
            return
        state: Any = self.state
        if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
            raise SettingError(
                f"state is a {type(state).__name__}; give a state_dict (name -> tensor) or a .safetensors file"
            )

    def fingerprint(self) -> str:
        """SHA-256 over rate, steps, and the names, dtypes, shapes and bytes of the state, 16 hex digits."""
        digest = hashlib.sha256(f"{float(self.learning_rate)!r} {int(self.steps)}".encode())
        with self._opened() as (names, _, read):
            for name in sorted(names):
                _add(digest, name, read(name))
        return digest.hexdigest()[:16]

    @contextmanager
    def _opened(self) -> Iterator[tuple[list[str], Callable[[str], list[int]], Callable[[str], Tensor]]]:
        """The state without reading it all.

        Yields:
            Its names, what gives a name's shape, and what gives its tensor.

        Raises:
            SettingError: when the file is not a safetensors file.
        """
        if isinstance(self.state, Mapping):
            state = self.state
            yield list(state), lambda name: list(state[name].shape), lambda name: state[name]
            return
        try:
            opened: Any = safe_open(self.state, framework="pt")
        except (SafetensorError, OSError) as error:
            raise SettingError(f"state={str(self.state)!r} is no safetensors file ({error})") from error
        with opened as file:
            yield list(file.keys()), lambda name: list(file.get_slice(name).get_shape()), file.get_tensor


class Problem:
    """A trained model, the task it was trained on, and the corpus it was trained from.

    Args:
        model: any `torch.nn.Module`, trained, in `eval()` mode; it is returned as it was, always.
        task: per-example loss, pseudo-labels and measurement; see `inflab.CausalLM`, `inflab.Task`.
        corpus: an `xr.Dataset` over `train` (`inflab.encode`), or a map-style torch / Hugging Face dataset.
        checkpoints: where training stood on its way, in order: the last is where it ended. For `inflab.TracIn` and
            `inflab.SOURCE`; other methods look at the model alone.

    Raises:
        CorpusError: when the corpus is empty, has duplicate ids, or does not fit the task and the model.
        ModelError: when the state of a checkpoint does not fit the model; names and shapes are named.
        SettingError: when model, task or checkpoints are of the wrong type.

    Example:
        >>> problem = inflab.Problem(model, inflab.CausalLM(), corpus)
        >>> problem.corpus.sizes["train"]
        60
    """

    def __init__(self, model: nn.Module, task: Task, corpus: Any, *, checkpoints: Sequence[Checkpoint] = ()) -> None:
        if not isinstance(model, nn.Module):
            raise SettingError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
        if not isinstance(task, Task):
            raise SettingError(f"task is a {type(task).__name__}; expected an inflab.Task such as inflab.CausalLM()")
        self.model = model
        self.task = task
        self.corpus = corpus if isinstance(corpus, xr.Dataset) else from_dataset(corpus)
        self.check_corpus(self.corpus, "train")
        if not isinstance(checkpoints, Sequence):
            raise SettingError(f"checkpoints is a {type(checkpoints).__name__}; give a list of inflab.Checkpoint")
        self.checkpoints = tuple(checkpoints)
        for number, checkpoint in enumerate(self.checkpoints):
            _check_checkpoint(model, checkpoint, f"checkpoint {number}")

    def at(self, checkpoint: Checkpoint) -> Problem:
        """The same task and corpus with the model as it was at a checkpoint: a deep copy, this one stays as it is.

        Args:
            checkpoint: of this model; what its state lacks (frozen weights) is as in this model.

        Returns:
            A problem without checkpoints.

        Raises:
            ModelError: when the state does not fit the model, or weights of the model are offloaded.
        """
        _check_checkpoint(self.model, checkpoint, "checkpoint")
        away = [name for name, value in self.model.named_parameters() if value.is_meta]
        if away:
            raise ModelError(f"weights of {away[0]!r} are offloaded, so the model cannot be copied; load it whole")
        model = copy.deepcopy(self.model)
        own = model.state_dict()
        with torch.no_grad(), checkpoint._opened() as (names, _, read):
            for name in names:
                own[name].copy_(read(name))
        return Problem(model, self.task, self.corpus)

    def check_corpus(self, corpus: xr.Dataset, dim: str) -> None:
        """Refuse a corpus or a query batch that does not fit this problem.

        Raises:
            CorpusError: naming the ids and the mend.
        """
        if not isinstance(corpus, xr.Dataset):
            raise CorpusError(f"{dim} corpus is a {type(corpus).__name__}; make an xr.Dataset with inflab.encode")
        if corpora.corpus_dim(corpus) != dim:
            raise CorpusError(f"corpus runs over {corpora.corpus_dim(corpus)!r}; make it with dim={dim!r}")
        corpora.check_ids(corpus)
        self.task.check(self.model, corpus)
        if corpus is not self.corpus:
            check_pieces(corpus, self.corpus)

    def check_model(self) -> None:
        """Refuse a model whose passes would be random or meaningless.

        Raises:
            ModelError: when dropout or batch normalisation is active in `train()` mode.
            NumericsError: when a weight is NaN or infinite.
        """
        active = [name for name, module in self.model.named_modules() if module.training and _is_random(module)]
        if active:
            raise ModelError(
                f"the model is in train() mode and {active[0]!r} acts differently there (dropout or batch "
                "normalisation); call model.eval() first"
            )
        for name, value in [*self.model.named_parameters(), *self.model.named_buffers()]:
            if value.is_floating_point() and not value.is_meta and not bool(torch.isfinite(value).all()):
                # Attention-mask buffers hold -inf on purpose; a weight never does.
                if isinstance(value, nn.Parameter) or bool(torch.isnan(value).any()):
                    raise NumericsError(f"weights of {name!r} hold NaN or infinity; load a sound checkpoint")

    def model_fingerprint(self) -> str:
        """SHA-256 over the class, names, dtypes, shapes and bytes of the model's state, 16 hex digits."""
        digest = hashlib.sha256(type(self.model).__qualname__.encode())
        for name, value in self.model.state_dict().items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            value = _offloaded(self.model, name) if value.is_meta else value
            if value is not None:
                digest.update(_bytes(value))
        return digest.hexdigest()[:16]

    def model_state(self) -> tuple[Any, ...]:
        """Where each weight lies, how often it was written to, and its sum: while it stays, so does the fingerprint.

        Much cheaper than the fingerprint. It may change where the fingerprint does not: a model that was moved.

        Returns:
            Something to compare.
        """
        values = self.model.state_dict(keep_vars=True).values()
        return tuple(
            (value.data_ptr(), 0 if value.is_inference() else value._version, value.detach().sum().item())
            for value in values
            if not value.is_meta
        )

    def checkpoints_fingerprint(self) -> str:
        """SHA-256 over states, rates and steps of the checkpoints, in order, 16 hex digits."""
        return hashlib.sha256(" ".join(c.fingerprint() for c in self.checkpoints).encode()).hexdigest()[:16]

    def corpus_fingerprint(self) -> str:
        """SHA-256 over the corpus' ids and numbers, 16 hex digits."""
        return corpora.fingerprint(self.corpus)

    def __repr__(self) -> str:
        n = len(self.checkpoints)
        first = (
            f"Problem(model={type(self.model).__name__}, task={self.task!r}, "
            f"corpus={self.corpus.sizes['train']} training examples" + (f", {n} checkpoints)" if n else ")")
        )
        return as_text(lambda: self._card().text(first), first)

    def _repr_html_(self) -> str:
        return as_html(lambda: self._card().html(), self.__repr__)

    def _card(self) -> Card:
        try:
            return problem_card(self, select_layers(self.model))
        except LayerError as error:
            return problem_card(self, [], str(error))


def _check_checkpoint(model: nn.Module, checkpoint: Checkpoint, where: str) -> None:
    """Refuse a checkpoint that is not one of this model.

    Raises:
        ModelError: unknown or missing names, or other shapes.
        SettingError: when it is no checkpoint.
    """
    if not isinstance(checkpoint, Checkpoint):
        raise SettingError(
            f"{where} is a {type(checkpoint).__name__}; expected inflab.Checkpoint(state, learning_rate, steps)"
        )
    own = model.state_dict(keep_vars=True)
    with checkpoint._opened() as (names, shape_of, _):
        unknown = [name for name in names if name not in own]
        if unknown:
            raise ModelError(f"{where} has {unknown[0]!r}, which the model has not; give states of this model")
        for name in names:
            if shape_of(name) != list(own[name].shape):
                raise ModelError(
                    f"{where} has {name!r} of shape {shape_of(name)}, the model's is {list(own[name].shape)}; give "
                    "states of this model"
                )
        there = {id(own[name]) for name in names}  # of a shared weight one name is enough
        lost = [n for n, value in own.items() if value.requires_grad and id(value) not in there]
        if lost or not names:
            what = repr(lost[0]) if lost else "any weight"
            raise ModelError(f"{where} lacks {what}; its state must hold every trainable parameter of the model")


def _add(digest: Any, name: str, value: Tensor) -> None:
    digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
    digest.update(_bytes(value))


def _bytes(value: Tensor) -> memoryview:
    return value.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data


def _offloaded(model: nn.Module, name: str) -> Tensor | None:
    """A weight that accelerate keeps in memory or on disk while the model holds its shape; None without any."""
    owner, _, key = name.rpartition(".")
    hook = getattr(model.get_submodule(owner), "_hf_hook", None)
    for part in (hook, *getattr(hook, "hooks", ())):
        weights = getattr(part, "weights_map", None)
        if weights is not None:
            found: Tensor = weights[key]
            return found
    return None


def _is_random(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._NormBase):  # instance normalisation too, when it keeps statistics
        return isinstance(module, nn.modules.batchnorm._BatchNorm) or module.track_running_stats
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    # Attention modules of transformers keep functional dropout as a plain number.
    rates = (getattr(module, name, 0.0) for name in ("attention_dropout", "attn_dropout", "dropout", "dropout_p"))
    return any(isinstance(rate, (int, float)) and rate > 0 for rate in rates)
