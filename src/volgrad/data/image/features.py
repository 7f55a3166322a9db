"""What the columns of a training image are."""

from typing import Any, NamedTuple

__all__ = ["Feature"]


class Feature(NamedTuple):
    """A column of an image.

    name: unique within the image.
    unit: of its values, such as "years" or "1" for pure numbers.
    version: goes up when the same name is computed in another way; images of another version are refused.

    >>> Feature("log_moneyness", "1").told()
    {'name': 'log_moneyness', 'unit': '1', 'version': 1}
    """

    name: str
    unit: str
    version: int = 1

    def told(self) -> dict[str, Any]:
        """As it stands in `image.json`."""
        return self._asdict()
