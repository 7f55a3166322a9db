"""An append-only store of canonical tables, by dataset, underlying and day, that refuses rather than lies.

What it promises, whatever is cut short, flipped, deleted, swapped or killed:

* A row comes out as it went in, or not at all. A part is parsed only from bytes whose SHA-256 is the manifest's; a
  manifest is used only if its own SHA-256 holds. A damaged part is named with the sources to ingest again, the others
  are read; a damaged manifest is replaced by its copy, or by the generation before, and that is told.
* A source is visible whole or not at all, and a generation at once. Until then the one before is what readers see.
* The same row again is no new row (`identity`), in whatever order, block or source it comes.
* One writer at a time; its lock dies with it. Readers need no lock.

Files are named in `layout`. From the manifest to the rows: `manifest`, `current`, `parts`, `store`. From the rows to
the manifest: `rows`, `identity`, `known`, `pending`, `shelf`, `ledger`, `writer`; every file operation is in `disk`.
"""

from volgrad.data.store.disk import Disk
from volgrad.data.store.facts import Damaged, Extent, Scanned, SourceFacts
from volgrad.data.store.layout import Partition
from volgrad.data.store.manifest import SourceEntry, is_store
from volgrad.data.store.shelf import Limits
from volgrad.data.store.store import Store
from volgrad.data.store.writer import Added, Writer

__all__ = [
    "Added",
    "Damaged",
    "Disk",
    "Extent",
    "Limits",
    "Partition",
    "Scanned",
    "SourceEntry",
    "SourceFacts",
    "Store",
    "Writer",
    "is_store",
]
