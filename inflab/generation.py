"""What a language model says of a prompt, token by token, and how likely it finds a completion.

One forward pass a token through the task, as in every other pass: the model's own settings of generation (sampling,
penalties, caches) are neither read nor touched, but for the tokens that end a text. Random numbers come from a seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

from inflab import corpus as corpora
from inflab.device import model_device, to_tensor
from inflab.errors import CorpusError, SettingError, check_count, is_finite_number
from inflab.problem import Problem
from inflab.progress import progress_bar
from inflab.schema import root_attrs, variable_attrs
from inflab.tasks import CausalLM
from inflab.tasks.base import Draws, at_least_float32, draw_class

__all__ = ["complete", "log_probability"]

_LOGITS = 2**26  # numbers in memory at a time


def complete(
    problem: Problem,
    prompt: str,
    tokenizer: Any,
    *,
    tokens: int = 20,
    temperature: float = 0.0,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Let the model go on from a prompt.

    Args:
        problem: with the task `CausalLM`.
        prompt: what comes before.
        tokenizer: the model's own.
        tokens: most tokens; fewer where the model ends its text, or has no more positions.
        temperature: 0 takes the likeliest token each time; above, tokens are drawn from softmax(logits / temperature).
        seed: of the draws.
        progress: show a bar.

    Returns:
        Over `token`: `token_id`, `token_text` (joined, it is the text that was added; empty where a character is not
        whole yet) and `log_probability` (nat, at temperature 1). Attribute `stopped` is "end of text", "tokens" or
        "positions".

    Raises:
        CorpusError: when the prompt is empty, or leaves no position to the model.
        SettingError: when the task is another, or a setting is outside its domain.
        ModelError: when the model is in train() mode with dropout.

    Example:
        >>> found = inflab.complete(problem, "The first President of", tokenizer, tokens=2)
        >>> found["token_text"].dims, found["log_probability"].attrs["units"]
        (('token',), 'nat')
    """
    _check_task(problem)
    check_count("tokens", tokens)
    check_count("seed", seed, least=0)
    if not is_finite_number(temperature) or temperature < 0:
        raise SettingError(f"temperature={temperature!r} must be a number of at least 0; 0 takes the likeliest token")
    if not prompt:
        raise CorpusError(f"prompt={prompt!r} is empty; give a text for the model to go on from")
    problem.check_model()
    ends = _ends(problem.model, tokenizer)
    known = _prompt_ids(prompt, tokenizer, ends)
    longest = _positions(problem.model)
    if longest is not None and len(known) >= longest:
        raise CorpusError(f"prompt has {len(known)} tokens, the model has {longest} positions; shorten it")
    most = tokens if longest is None else min(tokens, longest - len(known))
    uniform = Draws(seed, [prompt]).uniform(most)[0]
    device = model_device(problem.model)
    chosen: list[int] = []
    log_probability: list[float] = []
    stopped = "tokens" if most == tokens else "positions"
    with torch.no_grad(), progress_bar(most, "the model writes", "token", shown=progress) as bar:
        for step in range(most):
            token_id = torch.tensor([known + chosen], device=device)
            outputs = problem.task.forward(
                problem.model, {"token_id": token_id, "is_text": torch.ones_like(token_id, dtype=torch.bool)}
            )
            logits_1v = at_least_float32(outputs[:, -1])
            drawn = draw_class(logits_1v / temperature, uniform[step : step + 1].to(logits_1v.device)) if temperature \
                else logits_1v.argmax(-1)  # fmt: skip
            if int(drawn) in ends:
                stopped = "end of text"
                break
            chosen.append(int(drawn))
            log_probability.append(float(logits_1v.log_softmax(-1)[0, chosen[-1]]))
            bar.update()
    pieces = np.array(_added(tokenizer, known, chosen), dtype=object)
    asked = {"tokens": int(tokens), "temperature": float(temperature), "seed": int(seed)}
    return xr.Dataset(
        {
            "token_id": ("token", np.array(chosen, np.int32), variable_attrs("token id", "1", "as the model wrote it")),
            "token_text": ("token", pieces, variable_attrs("token text", "1", "what each token adds to the text")),
            "log_probability": ("token", np.array(log_probability, np.float64), _described("of each token written")),
        },
        coords={"token": np.arange(len(chosen))},
        attrs=root_attrs("completion", prompt=prompt, stopped=stopped, **asked),
    )


def log_probability(problem: Problem, queries: xr.Dataset) -> xr.DataArray:
    """How likely the model finds each completion, token by token.

    Args:
        problem: with the task `CausalLM`.
        queries: a corpus over `query`, or over `train`.

    Returns:
        `(query, token)` in nat, NaN where a token is no target: its sum over `token` is log p(completion | prompt).

    Raises:
        CorpusError: when the queries do not fit the problem.
        SettingError: when the task is another.
        ModelError: when the model is in train() mode with dropout.

    Example:
        >>> found = inflab.log_probability(problem, queries)
        >>> found.dims
        ('query', 'token')
        >>> bool((found.sum("token") < 0).all())
        True
    """
    task = _check_task(problem)
    dim = corpora.corpus_dim(queries)
    problem.check_corpus(queries, dim)
    problem.check_model()
    model, device = problem.model, model_device(problem.model)
    floats = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    is_text, is_target = (queries[name].transpose(dim, "token").to_numpy() for name in ("is_text", "is_target"))
    found = np.full(is_text.shape, np.nan)
    vocabulary = int(getattr(getattr(model, "config", None), "vocab_size", 1) or 1)
    size = max(1, _LOGITS // (is_text.shape[1] * vocabulary))
    with torch.no_grad():
        for start in range(0, len(found), size):
            rows = np.arange(start, min(start + size, len(found)))
            given = {n: to_tensor(value, device, floats) for n, value in corpora.batch(queries, rows).items()}
            value_bt = task.token_log_probability(task.forward(model, given), given).cpu().numpy()
            for row, value_t in zip(rows, value_bt, strict=True):  # texts began at the first column there
                found[row, is_text[row]] = value_t[: is_text[row].sum()]
    found[~is_target] = np.nan
    coords = {str(name): coord for name, coord in queries.coords.items() if set(coord.dims) <= {dim, "token"}}
    return xr.DataArray(found, dims=(dim, "token"), coords=coords, attrs=_described("of each target token"))


def _described(what: str) -> dict[str, Any]:
    return variable_attrs("log-probability", "nat", f"{what}, given all before it")


def _check_task(problem: Problem) -> CausalLM:
    if not isinstance(problem, Problem):
        raise SettingError(f"problem is a {type(problem).__name__}; give inflab.Problem(model, CausalLM(), corpus)")
    if not isinstance(problem.task, CausalLM):
        raise SettingError(f"the task is {problem.task!r}; only a language model (inflab.CausalLM) writes text")
    return problem.task


def _ends(model: Any, tokenizer: Any) -> set[int]:
    """Tokens that end a text."""
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    own = getattr(tokenizer, "eos_token_id", None) if own is None else own
    return set() if own is None else {int(i) for i in (own if isinstance(own, (list, tuple)) else [own])}


def _positions(model: Any) -> int | None:
    config: Any = getattr(model, "config", None)
    if hasattr(config, "get_text_config"):  # models of images and text keep two
        config = config.get_text_config()
    longest = getattr(config, "max_position_embeddings", None)
    return None if longest is None else int(longest)


def _prompt_ids(prompt: str, tokenizer: Any, ends: set[int]) -> list[int]:
    found = corpora.encode([prompt], tokenizer, dim="query")
    ids: list[int] = found["token_id"].to_numpy()[0].tolist()
    while len(ids) > 1 and ids[-1] in ends:  # some tokenizers close every text
        ids.pop()
    return ids


def _added(tokenizer: Any, known: list[int], chosen: list[int]) -> list[str]:
    """What each token adds to the text; a character of several tokens comes with the last of them."""

    def read(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    pieces, text = [], read(known)
    for n in range(1, len(chosen) + 1):
        longer = read(known + chosen[:n])
        is_whole = not longer.endswith("\ufffd") or n == len(chosen)
        pieces.append(longer[len(text) :] if is_whole else "")
        text = longer if is_whole else text
    return pieces
