"""What quotes are worth for learning: how alike those of a snapshot are, how long the market remembers, how long a
quote stands.
"""

from volgrad.tasks.description.describe import PARTS, Batching, Description, Neighbours, describe

__all__ = ["PARTS", "Batching", "Description", "Neighbours", "describe"]
