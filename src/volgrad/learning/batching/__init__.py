"""How data become mini-batches."""
