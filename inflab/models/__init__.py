"""Models to try things on: tiny real `transformers` models trained by seed, SmolLM2 from its package, local folders.

`names()` and `table()` say what there is, `load(name)` gives model and tokenizer, `train` trains one of your own.
No network, no pickle; trained models are cached as safetensors under a fingerprint of all that made them.
"""

from inflab.models.loading import load, names, table
from inflab.models.training import Trained, train

__all__ = ["Trained", "load", "names", "table", "train"]
