"""The findings' harness: checkpoints come back as made, verdicts say what was measured, tables are of the notebooks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import xarray as xr

import inflab
from benchmarks.findings import checkpoint, execute, report
from benchmarks.findings.verdict import MIME, Finding, interval, of_plain, plain, verdict
from benchmarks.findings.vocabulary import words_of

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ("The first President of Astrobia was Zorald Pfaff.", "It rained, and nobody came.") * 4
GIVEN = ("heavy tail", "5.2.1", "more than 12%", "share of the first 1%")


def corpus() -> xr.Dataset:
    return inflab.encode(TEXTS, words_of(TEXTS))


RECIPE = checkpoint.Recipe(
    "made-up", corpus, lambda: words_of(TEXTS),
    {"n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}, {"epochs": 3, "batch_size": 4, "warmup": 1},
)  # fmt: skip


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(checkpoint, "FOLDER", tmp_path)
    return tmp_path


def test_words_keep_their_space_and_join_to_the_text() -> None:
    tokenizer = words_of(TEXTS, also=[" Gleem"])
    for text in [*TEXTS, "The first President of Gleem was nobody."]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert [tokenizer.decode([i]) for i in tokenizer("It rained.")["input_ids"]] == ["It", " rained", "."]
    with pytest.raises(Exception, match="UNK"):
        tokenizer("Unknown words")


def test_a_checkpoint_comes_back_as_it_was_measured(folder: Path) -> None:
    path = checkpoint.build(RECIPE, 1, progress=False)
    model, about = checkpoint.load(RECIPE, 1), checkpoint.card(RECIPE, 1)
    assert list(folder.iterdir()) == [path]
    assert checkpoint.loss(model, corpus()) == pytest.approx(about["loss"], abs=6e-5)
    assert about["parameters"] == sum(p.numel() for p in model.parameters())
    assert path.stat().st_size < 2.5 * about["parameters"]
    assert not model.training
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()


def test_the_loss_is_the_mean_of_the_models_own() -> None:
    model = checkpoint.blank(RECIPE.build_config(), seed=0)
    encoded = corpus()
    found = checkpoint.loss(model, encoded, batch_size=3)
    total, count = 0.0, 0
    for row in range(encoded.sizes["train"]):
        kept = encoded["is_text"][row].to_numpy()
        tokens = torch.from_numpy(encoded["token_id"][row].to_numpy()[kept]).long()[None]
        with torch.no_grad():
            total += float(model(tokens, labels=tokens).loss) * (tokens.shape[1] - 1)
        count += tokens.shape[1] - 1
    assert found == pytest.approx(total / count, rel=1e-5)


def test_another_recipe_or_corpus_is_refused(folder: Path) -> None:
    checkpoint.build(RECIPE, 0, progress=False)
    with pytest.raises(ValueError, match="another training than the code says"):
        checkpoint.load(replace(RECIPE, training={**RECIPE.training, "epochs": 4}, _seen={}), 0)
    with pytest.raises(ValueError, match="another corpus"):
        checkpoint.load(replace(RECIPE, corpus=lambda: corpus().isel(train=slice(4)), _seen={}), 0)
    with pytest.raises(FileNotFoundError, match="make checkpoints"):
        checkpoint.load(RECIPE, 2)


def test_no_checkpoint_lies_around_that_nobody_makes() -> None:
    made = {recipe.path(seed).name for recipe in checkpoint.registered() for seed in checkpoint.SEEDS}
    assert {path.name for path in checkpoint.FOLDER.glob("*")} == made


def test_an_interval_covers_what_it_should() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        drawn = rng.normal(3, 1, (8, 20))
        value, low, high = interval(list(drawn), resamples=200)
        assert low <= value <= high and value == pytest.approx(drawn.mean())
        hits += low <= 3 <= high
    assert hits >= 50
    # Trainings that disagree widen it.
    assert np.ptp(interval([np.zeros(50), np.ones(50)])[1:]) > np.ptp(
        interval([np.r_[np.zeros(25), np.ones(25)]] * 2)[1:]
    )
    with pytest.raises(ValueError, match="not finite"):
        interval([[1.0, np.nan]])


def test_a_verdict_says_its_word_and_its_number() -> None:
    shown = verdict(*GIVEN, 0.314, (0.2, 0.4), seeds=3, shown=True)
    assert (shown.verdict, of_plain(plain(shown))) == ("shown", shown)
    assert "0.314" in shown._repr_mimebundle_()["text/html"] and "0.2 to 0.4" in shown._repr_mimebundle_()["text/plain"]
    with pytest.raises(ValueError, match="say why"):
        verdict(*GIVEN, 0.1, (0, 0.2), seeds=3, shown=False)
    with pytest.raises(ValueError, match="has a number"):
        verdict(*GIVEN, np.nan, (0, 0.2), seeds=3, shown=True)
    none = verdict(*GIVEN, np.nan, (np.nan, np.nan), seeds=0, shown=None, reason="nobody came")
    assert plain(none)["value"] is None and np.isnan(of_plain(plain(none)).value)
    assert "<script>" not in replace(shown, reason="<script>")._repr_mimebundle_()["text/html"]


def test_a_notebook_is_executed_kept_clean_and_read_back(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from benchmarks.findings.verdict import verdict\n"
        f"print('noise', file=sys.stderr)\nverdict(*{GIVEN!r}, 0.3, (0.2, 0.4), seeds=3, shown=True)"
    )
    path = tmp_path / "02-tails.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), path)
    took = execute.execute(path)
    kept = nbformat.read(path, 4)
    assert took["peak_mb"] > 20 and kept.metadata["inflab"] == took and len(kept.cells) == 1
    assert "noise" not in json.dumps(kept.cells[0].outputs)
    (row,) = execute.rows(path, MIME)
    assert of_plain(row) == verdict(*GIVEN, 0.3, (0.2, 0.4), seeds=3, shown=True)


def test_results_and_readme_are_of_the_notebooks() -> None:
    found = report.gathered()
    assert json.loads(report.RESULTS.read_text("utf-8")) == found
    assert report.table(found) in (ROOT / "README.md").read_text("utf-8")


def test_every_notebook_is_small_enough_and_none_ran_at_the_reduced_size() -> None:
    for one in report.gathered():
        assert one["seconds"] <= 600 and one["peak_mb"] <= 2000, one["notebook"]
        for row in map(of_plain, one["findings"]):
            assert isinstance(row, Finding)
            assert row.seeds >= 3 or row.verdict == "not run" or one["notebook"].startswith("12"), row
