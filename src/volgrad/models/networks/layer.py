"""What a layer of a network is: a pure description of two verbs, whose state goes in and comes out."""

import abc

import equinox as eqx
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

__all__ = ["Layer"]


class Layer(eqx.Module):
    """A pure description of a layer of rows. `volgrad.models.networks.contract.check_layer` tests one against its laws.

    Rows come in clusters, padded to one length: `x` has the shape (clusters, rows, features) and `mask` is False where
    a row is padding. What a masked row holds never matters to another row, to the statistics or to a gradient. The
    weight of a cluster in the objective plays no part here: the next layer sees each row once, whatever it counts, and
    normalises well if the statistics are those of the rows it sees.

    Variables are learned by gradients, statistics are gathered by looking (empty where a layer has none). Both are
    pytrees of floating-point arrays; a layer computes in the precision of what it is given.
    """

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        """Variables and statistics to start from, in float32."""

    @abc.abstractmethod
    def __call__(
        self,
        variables: PyTree,
        statistics: PyTree,
        x: Float[Array, "clusters rows features"],
        mask: Bool[Array, "clusters rows"],
        training: bool,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "clusters rows outputs"], PyTree]:
        """The outputs, and the statistics after this batch, of the same structure.

        In training, outputs may depend on the whole batch and on `key`. In serving (`training` False) a cluster's
        depend on it, the variables and the statistics *given*, so that derivatives in `x` are those of a plain
        function. The statistics that come out are then for the next batch: those of a layer that follows a live stream
        have moved, all others are unchanged. Who evaluates, throws them away.
        """
