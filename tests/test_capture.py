"""A pass leaves the model as it was, whatever happens, and sees each layer right whatever the model does around it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inflab import EKFAC, KFAC, CausalLM, Diagonal, Identity, Influence, Problem, top
from inflab.capture import Capture
from inflab.corpus import batch
from inflab.errors import LayerError, ModelError, NumericsError, SettingError
from inflab.layer import select_layers
from inflab.run.local import Pass
from tests import tiny

# Forward-mode differentiation loads rules that torch still compiles with torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")


def used() -> Any:
    """A model in the middle of its life: frozen weights, gradients, a hook of its own, parts in train()."""
    model = tiny.gpt2(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("attn" not in name)
        if "mlp" in name:
            parameter.grad = torch.ones_like(parameter)
    model.transformer.h[1].train()
    model.transformer.h[0].mlp.register_forward_hook(lambda module, args, output: None)
    return model


PASSES: dict[str, Callable[[Influence], Any]] = {
    "score": lambda fitted: fitted.score(tiny.queries(), progress=False),
    "score by layer": lambda fitted: fitted.score(tiny.queries(), by="layer", progress=False),
    "self_influence": lambda fitted: fitted.self_influence(progress=False),
    "attribute": lambda fitted: fitted.attribute(tiny.queries(), top(tiny.scored(), 2), progress=False),
    "attribute pairs": lambda fitted: fitted.attribute(
        tiny.queries(), top(tiny.scored(), 2), pairs=True, progress=False
    ),
    "attribute outputs": lambda fitted: fitted.attribute(
        tiny.queries(), top(tiny.scored(), 2), view="output", progress=False
    ),
    "explain": lambda fitted: fitted.explain(tiny.queries(), 2, progress=False),
}


@pytest.mark.parametrize("method", [EKFAC(), KFAC(), Diagonal(), Identity()], ids=lambda m: type(m).__name__)
def test_fitting_leaves_the_model_as_it_was(method: Any) -> None:
    model = used()
    with tiny.untouched(model):
        tiny.fit(tiny.language_problem(model), method)


@pytest.mark.parametrize("ask", PASSES.values(), ids=PASSES)
def test_asking_leaves_the_model_as_it_was(ask: Callable[[Influence], Any]) -> None:
    model = used()
    fitted = tiny.fit(tiny.language_problem(model))
    with tiny.untouched(model):
        ask(fitted)


class Interrupted(CausalLM):
    """Stops in the second pass, where it is told to."""

    error: BaseException = KeyboardInterrupt()
    where = "forward"

    def forward(self, *args: Any) -> Tensor:
        return super().forward(*args) if self.where != "forward" else self._stop()

    def loss(self, *args: Any) -> Tensor:
        return super().loss(*args) if self.where != "loss" else self._stop()

    def _stop(self) -> Tensor:
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), torch.OutOfMemoryError("full"), ValueError("mine")], ids=repr)
@pytest.mark.parametrize("where", ["forward", "loss"])
@pytest.mark.filterwarnings("ignore:out of memory")
def test_a_task_that_fails_leaves_the_model_as_it_was(error: BaseException, where: str) -> None:
    model, task = used(), Interrupted()
    object.__setattr__(task, "error", error)
    object.__setattr__(task, "where", where)
    with tiny.untouched(model), pytest.raises(type(error)):
        tiny.fit(Problem(model, task, tiny.corpus()))


class Crowded(CausalLM):
    """Has room for two examples."""

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        if len(outputs) > 2:
            raise torch.OutOfMemoryError("full")
        return super().loss(outputs, batch)


def test_a_batch_that_does_not_fit_is_halved_with_a_warning() -> None:
    problem = Problem(tiny.gpt2(), Crowded(), tiny.corpus())
    with tiny.untouched(problem.model), pytest.warns(UserWarning, match=r"batch of \d examples; going on with \d"):
        found = tiny.scores(problem, tiny.queries())
    tiny.agree(found, tiny.scored()["influence"], 1e-5)


@pytest.mark.parametrize("at", ["transformer.h.1.mlp.c_proj", "transformer.h.0.mlp.c_proj", "transformer.h.0.mlp.c_fc"])
def test_a_layer_that_had_its_tokens_does_not_get_them_twice(at: str) -> None:
    """Memory runs out in the middle of a backward pass; layers behind it were delivered already."""
    problem = tiny.language_problem()
    chosen = select_layers(problem.model)
    seen: dict[str, list[int]] = {layer.name: [] for layer in chosen}

    def sink(index: np.ndarray, layer: Any, tokens: Any) -> None:
        if layer.name == at and len(index) > 2:
            raise torch.OutOfMemoryError("full")
        seen[layer.name] += index.tolist()

    with pytest.warns(UserWarning, match="out of memory"):
        Pass(problem, chosen, progress=False).over(problem.corpus, "loss", sink, what="test")
    assert all(sorted(rows) == list(range(6)) for rows in seen.values())


def test_texts_of_like_length_go_together_and_every_one_once() -> None:
    texts = [tiny.TEXTS[i % 6] * (1 + i % 3) for i in range(12)]
    problem = tiny.language_problem(train=tiny.corpus(texts))
    chosen = select_layers(problem.model)
    batches: list[np.ndarray] = []
    columns: list[int] = []

    def sink(index: np.ndarray, layer: Any, tokens: Any) -> None:
        if layer is chosen[0]:
            batches.append(index)
            columns.append(tokens.activation.shape[1] * len(index))

    Pass(problem, chosen, batch_size=3, progress=False).over(problem.corpus, "loss", sink, what="test")
    assert sorted(np.concatenate(batches).tolist()) == list(range(12))
    lengths = problem.corpus["is_text"].to_numpy().sum(1)
    in_order = sum(3 * int(lengths[start : start + 3].max()) for start in range(0, 12, 3))
    assert lengths.sum() <= sum(columns) < in_order


@pytest.mark.parametrize("error", [KeyboardInterrupt, NumericsError])
@pytest.mark.parametrize("ask", [tiny.fit, *PASSES.values()], ids=["fit", *PASSES])
def test_an_interrupt_during_a_backward_pass_leaves_the_model_as_it_was(
    ask: Callable[[Any], Any], error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = used()
    problem = tiny.language_problem(model)
    given = problem if ask is tiny.fit else tiny.fit(problem)
    calls = []

    def stop(self: Capture, layer: Any, *rest: Any) -> Any:
        calls.append(layer.name)
        if len(calls) > 2:  # the third layer of the first batch: in the middle of a backward pass
            raise error("stop")
        return lay_out(self, layer, *rest)

    lay_out = Capture._tokens
    monkeypatch.setattr(Capture, "_tokens", stop)
    with tiny.untouched(model), pytest.raises(error, match="stop"):
        ask(given)
    assert len(calls) == 3
    monkeypatch.undo()
    again = tiny.fit(problem).score(tiny.queries(), progress=False)
    tiny.agree(again["influence"], tiny.scored()["influence"], 1e-6)


@pytest.mark.parametrize("ask", [tiny.fit, *PASSES.values()], ids=["fit", *PASSES])
def test_an_interrupt_between_batches_leaves_the_model_as_it_was(
    ask: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bar:
        def __init__(self, *args: Any, **more: Any) -> None: ...
        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *error: Any) -> None: ...
        def update(self, n: int) -> None:
            raise KeyboardInterrupt

    model = used()
    problem = tiny.language_problem(model)
    given = problem if ask is tiny.fit else tiny.fit(problem)
    monkeypatch.setattr("inflab.run.local.progress_bar", Bar)
    with tiny.untouched(model), pytest.raises(KeyboardInterrupt):
        ask(given)


# --- whatever surrounds the call --------------------------------------------------------------------------------


def _ask() -> np.ndarray:
    return tiny.scores(tiny.language_problem(), tiny.queries())


SURROUNDINGS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16, enabled=False),
    "another default dtype": lambda: _default_dtype(torch.float64),
}


class _default_dtype:
    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __enter__(self) -> None:
        self.before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *error: Any) -> None:
        torch.set_default_dtype(self.before)


@pytest.mark.parametrize("surrounding", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_scores_do_not_depend_on_the_switches_of_the_caller(surrounding: Any) -> None:
    model, expected = tiny.gpt2(), tiny.scored()["influence"]
    with surrounding():
        found = tiny.scores(tiny.language_problem(model), tiny.queries())
    tiny.agree(found, expected, 1e-6)


def test_sums_stay_in_float32_under_a_callers_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = tiny.scores(tiny.language_problem(), tiny.queries())
    narrow = tiny.scores(tiny.language_problem(), tiny.queries(), EKFAC(dtype="bfloat16"))
    tiny.agree(found, narrow, 1e-6)


def test_weights_that_need_no_gradient_are_covered_all_the_same() -> None:
    model = tiny.gpt2().requires_grad_(False)
    tiny.agree(tiny.scores(tiny.language_problem(model), tiny.queries()), tiny.scored()["influence"], 1e-6)


# --- what a model does around its layers ------------------------------------------------------------------------


class Residual(nn.Module):
    """Two convolutions with batch normalisation and a shortcut, as in a ResNet."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
        self.relu, self.head = nn.ReLU(inplace=inplace), nn.Linear(2, 3)
        self.inplace = inplace

    def forward(self, value: Tensor) -> Tensor:
        hidden = self.relu(self.norm1(self.conv1(value)))
        out = self.norm2(self.conv2(hidden))
        if self.inplace:
            out += hidden
        else:
            out = out + hidden
        return self.head(self.relu(out).mean((2, 3)))


class Plain(nn.Module):
    """Activations that change a layer's output itself."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.a, self.relu, self.drop = nn.Linear(16, 5), nn.ReLU(inplace), nn.Dropout(0.5, inplace)
        self.b, self.c = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, value: Tensor) -> Tensor:
        return self.c(self.relu(self.b(self.drop(self.relu(self.a(value.flatten(1)))))))


def images(n: int = 8, dim: str = "train") -> Any:
    from inflab import adapters

    draw = np.random.default_rng(0)
    return adapters.from_arrays(draw.standard_normal((n, 1, 4, 4)).astype("f4"), draw.integers(0, 3, n), dim=dim)


def _statistics(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.linspace(-0.5, 0.5, len(module.weight))
            module.running_var = torch.linspace(0.5, 2, len(module.weight))
    return model


@pytest.mark.parametrize("kind", [Residual, Plain])
def test_operations_in_place_change_nothing(kind: Any) -> None:
    from inflab import Classification

    found = []
    for inplace in (True, False):
        model = _statistics(tiny.seeded(kind(inplace)))
        with tiny.untouched(model):
            found.append(tiny.scores(Problem(model, Classification(), images()), images(2, "query")))
    tiny.agree(*found, 1e-6)


class Spoilt(nn.Module):
    """Changes the input of a layer after the layer has read it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 4)

    def forward(self, value: Tensor) -> Tensor:
        value = value * 1
        out = self.a(value)
        value.relu_()
        return out + self.b(value)


def test_an_input_that_was_changed_in_place_is_refused() -> None:
    model = tiny.seeded(Spoilt())
    with tiny.untouched(model), pytest.raises(LayerError, match=r"input of 'a' was changed in place.*inplace=False"):
        tiny.scores(tiny.table_problem(model), tiny.table(2, "query"))


class ByName(nn.Module):
    """Hands inputs over by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 5), nn.Linear(5, 4)

    def forward(self, value: Tensor) -> Tensor:
        return self.b(input=torch.tanh(self.a(input=value)))


def test_an_input_by_keyword_is_seen() -> None:
    model, plain = tiny.seeded(ByName()), tiny.mlp()
    plain.load_state_dict({name.replace("a.", "0.").replace("b.", "2."): v for name, v in model.state_dict().items()})
    asked = tiny.table(2, "query")
    tiny.agree(tiny.scores(tiny.table_problem(model), asked), tiny.scores(tiny.table_problem(plain), asked), 1e-6)


def test_a_hook_of_the_users_that_changes_an_output_is_part_of_the_model() -> None:
    hooked, plain = tiny.mlp(), tiny.mlp()
    hooked[0].register_forward_hook(lambda module, args, output: 2 * output)
    plain.insert(1, Scale(2))
    asked, method = tiny.table(2, "query"), Identity(layers="0")
    tiny.agree(
        tiny.scores(tiny.table_problem(hooked), asked, method),
        tiny.scores(tiny.table_problem(plain), asked, method),
        1e-6,
    )


class Scale(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, value: Tensor) -> Tensor:
        return self.by * value


class Checkpointed(nn.Module):
    """Runs its layers again during the backward pass, to save memory."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, value: Tensor) -> Tensor:
        found: Tensor = torch.utils.checkpoint.checkpoint(self.body, value, use_reentrant=False)
        return found


def test_layers_that_run_again_during_the_backward_pass_count_once() -> None:
    asked = tiny.table(2, "query")
    model = Checkpointed(tiny.mlp())
    with tiny.untouched(model):
        found = tiny.scores(tiny.table_problem(model), asked)
    tiny.agree(found, tiny.scores(tiny.table_problem(), asked), 1e-5)


def test_a_copy_of_a_fitted_model_gives_the_same_scores() -> None:
    model = copy.deepcopy(tiny.fitted().problem.model)
    tiny.agree(tiny.scores(tiny.language_problem(model), tiny.queries()), tiny.scored()["influence"], 1e-6)


# --- layers that take no part -----------------------------------------------------------------------------------


class Parts(nn.Module):
    def __init__(self, use: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.use = nn.Linear(3, 4), nn.Linear(3, 4), use

    def forward(self, value: Tensor) -> Tensor:
        return self.use(self, value)


def _ignored(model: Parts, value: Tensor) -> Tensor:
    model.b(value)
    return model.a(value)


def _switched_off(model: Parts, value: Tensor) -> Tensor:
    with torch.no_grad():
        return model.a(value) + model.b(value)


def _pair(model: Parts, value: Tensor) -> Tensor:
    return model.a(value) + model.b(torch.cat([value, value]))[: len(value)]


NO_PART = {
    "ignored": (_ignored, "the output of 'b' never reaches the pseudo_loss; leave it out with layers="),
    "detached": (lambda m, x: m.a(x) + m.b(x).detach(), "the output of 'b' never reaches the pseudo_loss"),
    "all detached": (lambda m, x: (m.a(x) + m.b(x)).detach(), "the output of 'a' never reaches the pseudo_loss"),
    "without gradients": (_switched_off, "the output of 'a' never reaches the pseudo_loss"),
    "not run": (lambda m, x: m.a(x), "'b' did not run in the forward pass; leave it out with layers="),
    "another leading axis": (_pair, "'b' ran on leading axes 24 (input) and 24 (output), the batch has 12 examples"),
}


@pytest.mark.parametrize(("use", "says"), NO_PART.values(), ids=NO_PART)
def test_a_layer_that_takes_no_part_is_named(use: Any, says: str) -> None:
    model = tiny.seeded(Parts(use))
    with tiny.untouched(model), pytest.raises(LayerError, match=re.escape(says)):
        tiny.scores(tiny.table_problem(model), tiny.table(2, "query"))


def test_a_layer_that_reaches_the_loss_with_weight_zero_needs_absolute_damping() -> None:
    problem = tiny.table_problem(tiny.seeded(Parts(lambda m, x: m.a(x) + 0 * m.b(x))))
    with pytest.raises(NumericsError, match="layer 'b' is singular.*use a positive damping, absolute, or leave"):
        tiny.fit(problem)
    tiny.fit(problem, EKFAC(damping=0.1, damping_kind="absolute"))


# --- NaN and infinity -------------------------------------------------------------------------------------------


def _poisoned(name: str, value: float) -> Any:
    model = tiny.gpt2()
    model.get_parameter(name).data.view(-1)[0] = value
    return model


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["transformer.h.1.mlp.c_fc.weight", "transformer.ln_f.bias", "transformer.wpe.weight"])
def test_weights_that_are_not_finite_are_named_before_any_pass(name: str, value: float) -> None:
    model = _poisoned(name, value)
    with tiny.untouched(model), pytest.raises(NumericsError, match=f"weights of '{name}' hold NaN or infinity"):
        tiny.fit(tiny.language_problem(model))


def test_buffers_of_infinity_are_masks_but_nan_is_not() -> None:
    model = tiny.mlp()
    model.register_buffer("mask", torch.full((2, 2), -torch.inf))
    tiny.fit(tiny.table_problem(model))
    model.mask[0] = torch.nan
    with pytest.raises(NumericsError, match="'mask'"):
        tiny.fit(tiny.table_problem(model))


class Rooted(nn.Module):
    """The gradient of the root is infinite at zero, its value is not."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, value: Tensor) -> Tensor:
        return self.b(torch.sqrt(self.a(value) * 0))


def test_a_gradient_that_is_not_finite_names_layer_and_batch() -> None:
    model = tiny.seeded(Rooted())
    with tiny.untouched(model), pytest.raises(NumericsError, match=r"gradient of 'a' in the batch of 0 to 4"):
        tiny.fit(tiny.table_problem(model), batch_size=5)


def _overflowing() -> Any:
    """Finite weights whose product is not: the input of block 1's c_proj overflows."""
    model = tiny.gpt2()
    model.transformer.h[1].mlp.c_fc.weight.data *= 1e38
    model.transformer.h[1].mlp.c_fc.bias.data += 3e38
    return model


def test_an_activation_that_is_not_finite_names_layer_and_batch() -> None:
    model = _overflowing()
    with tiny.untouched(model), pytest.raises(NumericsError, match=r"'transformer.h.1.mlp.c_proj'.*batch of 0 to 5"):
        tiny.fit(tiny.language_problem(model), batch_size=4)


def test_a_loss_that_is_not_finite_names_the_example() -> None:
    class Logarithm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 4)

        def forward(self, value: Tensor) -> Tensor:
            return self.a(value) + torch.log(value[:, :1] * 0 + (value[:, :1] != 7))

    corpus = tiny.table(ids=[f"row {i}" for i in range(12)])
    corpus["input"][9, 0] = 7
    model = tiny.seeded(Logarithm())
    says = "loss is NaN or infinite.*'row 8' to 'row 11', first for 'row 9'"
    with (
        tiny.untouched(model),
        pytest.raises(NumericsError, match=says),
    ):
        tiny.fit(tiny.table_problem(model, corpus), batch_size=4)


# --- bad input --------------------------------------------------------------------------------------------------


class Stochastic(nn.Module):
    """Dropout as a number, as attention modules of transformers keep it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.attention_dropout = nn.Linear(3, 4), 0.1

    def forward(self, value: Tensor) -> Tensor:
        return nn.functional.dropout(self.a(value), self.attention_dropout, self.training)


TRAINING = {
    "dropout": nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.1)),
    "batch norm": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)),
    "instance norm": nn.Sequential(
        nn.Unflatten(1, (3, 1)), nn.InstanceNorm1d(3, track_running_stats=True), nn.Flatten(), nn.Linear(3, 4)
    ),
    "a number": Stochastic(),
    "alpha dropout": nn.Sequential(nn.Linear(3, 4), nn.AlphaDropout(0.1)),
}


@pytest.mark.parametrize("model", TRAINING.values(), ids=TRAINING)
def test_a_model_in_training_mode_is_refused(model: nn.Module) -> None:
    model.train()
    with tiny.untouched(model), pytest.raises(ModelError, match=r"in train\(\) mode .* call model.eval\(\) first"):
        tiny.fit(tiny.table_problem(model))


def test_it_is_refused_again_when_it_is_asked() -> None:
    model = tiny.gpt2()
    fitted = tiny.fit(tiny.language_problem(model))
    model.train()
    for ask in PASSES.values():
        with tiny.untouched(model), pytest.raises(ModelError, match=r"'transformer.drop'.*model.eval\(\)"):
            ask(fitted)


def test_training_mode_without_anything_random_is_no_matter() -> None:
    expected = tiny.scores(tiny.table_problem(), tiny.table(2, "query"))
    tiny.agree(tiny.scores(tiny.table_problem(tiny.mlp().train()), tiny.table(2, "query")), expected, 1e-6)


def test_a_loss_of_the_wrong_shape_is_refused() -> None:
    class Mean(CausalLM):
        def loss(self, *args: Any) -> Tensor:
            return super().loss(*args).mean()

    with pytest.raises(SettingError, match=r"Mean gave a pseudo_loss of shape \(\) for 6 examples; return one number"):
        tiny.fit(Problem(tiny.gpt2(), Mean(), tiny.corpus()))


def test_a_model_without_weights_in_memory_is_refused() -> None:
    model = tiny.mlp().to("meta")
    with pytest.raises(ModelError, match="every weight of the model is on the meta device; load its weights first"):
        tiny.fit(tiny.table_problem(model))


def test_a_pass_gives_the_quantity_of_each_example() -> None:
    problem = tiny.language_problem()
    arrays = batch(problem.corpus, np.array([1, 4]))
    seen: list[str] = []
    with Capture(problem, select_layers(problem.model)) as capture:
        value = capture.run(arrays, "loss", lambda layer, tokens: seen.append(layer.name), ids=[1, 4])
    tensors = {name: torch.tensor(a.tolist()) for name, a in arrays.items()}
    with torch.no_grad():
        tiny.agree(value, problem.task.loss(problem.task.forward(problem.model, tensors), tensors), 1e-6)
    assert seen == [layer.name for layer in select_layers(problem.model)][::-1], "each layer once, as gradients arrive"
