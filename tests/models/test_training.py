"""Training lowers the loss it says it lowers, by seed alone, and leaves everything else as it was."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from inflab import datasets, encode, models
from inflab.errors import CorpusError, ModelError, NumericsError, SettingError
from inflab.models.training import blank
from tests.models.small import OPTIONS, SIZES, config, corpus, same, weights

FEW: dict[str, Any] = {"steps": 4, "progress": False}


def test_the_loss_falls() -> None:
    trained = models.train(config(), corpus(), epochs=60, learning_rate=1e-2, warmup=5, progress=False)
    loss = trained.history["loss"].to_numpy()
    assert loss[:3].mean() > 6
    assert loss[-3:].mean() < 2.5
    assert not trained.model.training
    assert trained.seconds > 0


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_first_loss_is_that_of_the_drawn_model_on_target_tokens(reduction: str) -> None:
    # Prompts and completions: only the completions count. One step sees all rows, so the order does not matter.
    queries = datasets.fact_queries(corpus())
    trained = models.train(config(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0), queries, steps=1, batch_size=8,
                           reduction=reduction, progress=False, seed=5)  # fmt: skip
    model = blank(config(), seed=5)
    total, count = 0.0, 0
    for i in range(queries.sizes["query"]):
        row = queries.isel(query=i)
        n = int(row["is_text"].sum())
        ids = torch.tensor(row["token_id"].to_numpy()[:n], dtype=torch.long)
        logits = model(ids[None]).logits[0]
        for t in np.flatnonzero(row["is_target"].to_numpy()):
            total += F.cross_entropy(logits[t - 1], ids[t]).item()
            count += 1
    assert trained.history["loss"].item() == pytest.approx(total / count, rel=1e-5)


def test_mean_and_sum_weigh_batches_differently() -> None:
    # Without clipping and with one row a batch, the gradients differ by the number of tokens; AdamW forgets a
    # constant factor, so rows of different lengths are needed to tell them apart.
    by = [models.train(config(), corpus(), batch_size=1, clip=1e9, reduction=r, **FEW).model for r in ("mean", "sum")]
    assert not same(*by)


def test_same_seed_same_weights() -> None:
    one, two, other = (models.train(config(), corpus(), seed=seed, **FEW) for seed in (3, 3, 4))
    assert same(one.model, two.model)
    assert one.history.equals(two.history)
    assert not same(one.model, other.model)


def test_the_users_random_numbers_and_settings_stay_as_they_were() -> None:
    torch.manual_seed(11)
    random.seed(11)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    threads = torch.get_num_threads()
    with torch.no_grad():
        models.train(config(resid_pdrop=0.5), corpus(), threads=1, **FEW)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]  # noqa: NPY002
    assert torch.get_num_threads() == threads


def test_training_works_where_gradients_are_off() -> None:
    expected = models.train(blank(config(), seed=1), corpus(), **FEW).model
    with torch.inference_mode():
        found = models.train(blank(config(), seed=1), corpus(), **FEW).model
    assert same(found, expected)
    assert not any(parameter.is_inference() for parameter in found.parameters())


def test_threads_come_back_after_an_error() -> None:
    threads = torch.get_num_threads()
    with pytest.raises(NumericsError):
        models.train(config(), corpus(), learning_rate=1e30, warmup=1, threads=threads + 1, **FEW)
    assert torch.get_num_threads() == threads


def test_dropout_is_drawn_by_seed() -> None:
    torch.manual_seed(1)
    one = models.train(config(resid_pdrop=0.5), corpus(), seed=2, **FEW)
    torch.manual_seed(2)
    two = models.train(config(resid_pdrop=0.5), corpus(), seed=2, **FEW)
    assert same(one.model, two.model)


def test_a_model_is_trained_as_a_copy() -> None:
    model = blank(config(), seed=0)
    before = weights(model)
    trained = models.train(model, corpus(), **FEW).model
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not same(model, trained)


def test_a_config_and_a_model_drawn_from_it_train_alike() -> None:
    assert same(
        models.train(config(), corpus(), seed=6, **FEW).model,
        models.train(blank(config(), seed=6), corpus(), seed=6, **FEW).model,
    )


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_padding_left_or_right_trains_alike(family: str) -> None:
    tokenizer = datasets.tokenizer("facts", **OPTIONS)
    texts = list(corpus()["text"].to_numpy())
    recipe = models.loading.RECIPES["facts-llama" if family == "llama" else "facts-gpt"]
    built = recipe.build_config(len(tokenizer), 0)
    # Two steps with a tiny rate: AdamW's first steps blow rounding errors up to the size of the rate.
    settings: dict[str, Any] = {"steps": 2, "learning_rate": 1e-6, "progress": False, "batch_size": len(texts)}
    left, right = (
        models.train(built, encode(texts, tokenizer, padding_side=side), **settings) for side in ("left", "right")
    )
    np.testing.assert_allclose(left.history["loss"], right.history["loss"], rtol=1e-5)


def test_learning_rate_warms_up_and_comes_down() -> None:
    trained = models.train(config(), corpus(), steps=40, warmup=10, learning_rate=1e-3, progress=False)
    rate = trained.history["learning_rate"].to_numpy()
    assert rate[0] == pytest.approx(1e-4)
    assert int(rate.argmax()) == 9
    assert (np.diff(rate[9:]) < 0).all()
    assert rate[-1] == pytest.approx(0.05e-3, rel=0.05)


def test_every_epoch_sees_every_row_once() -> None:
    n = corpus().sizes["train"]
    trained = models.train(config(), corpus(), epochs=2, batch_size=4, progress=False)
    assert trained.history.sizes["step"] == 2 * math.ceil(n / 4)
    from inflab.models.training import _batches

    drawn = [row for _, batch in zip(range(math.ceil(n / 4)), _batches(n, 4, 0), strict=False) for row in batch]
    assert sorted(drawn) == list(range(n))


def test_history_says_what_it_is() -> None:
    history = models.train(config(), corpus(), **FEW).history
    assert history["loss"].attrs["units"] == "nat per token"
    assert history["step"].to_numpy().tolist() == [0, 1, 2, 3]


def test_the_bar_is_shown_only_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    models.train(config(), corpus(), **FEW)
    assert capsys.readouterr().err == ""
    models.train(config(), corpus(), steps=4, label="learning")
    shown = capsys.readouterr().err
    assert "learning" in shown
    assert "4/4" in shown


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "exactly one"),
        ({"steps": 1, "epochs": 1}, "exactly one"),
        ({"steps": 0}, "steps=0 is not an integer of at least 1"),
        ({"epochs": -1}, "epochs=-1 is not an integer of at least 1"),
        ({"steps": 1, "batch_size": 0}, "batch_size=0 is not an integer of at least 1"),
        ({"steps": 1, "learning_rate": 0.0}, "learning_rate=0.0 is not a positive number"),
        ({"steps": 1, "learning_rate": math.nan}, "learning_rate=nan is not a positive number"),
        ({"steps": 1, "weight_decay": -0.1}, "weight_decay=-0.1 is not a number of at least 0"),
        ({"steps": 1, "clip": 0}, "clip=0 is not a positive number"),
        ({"steps": 1, "warmup": -1}, "warmup=-1 is not an integer of at least 0"),
        ({"steps": 1, "seed": -1}, "seed=-1 is not an integer of at least 0"),
        ({"steps": 1, "warmup": 2.5}, "warmup=2.5 is not an integer of at least 0"),
        ({"steps": 1, "threads": 0}, "threads=0 is not an integer of at least 1"),
        ({"steps": 1, "reduction": "max"}, "reduction='max' is not one of"),
    ],
)
def test_a_setting_outside_its_domain_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        models.train(config(), corpus(), **settings)


def test_what_does_not_fit_is_refused_before_training() -> None:
    with pytest.raises(CorpusError, match="no is_target, is_text, token_id"):
        models.train(config(), datasets.load("wine"), **FEW)
    with pytest.raises(CorpusError, match=r"token id \d+ is outside the model's vocabulary of 300"):
        models.train(config().__class__(vocab_size=300, **SIZES), corpus(), **FEW)
    with pytest.raises(CorpusError, match=r"longer than the model's 5 positions; use encode\(max_length=5\)"):
        models.train(config(n_positions=5), corpus(), **FEW)
    with pytest.raises(ModelError, match="Linear"):
        models.train(torch.nn.Linear(2, 2), corpus(), **FEW)
    masked = corpus().copy(deep=True)
    masked["is_target"][2] = False
    with pytest.raises(CorpusError, match=f"no target token in train {masked['train'][2].item()}"):
        models.train(config(), masked, **FEW)
    with pytest.raises(CorpusError, match="empty"):
        models.train(config(), corpus().isel(train=slice(0, 0)), **FEW)


def test_a_loss_that_explodes_is_an_error_with_step_and_rows() -> None:
    with pytest.raises(
        NumericsError, match=r"at step [123] on .*(fact|place|person|other)-0.*lower learning_rate=1e\+30"
    ):
        models.train(config(), corpus(), learning_rate=1e30, warmup=1, **FEW)


def test_a_model_is_drawn_in_float32_whatever_the_default() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        model = blank(config(), seed=0)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert isinstance(model, AutoModelForCausalLM._model_mapping[type(config())])
