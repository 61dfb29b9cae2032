"""Pseudo-labels follow the model's own predictive distribution, and a query is measured in its own units.

The true Fisher rests on it: classes with the frequencies of softmax(logits), targets from N(output, 1), independent
between examples and between positions, and depending on nothing but the seed and the example's id.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from inflab import CausalLM, Classification, Regression
from inflab.tasks import Draws

from .builders import normal
from .references import assert_close

DRAWS = 20_000
LOGITS_V = torch.from_numpy(normal(6, seed=1))


def assert_frequencies(label_n: torch.Tensor, logits_v: torch.Tensor) -> None:
    """Every class within 5 standard errors of its probability, at most 0.4 percent for 20,000 draws."""
    p_v = logits_v.softmax(-1)
    found_v = torch.bincount(label_n, minlength=len(p_v)) / len(label_n)
    assert ((found_v - p_v).abs() <= 5 * (p_v * (1 - p_v) / len(label_n)).sqrt()).all()


def test_classes_follow_softmax() -> None:
    outputs = LOGITS_V.expand(DRAWS, -1)
    batch = {"target": torch.zeros(DRAWS, dtype=torch.long)}
    assert_frequencies(Classification().sample(outputs, batch, Draws(0, range(DRAWS)))["target"], LOGITS_V)


@pytest.mark.parametrize("side", ["right", "left"])
def test_tokens_follow_softmax_at_each_position(side: str) -> None:
    """Independently: the pair of labels at two positions has the product of their probabilities."""
    n = DRAWS
    logits_tv = torch.from_numpy(normal(4, 3, seed=2))
    is_text = torch.ones(n, 4, dtype=torch.bool)
    is_text[:, 3 if side == "right" else 0] = False
    is_target = is_text.clone()
    first = 0 if side == "right" else 1
    is_target[:, first] = False
    batch = {"token_id": torch.zeros(n, 4, dtype=torch.long), "is_text": is_text, "is_target": is_target}
    label_bt = CausalLM().sample(logits_tv.expand(n, -1, -1), batch, Draws(0, range(n)))["label"]
    one, two = logits_tv[first].log_softmax(-1), logits_tv[first + 1].log_softmax(-1)
    assert_frequencies(label_bt[:, first + 1], one)
    assert_frequencies(label_bt[:, first + 2], two)
    assert_frequencies(label_bt[:, first + 1] * 3 + label_bt[:, first + 2], (one[:, None] + two).flatten())


def test_targets_follow_a_normal_of_unit_variance() -> None:
    outputs = torch.tensor([3.0, -1.0]).double().expand(DRAWS, 2)
    batch = {"target": torch.zeros(DRAWS, 2).double()}
    noise = Regression().sample(outputs, batch, Draws(0, range(DRAWS)))["target"] - outputs
    for column in noise.T:
        assert stats.kstest(column.numpy(), "norm").pvalue > 1e-3
    assert abs(float(torch.corrcoef(noise.T)[0, 1])) < 5 / np.sqrt(DRAWS)


def test_draws_depend_on_seed_and_id_alone() -> None:
    straight, shuffled = Draws(3, ["a", "b", "c"]).normal(4), Draws(3, ["c", "a"]).normal(4)
    assert torch.equal(shuffled, straight[[2, 0]])
    assert not (Draws(4, ["a"]).normal(4) == straight[:1]).any()
    assert torch.equal(Draws(3, ["a"]).uniform(9)[:, :4], Draws(3, ["a"]).uniform(4))


def test_measurements_are_log_probability_and_log_odds() -> None:
    outputs, target = torch.from_numpy(normal(5, 6, seed=3)), torch.tensor([0, 5, 2, 2, 1])
    p_b = outputs.exp()[torch.arange(5), target] / outputs.exp().sum(1)
    assert_close(Classification().measure(outputs, {"target": target}), p_b.log())
    assert_close(Classification().loss(outputs, {"target": target}), -p_b.log())
    assert_close(Classification("margin").measure(outputs, {"target": target}), (p_b / (1 - p_b)).log())

    token_id = torch.tensor([[4, 1, 3], [2, 2, 5]])
    batch = {
        "token_id": token_id,
        "is_text": torch.ones(2, 3) > 0,
        "is_target": torch.tensor([[0, 1, 1], [0, 0, 1]]) > 0,
    }
    logits = torch.from_numpy(normal(2, 3, 6, seed=4))
    p_btv = logits.exp() / logits.exp().sum(-1, keepdim=True)
    p = torch.stack([p_btv[0, 0, 1], p_btv[0, 1, 3], p_btv[1, 1, 5]])
    for task, value in ((CausalLM(), p.log()), (CausalLM("margin"), (p / (1 - p)).log())):
        assert_close(task.measure(logits, batch), [value[0] + value[1], value[2]])
    assert_close(CausalLM().loss(logits, batch), [-(p[0] * p[1]).log(), -p[2].log()])

    target = torch.from_numpy(normal(5, 6, seed=5))
    assert_close(Regression().loss(outputs, {"target": target}), ((outputs - target) ** 2).sum(1) / 2)
    assert_close(Regression("output").measure(outputs, {"target": target}), outputs.sum(1))
