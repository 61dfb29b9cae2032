"""What the model writes is what transformers generates; log-probabilities are those of its logits; nothing is left."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

import inflab
from inflab import Classification, Problem
from inflab.errors import CorpusError, SettingError
from tests import tiny

PROMPT = "The first President of Astrobia was"


def _logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return found


@pytest.mark.parametrize("make", [tiny.gpt2, tiny.llama, tiny.neox], ids=["gpt2", "llama", "neox"])
def test_the_likeliest_tokens_are_those_that_generate_takes(make: Any) -> None:
    model, tokenizer = make(), tiny.byte_level()
    problem = tiny.language_problem(model)
    given = tokenizer(PROMPT, return_tensors="pt")
    settings = {"do_sample": False, "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    said = model.generate(**given, max_new_tokens=9, **settings)[0].tolist()
    n = given["input_ids"].shape[1]
    with tiny.untouched(model):
        found = inflab.complete(problem, PROMPT, tokenizer, tokens=9, progress=False)
    assert found["token_id"].to_numpy().tolist() == [one for one in said[n:] if one != tokenizer.eos_token_id]
    assert "".join(found["token_text"].to_numpy()) == tokenizer.decode(found["token_id"].to_numpy())
    expected = [float(_logits(model, said)[n - 1 + i, token]) for i, token in enumerate(found["token_id"].to_numpy())]
    np.testing.assert_allclose(found["log_probability"], expected, rtol=1e-4)


def test_neither_the_models_settings_nor_torchs_random_numbers_are_read_or_touched() -> None:
    model = tiny.gpt2()
    model.generation_config.update(do_sample=True, temperature=7.0, repetition_penalty=9.0, max_new_tokens=1)
    config, before = copy.deepcopy(model.config.to_dict()), model.generation_config.to_dict()
    problem, state = tiny.language_problem(model), torch.get_rng_state()
    with tiny.untouched(model):
        found = inflab.complete(problem, PROMPT, tiny.byte_level(), tokens=5, temperature=1.5, progress=False)
        greedy = inflab.complete(problem, PROMPT, tiny.byte_level(), tokens=5, progress=False)
    assert found.sizes["token"] == 5
    assert model.generation_config.to_dict() == before
    assert model.config.to_dict() == config
    assert torch.equal(torch.get_rng_state(), state)
    plain = inflab.complete(tiny.language_problem(), PROMPT, tiny.byte_level(), tokens=5, progress=False)
    assert greedy["token_id"].equals(plain["token_id"])


def test_draws_are_those_of_the_seed_and_of_softmax() -> None:
    problem, tokenizer = tiny.language_problem(), tiny.byte_level()

    def first(seed: int, temperature: float) -> int:
        found = inflab.complete(
            problem, PROMPT, tokenizer, tokens=1, temperature=temperature, seed=seed, progress=False
        )
        return int(found["token_id"][0]) if found.sizes["token"] else int(tokenizer.eos_token_id)

    drawn = np.array([first(seed, 0.7) for seed in range(400)])
    assert (drawn[:50] == [first(seed, 0.7) for seed in range(50)]).all()
    logits = _logits(problem.model, tokenizer(PROMPT)["input_ids"])[-1]
    expected = (logits / 0.7).softmax(-1).numpy()
    share = np.bincount(drawn, minlength=len(expected)) / len(drawn)
    spread = np.sqrt(expected * (1 - expected) / len(drawn))
    assert (np.abs(share - expected) <= 5 * spread + 1 / len(drawn)).all()
    assert {first(seed, 1e-4) for seed in range(5)} == {int(logits.argmax())}


def test_it_stops_where_the_text_ends_or_the_positions_do() -> None:
    tokenizer = tiny.byte_level()
    model = tiny.gpt2()
    problem = tiny.language_problem(model)
    free = inflab.complete(problem, PROMPT, tokenizer, tokens=6, progress=False)
    assert free.attrs["stopped"] == "tokens"
    model.generation_config.eos_token_id = [int(free["token_id"][3])]  # several are allowed
    ended = inflab.complete(problem, PROMPT, tokenizer, tokens=6, progress=False)
    at = free["token_id"].to_numpy().tolist().index(int(free["token_id"][3]))
    assert ended["token_id"].to_numpy().tolist() == free["token_id"].to_numpy().tolist()[:at]
    assert ended.attrs["stopped"] == "end of text"
    short = tiny.language_problem(tiny.gpt2(n_positions=24))
    n = len(tokenizer(PROMPT)["input_ids"])
    full = inflab.complete(short, PROMPT, tokenizer, tokens=100, progress=False)
    assert full.attrs["stopped"] in ("positions", "end of text")
    assert full.sizes["token"] <= 24 - n
    with pytest.raises(CorpusError, match="24 positions; shorten it"):
        inflab.complete(short, PROMPT * 9, tokenizer, progress=False)


def test_log_probabilities_are_those_of_each_text_alone_and_of_targets_only(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny.gpt2(), tiny.byte_level()
    problem = tiny.language_problem(model)
    prompts = [*tiny.PROMPTS, "Tea"]
    asked = inflab.encode(prompts, tokenizer, completions=[" Zorald", " Astrobia and tea", " grows."], dim="query")
    with tiny.untouched(model):
        found = inflab.log_probability(problem, asked)
    assert found.dims == ("query", "token")
    assert found.attrs["units"] == "nat"
    for row in range(3):
        is_text = asked["is_text"][row].to_numpy()
        ids = asked["token_id"][row].to_numpy()[is_text]
        alone = _logits(model, ids.tolist())
        is_target = asked["is_target"][row].to_numpy()[is_text]
        expected = [float(alone[i - 1, ids[i]]) if is_target[i] else np.nan for i in range(len(ids))]
        np.testing.assert_allclose(found[row].to_numpy()[is_text], expected, rtol=1e-4)
        assert np.isnan(found[row].to_numpy()[~is_text]).all()
    monkeypatch.setattr("inflab.generation._LOGITS", 1)  # one row at a time
    np.testing.assert_allclose(inflab.log_probability(problem, asked), found, rtol=1e-4)


@pytest.mark.parametrize(
    ("setting", "words"),
    [({"tokens": 0}, "tokens=0"), ({"temperature": -1.0}, "temperature=-1.0"), ({"temperature": float("nan")}, "nan"),
     ({"seed": -1}, "seed=-1"), ({"temperature": "hot"}, "hot")],
)  # fmt: skip
def test_a_setting_outside_its_domain_is_named(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        inflab.complete(tiny.language_problem(), PROMPT, tiny.byte_level(), progress=False, **setting)


def test_what_writes_no_text_says_so() -> None:
    with pytest.raises(CorpusError, match="empty"):
        inflab.complete(tiny.language_problem(), "", tiny.byte_level(), progress=False)
    table = Problem(tiny.mlp(), Classification(), tiny.table())
    with pytest.raises(SettingError, match="only a language model"):
        inflab.complete(table, PROMPT, tiny.byte_level(), progress=False)
    with pytest.raises(SettingError, match="only a language model"):
        inflab.log_probability(table, tiny.table(2, "query"))


def test_a_character_of_several_tokens_comes_whole_with_the_last_of_them() -> None:
    class Scripted(torch.nn.Module):
        """Says a text, byte by byte."""

        def __init__(self, ids: list[int], after: int, like: Any) -> None:
            super().__init__()
            self.inner, self.ids, self.after, self.config = like, ids, after, like.config

        def forward(self, input_ids: torch.Tensor, **more: Any) -> Any:
            said = self.inner(input_ids=input_ids, **more)
            at = min(input_ids.shape[1] - self.after, len(self.ids) - 1)
            said.logits[:, -1, self.ids[max(at, 0)]] += 1e4
            return said

    tokenizer, text = tiny.byte_level(), " é👩!"
    ids = tokenizer(text)["input_ids"]
    model = Scripted(ids, len(tokenizer(PROMPT)["input_ids"]), tiny.gpt2())
    found = inflab.complete(tiny.language_problem(model), PROMPT, tokenizer, tokens=len(ids), progress=False)
    pieces = found["token_text"].to_numpy().tolist()
    assert "".join(pieces) == text
    assert "é" in "".join(pieces) and "👩" in pieces
    assert not any("\ufffd" in piece for piece in pieces)
