"""From files and Arrow tables to chains of quotes, and from answers back to files.

`read_quotes` -> `build_chains` (or `build`, which also accounts for every row left out);
`read_query`, `read_grid` -> `locate`, `locate_grid` -> `write_predictions`, `write_grid`.
"""

from volgrad.data.chains import Built, LeftOutExpiry, RefusedChain, build, build_chains
from volgrad.data.query import Asked, Located, Unanswerable, locate, locate_grid, read_grid, read_query
from volgrad.data.read import Quotes, Source, read_quotes
from volgrad.data.reasons import Reason, Rejections, advice
from volgrad.data.screen import Limits
from volgrad.data.write import replacing, write_grid, write_predictions, write_table

__all__ = [
    "Asked",
    "Built",
    "LeftOutExpiry",
    "Limits",
    "Located",
    "Quotes",
    "Reason",
    "RefusedChain",
    "Rejections",
    "Source",
    "Unanswerable",
    "advice",
    "build",
    "build_chains",
    "locate",
    "locate_grid",
    "read_grid",
    "read_query",
    "read_quotes",
    "replacing",
    "write_grid",
    "write_predictions",
    "write_table",
]
