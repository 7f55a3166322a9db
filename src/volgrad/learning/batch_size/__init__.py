"""What a batch size costs and brings: measured on this machine, this model and these data."""
