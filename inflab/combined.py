"""Influences put together: over checkpoints of one training, or over models of an ensemble."""
