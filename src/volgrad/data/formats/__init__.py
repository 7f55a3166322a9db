"""Decoders of everything that is no plain table of quotes: bytes or foreign columns -> `Piece`s.

`decode` reads JSON documents, JSON lines and recorded sessions; `tabular` reads tables with the columns of a side
series or of another exchange; `side.SideCanonicaliser` brings side series into canonical columns. What a source is
follows from its content; a file's name is asked only for the underlying of bars, and that is told.
"""

from volgrad.data.formats.decoding import decode
from volgrad.data.formats.readers import TableReader
from volgrad.data.formats.session import SessionDecoder
from volgrad.data.formats.tables import tabular

__all__ = ["SessionDecoder", "TableReader", "decode", "tabular"]
