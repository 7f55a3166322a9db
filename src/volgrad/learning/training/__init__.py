"""How mini-batches become a fitted model."""
