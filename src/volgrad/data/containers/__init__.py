"""How bytes become Arrow tables, block by block: Parquet, Arrow IPC, text of cells, tables in memory.

The container is told by first bytes, never by a file's name. `open_container` gives the column names at once and
the rows as they are asked for; what is none of these (JSON, recordings) comes back as its unpacked bytes.
"""

from volgrad.data.containers.block import Block, Container, Pick
from volgrad.data.containers.opening import Opened, in_memory, is_table, open_container
from volgrad.data.containers.packed import LARGEST_LINE

__all__ = ["LARGEST_LINE", "Block", "Container", "Opened", "Pick", "in_memory", "is_table", "open_container"]
