"""The surface network: a prior for the local-volatility surface that is learned, and a memory of earlier chains."""

from volgrad.tasks.surface_net.kind import SurfaceNet
from volgrad.tasks.surface_net.weights import Weights, load_weights, shipped, silent

__all__ = ["SurfaceNet", "Weights", "load_weights", "shipped", "silent"]
