"""A recipe trains as a plain torch loop does, the same way every time, and leaves everything else as it was."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inflab import CausalLM, Classification, Problem, Task
from inflab.errors import CorpusError, ModelError, NumericsError, SettingError
from inflab.truth import Recipe, updates
from tests import tiny
from tests.truth import small
from tests.truth.small import UPDATES, N, asked, classes, recipe


def weights(model: Any) -> np.ndarray:
    return np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])


def by_hand(made: Recipe, seed: int = 0, rows: Any = None) -> nn.Module:
    """Torch's own optimisers and schedules in a loop over one example at a time."""
    corpus = classes()
    x, y = torch.from_numpy(corpus["input"].to_numpy()), torch.from_numpy(corpus["target"].to_numpy())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = made.model(seed)
    rate, decay = made.learning_rate, made.weight_decay
    optimizer: Any = {
        "sgd": lambda p: torch.optim.SGD(p, rate, momentum=made.momentum, weight_decay=decay, foreach=False),
        "adam": lambda p: torch.optim.Adam(p, rate, weight_decay=decay, foreach=False),
        "adamw": lambda p: torch.optim.AdamW(p, rate, weight_decay=decay, foreach=False),
    }[made.optimizer](model.parameters())
    rows = range(N) if rows is None else rows
    total = made.epochs * math.ceil(len(rows) / made.batch_size)
    shape: Any = {
        "constant": lambda t: 1.0,
        "linear": lambda t: (total - t) / total,
        "cosine": lambda t: math.cos(math.pi * t / total / 2) ** 2,
    }[made.schedule]
    draw, step = np.random.default_rng(seed), 0
    for _ in range(made.epochs):
        order = [i for i in draw.permutation(N) if i in rows]
        for at in range(0, len(order), made.batch_size):
            batch = order[at : at + made.batch_size]
            optimizer.zero_grad()
            loss = sum(nn.functional.cross_entropy(model(x[i][None]), y[i][None]) for i in batch) / len(batch)
            loss.backward()
            if made.clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), made.clip)
            warm = min(1.0, (step + 1) / made.warmup) if made.warmup else 1.0
            optimizer.param_groups[0]["lr"] = rate * shape(step) * warm
            optimizer.step()
            step += 1
    return model


@pytest.mark.parametrize("rows", [None, [0, 2, 3, 5, 8, 9, 13]], ids=["all", "some"])
@pytest.mark.parametrize("changed", UPDATES.values(), ids=UPDATES)
def test_training_is_a_plain_loop(changed: dict[str, Any], rows: Any) -> None:
    made = recipe(**changed)
    found = made.train(classes(), rows=rows, seed=3, progress=False).model
    tiny.agree(weights(found), weights(by_hand(made, 3, rows)), 1e-12)


@pytest.mark.parametrize("changed", UPDATES.values(), ids=UPDATES)
def test_pure_updates_are_those_of_torch(changed: dict[str, Any]) -> None:
    made, draw = recipe(**changed), torch.Generator().manual_seed(0)
    values: Any = {name: torch.randn(4, 3, generator=draw, dtype=torch.float64) for name in "ab"}
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    optimizer, slots = updates.optimizer(made, leaves.values()), updates.empty_slots(made, values)
    for step in range(5):
        gradients: Any = {name: torch.randn(4, 3, generator=draw, dtype=torch.float64) for name in "ab"}
        gradients["a"][0] = 0.0  # never a gradient: the root of Adam stands at 0
        for name, leaf in leaves.items():
            leaf.grad = gradients[name].clone()
        if made.clip is not None:
            nn.utils.clip_grad_norm_(leaves.values(), made.clip)
        optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        optimizer.step()
        values, slots = updates.advance(
            made, values, slots, updates.shortened(gradients, made.clip), 0.1 / (step + 1), step
        )
        for name, leaf in leaves.items():
            tiny.agree(values[name], leaf.detach(), 1e-13)


class Recording(Classification):
    """Notes which examples it saw, by their first input."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "seen", [])

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        self.seen.extend(batch["input"][:, 0].tolist())  # type: ignore[attr-defined]
        return super().loss(outputs, batch)


def test_a_part_keeps_the_order_of_the_whole() -> None:
    corpus, rows = classes(), [1, 4, 5, 7, 12]
    orders = []
    for chosen in (None, rows):
        task = Recording()
        recipe(task=task, epochs=2).train(corpus, rows=chosen, seed=5, progress=False)
        orders.append(task.seen)  # type: ignore[attr-defined]
    whole, part = orders
    members = set(corpus["input"].to_numpy()[rows, 0].tolist())
    assert len(whole) == 2 * N
    assert sorted(whole[:N]) == sorted(whole[N:]) != whole[:N] != whole[N:]
    assert part == [value for value in whole if value in members]


def test_same_seed_same_weights_and_another_seed_others() -> None:
    first, again, other = (recipe().train(classes(), seed=s, progress=False).model for s in (1, 1, 2))
    assert np.array_equal(weights(first), weights(again))
    assert np.abs(weights(first) - weights(other)).max() > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_everything_else_stays_as_it_was(dtype: torch.dtype) -> None:
    kept = tiny.mlp().to(dtype)  # a function that gives one and the same model every time
    before = torch.get_rng_state(), torch.get_num_threads()
    with tiny.untouched(kept), torch.inference_mode():
        trained = recipe(model=lambda seed: kept).train(classes(), progress=False)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]
    assert not trained.model.training
    assert all(p.grad is None and p.dtype == dtype for p in trained.model.parameters())
    assert np.abs(weights(trained.model) - weights(kept)).max() > 0.01


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm1d(5)], ids=["dropout", "batch normalisation"])
def test_random_layers_train_the_same_way_every_time(layer: nn.Module) -> None:
    def model(seed: int) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 5), layer, nn.Linear(5, 4)).double()

    first, again = (recipe(model=model).train(classes(), seed=1, progress=False).model for _ in range(2))
    assert np.array_equal(weights(first), weights(again))
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), again.buffers(), strict=True))


def test_frozen_parameters_stay() -> None:
    def model(seed: int) -> nn.Module:
        made = small.perceptron(seed)
        made[0].weight.requires_grad_(False)  # type: ignore[index]
        return made

    start, end = (
        recipe(model=model, epochs=e, weight_decay=0.1).train(classes(), progress=False).model for e in (1, 4)
    )
    assert torch.equal(start[0].weight, end[0].weight)
    assert not torch.equal(start[0].bias, end[0].bias)


def test_texts_train_alike_whichever_side_is_padded() -> None:
    made = small.language()[0]
    right, left = (made.train(tiny.corpus(padding_side=side), progress=False).model for side in ("right", "left"))
    tiny.agree(weights(left), weights(right), 1e-12)


def test_checkpoints_and_history() -> None:
    made = recipe(momentum=0.9, schedule="cosine", warmup=2)
    trained = made.train(classes(), keep=4, progress=False)
    assert [c.steps for c in trained.checkpoints] == [3, 2, 2, 2]
    rates = trained.history["learning_rate"].to_numpy()
    assert np.allclose(
        [c.learning_rate for c in trained.checkpoints], [part.mean() for part in np.split(rates, [3, 5, 7])]
    )
    end = trained.model.state_dict()
    assert all(torch.equal(value, end[name]) for name, value in trained.checkpoints[-1].state.items())
    shorter = trained.checkpoints[0].state["0.weight"]
    assert not torch.equal(shorter, trained.checkpoints[1].state["0.weight"])
    assert trained.history["loss"].to_numpy()[0] > trained.history["loss"].to_numpy()[-3:].mean()
    assert trained.seconds > 0
    with pytest.raises(SettingError, match="keep=10 is more than the 9 steps"):
        made.train(classes(), keep=10, progress=False)


def test_a_training_that_diverges_says_where() -> None:
    corpus = small.values(ids=[f"e{i}" for i in range(N)])
    with pytest.raises(NumericsError, match=r"loss is inf at step 1 on train e\d.* lower learning_rate=1e\+200"):
        small.line(learning_rate=1e200).train(corpus, progress=False)


def test_settings_tell_recipes_apart() -> None:
    def squashed(seed: int) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4)).double()

    found = recipe().settings()
    assert json.loads(json.dumps(found)) == found
    assert found == recipe().settings()
    assert found["model"] == "perceptron"
    assert found["model_fingerprint"] == Problem(_fresh(), Classification(), classes()).model_fingerprint()
    others = [{"model": squashed}, {"task": Classification("margin")}, {"epochs": 4}, {"clip": 1.0}]
    assert all(recipe(**other).settings() != found for other in others)
    assert recipe(model=functools.partial(small.perceptron)).settings() == found
    assert json.dumps(recipe(learning_rate=np.float32(0.5)).settings())


def _fresh() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return small.perceptron(0)


BAD = {
    "model=.* Sequential": {"model": tiny.mlp()},
    "task is a str": {"task": "classification"},
    "epochs=0": {"epochs": 0},
    "batch_size=2.5": {"batch_size": 2.5},
    "learning_rate=-1": {"learning_rate": -1},
    "learning_rate=nan": {"learning_rate": math.nan},
    "optimizer='lion'": {"optimizer": "lion"},
    "schedule='step'": {"schedule": "step"},
    "momentum=1.0": {"momentum": 1.0},
    "momentum=0.9 belongs": {"momentum": 0.9, "optimizer": "adam"},
    "weight_decay=-0.1": {"weight_decay": -0.1},
    "warmup=-1": {"warmup": -1},
    "clip=0": {"clip": 0},
}


@pytest.mark.parametrize(("message", "changed"), BAD.items(), ids=BAD)
def test_bad_settings_are_refused(message: str, changed: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=message.replace("model=.* ", "model is a ")):
        recipe(**changed)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([], CorpusError, "rows is empty"),
        ([0, N], SettingError, f"rows goes from 0 to {N}"),
        ([-1], SettingError, "rows goes from -1"),
        ([2, 2], SettingError, "twice"),
        ([0.5], SettingError, "dtype float64"),
    ],
)
def test_bad_rows_are_refused(rows: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        recipe().train(classes(), rows=rows, progress=False)


def test_bad_models_and_corpora_are_refused() -> None:
    frozen = tiny.mlp().requires_grad_(False)
    with pytest.raises(ModelError, match="gave a str for seed 0"):
        recipe(model=lambda seed: "model").train(classes(), progress=False)
    with pytest.raises(ModelError, match="no parameter that needs a gradient"):
        recipe(model=lambda seed: frozen).train(classes(), progress=False)
    with pytest.raises(CorpusError, match="needs the variables"):
        recipe(task=CausalLM()).train(classes(), progress=False)
    with pytest.raises(CorpusError, match="runs over 'query'"):
        recipe().train(asked(), progress=False)


def test_any_task_will_do() -> None:
    class Absolute(Task):
        def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
            return (outputs.sum(1) - batch["target"]).abs()

    found = recipe(task=Absolute(), learning_rate=0.01, epochs=30).train(classes(), progress=False)
    assert found.history["loss"].to_numpy()[-3:].mean() < found.history["loss"].to_numpy()[:3].mean()
