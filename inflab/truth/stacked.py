"""Many models trained at once, their weights stacked: small layers leave a processor idle when they run alone.

The forward passes run under `torch.func.vmap`, one model and its own batch each. Losses do not: a loss has one number
an example, so the examples of all models form one long batch, and the gradient of the sum over models is each model's
own. Torch's optimisers are elementwise and see stacked parameters as each model's. What `vmap` cannot run, and what is
too large to gain, is trained one after the other; a trial on the first examples tells.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from inflab.functional import bound
from inflab.memory import parse_memory
from inflab.tasks import Batch
from inflab.truth import updates
from inflab.truth.material import Material, Trial, fresh, not_finite, own_surroundings

__all__ = ["how_many", "measured"]

_LARGEST = 2**16  # parameters: from about here on a step of one model keeps a processor busy
_TOGETHER = 2**18  # parameters of all models together, so that weights, gradients and momenta stay in the caches
_COPIES = 8  # weights, gradients, two memories of the optimiser, and as much for what comes and goes


def how_many(material: Material, wanted: int, at_once: int | None) -> int:
    """How many models are trained together.

    Args:
        material: recipe and data.
        wanted: how many there are.
        at_once: the user's own choice, or None.

    Returns:
        1 where stacking does not work or does not pay.
    """
    size = wanted if at_once is None else min(wanted, at_once)
    if size < 2 or material.is_random or (at_once is None and material.n_parameters > _LARGEST):
        return 1
    if at_once is None:
        each = _COPIES * material.n_parameters * material.floats.itemsize
        room = parse_memory(None, material.device) // 2
        size = max(2, min(size, _TOGETHER // material.n_parameters, room // each))
    return size if _works(material) else 1


def measured(material: Material, trials: Sequence[Trial]) -> np.ndarray:
    """Train models at once and measure the queries after it.

    Args:
        material: recipe and data.
        trials: on equally many rows each.

    Returns:
        `(trial, query)`.
    """
    stack = _Stack(material, [trial.seed for trial in trials])
    task, count = material.recipe.task, len(trials)
    with own_surroundings(trials[0].seed):
        stack.train(trials)
        found = torch.empty(count, material.n_query, dtype=material.floats, device=material.device)
        with torch.no_grad():
            for place, outputs, given in material.measure(lambda given: stack.outputs(given, shared=True)):
                # The same queries for every model: one long batch again.
                repeated = {name: value.repeat(count, *[1] * (value.ndim - 1)) for name, value in given.items()}
                found[:, place] = task.measure(outputs.flatten(0, 1), repeated).view(count, -1).to(found.dtype)
    return found.cpu().numpy()


class _Stack:
    """The weights of several models, and their passes.

    Args:
        material: recipe and data.
        seeds: of each model.
    """

    def __init__(self, material: Material, seeds: Sequence[int]) -> None:
        self._material = material
        made = {seed: fresh(material.recipe, seed) for seed in dict.fromkeys(seeds)}
        self._shell = next(iter(made.values()))
        first = dict(self._shell.named_parameters())
        states = [{**dict(m.named_parameters()), **dict(m.named_buffers())} for m in made.values()]
        row = {seed: number for number, seed in enumerate(made)}
        places = [row[seed] for seed in seeds]
        self.parameters: dict[str, Tensor] = {}
        self._fixed: dict[str, Tensor] = {}
        for name in states[0]:
            value = torch.stack([state[name].detach() for state in states])[places]
            if name in first and first[name].requires_grad:
                self.parameters[name] = value.requires_grad_()
            elif not all(torch.equal(state[name], states[0][name]) for state in states):
                self._fixed[name] = value

    def outputs(self, batch: Batch, *, shared: bool) -> Tensor:
        """Outputs `(model, example, ...)` for a batch `(model, example, ...)`, or a `shared` one `(example, ...)`."""
        task = self._material.recipe.task

        def one(parameters: Mapping[str, Tensor], given: Batch) -> Tensor:
            return task.forward(bound(self._shell, parameters), given)

        in_dims = (0, None) if shared else (0, 0)
        found: Tensor = vmap(one, in_dims=in_dims)({**self.parameters, **self._fixed}, batch)
        return found

    def losses(self, index: Tensor) -> Tensor:
        """The loss of each example, `(model, example)`, of rows `(model, example)`."""
        given = self._material.train.take(index)
        outputs = self.outputs(given, shared=False).flatten(0, 1)
        flat = {name: value.flatten(0, 1) for name, value in given.items()}
        return self._material.recipe.task.loss(outputs, flat).view(index.shape)

    def train(self, trials: Sequence[Trial]) -> None:
        """All steps of all models; raises where a loss is no longer finite."""
        material, recipe = self._material, self._material.recipe
        leaves = list(self.parameters.values())
        optimizer, rates = updates.optimizer(recipe, leaves), material.rates(trials[0])
        # (epoch, model, example): one step's rows are one slice.
        order = torch.from_numpy(np.stack([material.order(trial) for trial in trials], 1)).to(material.device)
        weights = material.weights(trials)
        for step, (epoch, columns) in enumerate(material.slices(trials[0])):
            index = order[epoch, :, columns]
            loss_mb = self.losses(index)
            if weights is not None:
                loss_mb = loss_mb * weights.gather(1, index)
            loss_m = loss_mb.mean(1)
            total = loss_m.sum()
            if not bool(torch.isfinite(total)):
                bad = int(torch.isfinite(loss_m).int().argmin())
                raise not_finite(material, loss_m[bad].item(), step, index[bad])
            total.backward()
            if recipe.clip is not None:
                _clip(leaves, recipe.clip)
            for group in optimizer.param_groups:
                group["lr"] = float(rates[step])
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def _clip(leaves: Sequence[Tensor], longest: float) -> None:
    """Shorten each model's gradient to at most `longest`, as `torch.nn.utils.clip_grad_norm_` does for one."""
    grads = [leaf.grad for leaf in leaves if leaf.grad is not None]
    length_m = torch.stack([grad.flatten(1).square().sum(1) for grad in grads]).sum(0).sqrt()
    factor_m = (longest / (length_m + updates.CLIP_EPS)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factor_m.view(-1, *[1] * (grad.ndim - 1)))


def _works(material: Material) -> bool:
    """Whether two models run stacked as they run alone, forwards and backwards, on the first examples."""
    task = material.recipe.task
    models = [fresh(material.recipe, seed) for seed in (0, 1)]
    index = torch.arange(4, device=material.device).view(2, 2) % material.n
    with own_surroundings(0), warnings.catch_warnings():
        warnings.simplefilter("error")  # vmap warns where it would loop over models
        try:
            stack = _Stack(material, [0, 1])
            found = stack.losses(index)
            found.sum().backward()
        except Exception:  # noqa: BLE001 - whatever it is, models that run alone still do
            return False
        alone = []
        for model, rows in zip(models, index, strict=True):
            given = material.train.take(rows)
            alone.append(task.loss(task.forward(model, given), given))
        expected = torch.stack(alone)
        expected.sum().backward()
    pairs = [(found, expected)]
    for name, stacked in stack.parameters.items():
        if stacked.grad is None:
            continue
        each = [dict(model.named_parameters())[name].grad for model in models]
        if any(grad is None for grad in each):
            return False
        pairs.append((stacked.grad, torch.stack([grad for grad in each if grad is not None])))
    tolerance = 1e3 * torch.finfo(material.floats).eps
    return all(bool(((a - b).abs().max() <= tolerance * (1 + b.abs().max())).item()) for a, b in pairs)
