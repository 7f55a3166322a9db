"""Which rows of a cluster are drawn when it is visited.

Where m rows are drawn of n > m, its rows stand in a keyed pseudo-random order, of which each epoch takes the next m,
round and round: after `ceil(n / m)` epochs every row was drawn. After `n / gcd(n, m)` epochs every row was drawn as
often as any other, and the order is drawn anew. The key is hashed from (seed, cluster, how often it was drawn anew). A
cluster with m rows or fewer is taken whole, in stored order: the order of rows has no effect on their mean.
"""

import numpy as np
from jaxtyping import Int64

from volgrad.learning.batching.permutation import digest_key, mixed_key, permute_each

__all__ = ["RowDraws"]


class RowDraws:
    """Draws of `rows` rows from clusters of any size.

    >>> draws = RowDraws(seed=3, rows=2)
    >>> cluster, size = np.array([7]), np.array([6])
    >>> sorted(int(row) for epoch in range(3) for row in draws.offsets(cluster, size, epoch)[0])
    [0, 1, 2, 3, 4, 5]
    """

    def __init__(self, seed: int, rows: int) -> None:
        self.rows = rows
        self._key = digest_key("rows", seed, rows)

    def offsets(
        self, cluster: Int64[np.ndarray, " clusters"], size: Int64[np.ndarray, " clusters"], epoch: int
    ) -> Int64[np.ndarray, "clusters rows"]:
        """Rows that are drawn in an epoch, counted from the cluster's first; places beyond its last row name that.

        Args:
            cluster: numbers of the clusters.
            size: rows of each.
            epoch: which visit this is.
        """
        found = np.minimum(np.arange(self.rows)[None, :], size[:, None] - 1)
        large = np.flatnonzero(size > self.rows)
        if not large.size:
            return found
        n = size[large]
        period = n // np.gcd(n, self.rows)
        begin = (epoch % period) * self.rows % n
        places = (begin[:, None] + np.arange(self.rows)[None, :]) % n[:, None]
        key = mixed_key(self._key, cluster[large], epoch // period)
        found[large] = permute_each(places, n, key)
        return found
