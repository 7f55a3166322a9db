"""Mini-batch learning that knows nothing of markets: batches, optimisers, the step, the loop around it."""
