"""Volatility surfaces: what a model must say, and the models that say it."""
