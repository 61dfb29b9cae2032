"""Tasks: what the loss of one example is, how to sample pseudo-labels, what a query measures.

Losses are sums over tokens, never means. With a measurement f = log p and a loss L = -log p,
a positive influence means that training on the sequence raises f. Pseudo-labels come from the model's own
predictive distribution (true Fisher, GB23 section 2.2) and depend on the seed and on the example's id only, so
that batch size, order and padding leave them as they are.
"""

from inflab.tasks.base import Batch, Draws, Task
from inflab.tasks.causal_lm import CausalLM
from inflab.tasks.supervised import Classification, Regression

__all__ = ["Batch", "CausalLM", "Classification", "Draws", "Regression", "Task"]
