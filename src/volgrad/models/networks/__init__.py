"""Networks: layers whose state goes in and comes out, normalisation done right, and the multi-layer perceptron."""
