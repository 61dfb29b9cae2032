"""MAGIC: the exact derivative of a measurement after training with respect to each example's weight (arXiv 2504.16430).

Training is a chain of steps `s_{t+1} = step(s_t, w)`, s the parameters and what the optimiser remembers. With the
adjoint `a_T = df/ds_T`, a pass over the steps from the last to the first gives

    df/dw += a_{t+1}^T d step/dw,    a_t = (d step/ds)^T a_{t+1},

through the gradient inside each step, for all queries at once. States come from a re-run: those at the beginning of
each segment are kept on the way forward, those inside when the pass backward comes there, so that about twice the root
of the number of steps are in memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.func import grad_and_value, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import tqdm

from inflab import labels
from inflab.corpus import fingerprint
from inflab.errors import CorpusError, ModelError, NumericsError, SettingError, check_count
from inflab.functional import bound
from inflab.schema import influence_attrs, root_attrs, variable_attrs
from inflab.tasks import Batch
from inflab.truth import updates
from inflab.truth.bank import root
from inflab.truth.material import Material, Trial, fingerprint_of, fresh, not_finite, own_surroundings
from inflab.truth.training import all_measured, train_one
from inflab.truth.updates import Slots, Tensors

if TYPE_CHECKING:
    from inflab.truth.recipe import Recipe

__all__ = ["magic", "reweighted"]

_State = tuple[Tensors, Slots]
_ADJOINTS = 2**27  # numbers of the queries' adjoints that are pulled through a step together


def magic(
    recipe: Recipe,
    corpus: xr.Dataset,
    queries: xr.Dataset,
    *,
    seed: int = 0,
    checkpoint_every: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Exact influence of each example's weight on each query, through one deterministic training.

    The loss of a batch is `(1/B) sum_i w_i loss_i` with `w = 1`. Influence is `n_train df/dw_i`, so that `effect`
    (`inflab.effect`) is `df/dw_i`: the change of f, to first order, when the example gets the weight of one more copy
    in every step that sees it, and minus what removing it does (`reweighted`). On a strongly convex problem, trained to
    convergence, it is the influence function.

    Args:
        recipe: how the model is trained.
        corpus: over `train`.
        queries: over `query`.
        seed: of the initial weights and the order.
        checkpoint_every: steps between kept states; the root of their number when None. Costs memory and time only.
        progress: show a bar over steps, once forwards and once backwards.

    Returns:
        `influence (query, train)`, nat per unit weight, as `Influence.score` gives it.

    Raises:
        SettingError: when a setting is outside its domain.
        CorpusError: when a corpus does not fit the recipe's task and model.
        ModelError: when training the model draws random numbers or keeps statistics (dropout, batch normalisation).
        NumericsError: when the training diverges, or a derivative is not finite.

    Example:
        >>> found = inflab.truth.magic(recipe, table, asked)
        >>> found["influence"].dims
        ('query', 'train')
    """
    check_count("seed", seed, least=0)
    if checkpoint_every is not None:
        check_count("checkpoint_every", checkpoint_every, "None for the root of the number of steps")
    material = Material(recipe, corpus, queries)
    if material.is_random:
        raise ModelError(
            f"{type(material.model).__name__} has dropout or batch normalisation, so a step is no function of weights "
            "and batch; make the model without them"
        )
    # Attention has second derivatives in its plain form only.
    with own_surroundings(seed), sdpa_kernel(SDPBackend.MATH):
        chain = _Chain(material, int(seed))
        with tqdm(total=2 * len(chain), desc="MAGIC", disable=not progress, leave=False, unit="step") as bar:
            influence = _backwards(chain, checkpoint_every or math.isqrt(len(chain) - 1) + 1, bar)
        trained = chain.trained()
    if not np.isfinite(influence).all():
        bad = queries["query"].to_numpy()[~np.isfinite(influence).all(1)].tolist()
        raise NumericsError(
            f"the derivative of query {bad[0]!r} is not finite; lower learning_rate, or train in float64"
        )
    about = influence_attrs("n_train times the derivative of the measurement after training by the example's weight")
    attrs = root_attrs(
        "scores",
        method="MAGIC",
        settings=json.dumps(recipe.settings()),
        seed=int(seed),
        n_train=material.n,
        model_fingerprint=trained,
        corpus_fingerprint=fingerprint(corpus),
    )
    coords = {**labels.train_coords(corpus), **labels.query_coords(queries)}
    return xr.Dataset({"influence": (("query", "train"), influence, about)}, coords=coords, attrs=attrs)


def reweighted(
    recipe: Recipe,
    corpus: xr.Dataset,
    queries: xr.Dataset,
    weights: xr.DataArray | np.ndarray | Sequence[Sequence[float]],
    *,
    seed: int = 0,
    at_once: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """The same training with other weights of the examples: same initial state, same batches, same divisor.

    Args:
        recipe: how models are trained.
        corpus: over `train`.
        queries: over `query`.
        weights: `(set, train)`: of each example in the loss, 1 as it is, 0 as if it were not there, 2 as if twice.
        seed: of the initial weights and the order.
        at_once: models trained together; from their size when None.
        progress: show a bar over trainings.

    Returns:
        `measurement (set, query)`, nat, and `weight (set, train)`.

    Raises:
        SettingError: when `weights` or `seed` is outside its domain.
        CorpusError: when a corpus does not fit the recipe's task and model, or `weights` lacks an example.
        ModelError: when the recipe makes no model.
        NumericsError: when a training diverges; says the step and the examples.

    Example:
        >>> twice = np.ones((1, table.sizes["train"]))
        >>> twice[0, 0] = 2
        >>> inflab.truth.reweighted(recipe, table, asked, twice)["measurement"].dims
        ('set', 'query')
    """
    check_count("seed", seed, least=0)
    material = Material(recipe, corpus, queries)
    names, weight = _weights(weights, corpus)
    trials = [Trial(np.arange(material.n), int(seed), row) for row in weight]
    found = all_measured(material, trials, at_once=at_once, progress=progress)
    values = {
        "measurement": (
            ("set", "query"),
            found,
            variable_attrs("measurement", "nat", "measurement of each query after training with each set of weights"),
        ),
        "weight": (("set", "train"), weight, variable_attrs("weight", "1", "of each example in the loss")),
    }
    coords = {"set": names, **labels.train_coords(corpus), **labels.query_coords(queries)}
    return xr.Dataset(values, coords=coords, attrs=root("reweighted", material, seed=int(seed)))


class _Chain:
    """The steps of one training as functions of the state before them.

    Args:
        material: recipe and data.
        seed: of the initial weights and the order.
    """

    def __init__(self, material: Material, seed: int) -> None:
        trial = Trial(np.arange(material.n), seed)
        self.material, self._trial = material, trial
        self._model = fresh(material.recipe, seed)
        self._order = torch.from_numpy(material.order(trial)).to(material.device)
        self._slices = material.slices(trial)
        self._rates = material.rates(trial)
        self.start: Tensors = {n: p.detach().clone() for n, p in self._model.named_parameters() if p.requires_grad}
        self._model.requires_grad_(False)

    def __len__(self) -> int:
        return len(self._slices)

    def begin(self) -> _State:
        """The state before the first step."""
        return self.start, updates.empty_slots(self.material.recipe, self.start)

    def rows(self, step: int) -> Tensor:
        """Positions of a step's examples."""
        epoch, columns = self._slices[step]
        return self._order[epoch, columns]

    def step(self, number: int, batch: Batch, state: _State, weight_b: Tensor) -> tuple[_State, Tensor]:
        """The state after a step, and its loss."""
        recipe, (parameters, slots) = self.material.recipe, state

        def total(values: Tensors) -> Tensor:
            loss_b = recipe.task.loss(recipe.task.forward(bound(self._model, values), batch), batch)
            return (weight_b * loss_b).mean()

        gradients, loss = grad_and_value(total)(parameters)
        gradients = updates.shortened(gradients, recipe.clip)
        return updates.advance(recipe, parameters, slots, gradients, float(self._rates[number]), number), loss

    def run(self, number: int, state: _State) -> _State:
        """A step of the training itself.

        Returns:
            The state after it.

        Raises:
            not_finite: a `NumericsError`, when the loss is not finite.
        """
        rows = self.rows(number)
        batch = self.material.train.take(rows)
        with torch.no_grad():
            after, loss = self.step(number, batch, state, torch.ones(len(rows), device=rows.device, dtype=self.floats))
        if not math.isfinite(float(loss)):
            raise not_finite(self.material, float(loss), number, rows)
        return after

    def pull(self, number: int, state: _State) -> Callable[[Any], tuple[Any, Tensor]]:
        """Of a step: adjoints of the state after it to adjoints of the state before it and of the weights."""
        rows = self.rows(number)
        batch = self.material.train.take(rows)
        ones = torch.ones(len(rows), device=rows.device, dtype=self.floats)
        back: Callable[[Any], tuple[Any, Tensor]] = vjp(lambda s, w: self.step(number, batch, s, w)[0], state, ones)[1]
        return back

    def end(self, state: _State) -> _State:
        """Adjoints of the last state, one a query: the gradient of its measurement."""
        task, asked = self.material.recipe.task, self.material.asked
        assert asked is not None
        self._model.eval()
        self._model.load_state_dict(dict(state[0]), strict=False)
        found: dict[str, list[Tensor]] = {name: [] for name in state[0]}
        for number in range(len(asked)):
            given = asked.take(torch.tensor([number], device=self.material.device))

            def measured(values: Tensors, given: Batch = given) -> Tensor:
                return task.measure(task.forward(bound(self._model, values), given), given).sum()

            for name, value in grad_and_value(measured)(state[0])[0].items():
                found[name].append(value)
        self._model.train()
        count = (len(asked),)
        slots = {kind: {n: v.new_zeros(count + v.shape) for n, v in of.items()} for kind, of in state[1].items()}
        return {name: torch.stack(values) for name, values in found.items()}, slots

    @property
    def floats(self) -> torch.dtype:
        """The model's dtype."""
        return self.material.floats

    def trained(self) -> str:
        """Fingerprint of the model that `Recipe.train` gives: these states differ from its own by rounding."""
        model = fresh(self.material.recipe, self._trial.seed)
        train_one(self.material, model, self._trial)
        return fingerprint_of(model)


def _backwards(chain: _Chain, every: int, bar: Any) -> np.ndarray:
    """`n df/dw`, `(query, train)`: forwards, then backwards segment by segment."""
    state, kept = chain.begin(), []
    for number in range(len(chain)):
        if number % every == 0:
            kept.append(state)
        state = chain.run(number, state)
        bar.update()
    adjoint = chain.end(state)
    material = chain.material
    found = torch.zeros(material.n_query, material.n, dtype=chain.floats, device=material.device)
    chunk = max(1, _ADJOINTS // ((1 + len(adjoint[1])) * material.n_parameters))
    for segment in reversed(range(len(kept))):
        first = segment * every
        inside = [kept.pop()]
        for number in range(first, min(first + every, len(chain)) - 1):
            inside.append(chain.run(number, inside[-1]))
        for number in reversed(range(first, first + len(inside))):
            adjoint, weight_qb = vmap(chain.pull(number, inside.pop()), chunk_size=chunk)(adjoint)
            found.index_add_(1, chain.rows(number), weight_qb)
            bar.update()
    influence: np.ndarray = (material.n * found).cpu().numpy()
    return influence


def _weights(weights: Any, corpus: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Names of the sets, and `(set, train)` in the corpus' order."""
    ids = corpus["train"]
    names = None
    if isinstance(weights, xr.DataArray):
        if set(weights.dims) != {"set", "train"}:
            raise SettingError(f"weights has dims {weights.dims}; give (set, train)")
        names = weights["set"].to_numpy() if "set" in weights.coords else None
        if "train" in weights.coords:
            lost = ids.to_numpy()[~ids.isin(weights["train"]).to_numpy()].tolist()
            if lost:
                raise CorpusError(f"weights has none for train {lost[0]!r}; give one for each example")
            weights = weights.sel(train=ids.to_numpy())
        weights = weights.transpose("set", "train").to_numpy()
    found = np.asarray(weights, np.float64)
    if found.ndim != 2 or found.shape[1] != len(ids) or not len(found):
        raise SettingError(f"weights has shape {found.shape}; give (set, train) with {len(ids)} columns")
    if not np.isfinite(found).all():
        raise SettingError("weights holds NaN or infinity; 1 leaves an example as it is, 0 takes it out")
    return np.arange(len(found)) if names is None else names, found
