"""Side series in canonical columns: trades, bars of the underlying, volatility indices.

>>> from datetime import datetime, timezone
>>> from volgrad.data.schema import SourceKind
>>> ticks = pa.table({"ts": [datetime(2026, 1, 1, tzinfo=timezone.utc)], "ccy": ["BTC"], "close": [44.87]})
>>> work = SideCanonicaliser("dvol")
>>> done = work.add(Piece(Dataset.VOLATILITY_INDEX, SourceKind.SESSION, ticks))
>>> work.finish()
>>> done.table["close"].to_pylist(), done.table["open"].to_pylist(), done.reason.tolist()
([0.4487], [None], [0])
"""

from functools import partial

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from volgrad.data import columns
from volgrad.data.canonical import Canonical
from volgrad.data.contracts import Contracts
from volgrad.data.formats.windows import FEW, Windows, check_premiums
from volgrad.data.piece import Piece
from volgrad.data.reasons import Reason
from volgrad.data.schema import Column, ColumnKind, Dataset, SourceKind
from volgrad.data.stamps import stamps
from volgrad.data.units import as_fraction, bad_values, check_median, usable_volatility
from volgrad.errors import SchemaError

__all__ = ["SIDE_COLUMNS", "SideCanonicaliser"]

_STAMP, _TEXT, _NUMBER = ColumnKind.STAMP, ColumnKind.TEXT, ColumnKind.NUMBER
_BAR = ("open", "high", "low", "close")

#: Columns of each side series. Volatilities are fractions; `price` and `mark` of trades in the unit of the option
#: (coin or dollars, see `settlement`), `amount` and `volume` in the source's unit, `index_usd` and bars in dollars.
SIDE_COLUMNS: dict[Dataset, tuple[Column, ...]] = {
    Dataset.TRADES: (
        Column("ts", _STAMP, True),
        Column("ccy", _TEXT, True),
        Column("expiry", _STAMP, True),
        Column("strike", _NUMBER, True),
        Column("cp", _TEXT, True),
        Column("price", _NUMBER, True),
        Column("amount", _NUMBER),
        Column("direction", _TEXT),
        Column("iv", _NUMBER),
        Column("index_usd", _NUMBER),
        Column("mark", _NUMBER),
        Column("trade_id", _TEXT, True),
        Column("settlement", _TEXT),
    ),
    Dataset.BARS: (
        Column("ts", _STAMP, True),
        Column("ccy", _TEXT, True),
        Column("symbol", _TEXT),
        *(Column(name, _NUMBER, name == "close") for name in _BAR),
        Column("volume", _NUMBER),
    ),
    Dataset.VOLATILITY_INDEX: (
        Column("ts", _STAMP, True),
        Column("ccy", _TEXT, True),
        *(Column(name, _NUMBER, name == "close") for name in _BAR),
    ),
}
_VOLATILITIES = {Dataset.TRADES: ("iv",), Dataset.BARS: (), Dataset.VOLATILITY_INDEX: _BAR}
_PRICES = {Dataset.TRADES: ("price",), Dataset.BARS: _BAR, Dataset.VOLATILITY_INDEX: _BAR}


class SideCanonicaliser:
    """Brings the side series of one source into canonical columns, piece by piece.

    `finish` says whether the whole could be what it claims; until it has been called nothing of the source may be
    published.
    """

    def __init__(self, source: str) -> None:
        """Begin before the first piece."""
        self._source = source
        self._volatilities: dict[tuple[Dataset, SourceKind, str], Windows] = {}
        self._premiums = Windows(lambda price_coin: check_premiums(price_coin, source), FEW)

    def add(self, piece: Piece) -> Canonical:
        """The next rows; all columns of their series are there, empty where nothing is known.

        Raises:
            SchemaError: a column that it must have is missing, or of a type that cannot be read.
            UnitsError: as `finish`.
        """
        work = _Side(piece, self._source)
        if piece.dataset is Dataset.TRADES and "instrument" in piece.table.column_names:
            work.contracts()
        for column in SIDE_COLUMNS[piece.dataset]:
            if column.name not in work.out:
                work.take(column)
        work.check_keys()
        work.check_prices()
        for name in _VOLATILITIES[piece.dataset]:
            self._of_column(piece, name).add(work.speaking(name))
        if piece.dataset is Dataset.TRADES:
            self._premiums.add(work.inverse_calls())
        used = {column.name for column in SIDE_COLUMNS[piece.dataset]} | {"instrument", "exchange"}
        return Canonical(
            table=pa.table({column.name: work.out[column.name] for column in SIDE_COLUMNS[piece.dataset]}),
            reason=work.reason,
            kind=piece.kind,
            extra=(*piece.extra, *(name for name in piece.table.column_names if name not in used)),
            notes=tuple(dict.fromkeys([*piece.notes, *work.notes])),
            bad_values=work.bad,
            dataset=piece.dataset,
            malformed=piece.malformed,
        )

    def finish(self) -> None:
        """Judge what can only be judged over all rows.

        Raises:
            UnitsError: volatilities cannot be in the unit of their kind of source: their median lies outside 3 % to
                500 % (so that a price is never taken for a volatility); or trades of inverse options are in dollars.
        """
        for windows in self._volatilities.values():
            windows.finish()
        self._premiums.finish()

    def _of_column(self, piece: Piece, name: str) -> Windows:
        key = (piece.dataset, piece.kind, name)
        if key not in self._volatilities:
            # an index is never in the wings: one value of it says its unit
            least = FEW if piece.dataset is Dataset.TRADES else 1
            judge = partial(check_median, column=name, source=self._source, kind=piece.kind)
            self._volatilities[key] = Windows(judge, least)
        return self._volatilities[key]


class _Side:
    """The columns of a piece while they are collected."""

    def __init__(self, piece: Piece, source: str) -> None:
        self.piece, self.source = piece, source
        self.rows = piece.table.num_rows
        self.out: dict[str, pa.ChunkedArray | pa.Array] = {}
        self.values: dict[str, Float[np.ndarray, " rows"]] = {}
        self.reason: Int[np.ndarray, " rows"] = np.zeros(self.rows, np.int8)
        self.notes: list[str] = []
        self.bad: dict[str, dict[str, int]] = {}

    def flag(self, mask: Bool[np.ndarray, " rows"], reason: Reason) -> None:
        """Give `reason` to the rows of `mask` that have none yet."""
        np.copyto(self.reason, np.int8(reason), where=(self.reason == 0) & mask)

    def contracts(self) -> None:
        """What the instruments' names say."""
        rows = Contracts().of(columns.text(self.piece.table["instrument"], "instrument", self.source))
        if "exchange" in self.piece.table.column_names:
            venues = columns.text(self.piece.table["exchange"], "exchange", self.source)
            names, codes = columns.text_codes(venues)
            elsewhere = np.array([name != "deribit" for name in names] + [True])[codes]
            self.flag(elsewhere, Reason.BAD_INSTRUMENT)
        no_option = ~rows.is_option
        self.flag(rows.unreadable, Reason.BAD_INSTRUMENT)
        self.flag(no_option, Reason.NOT_AN_OPTION)
        self.out["ccy"] = rows.underlyings
        self.out["expiry"] = pa.array(rows.take("expiry_us"), mask=no_option).cast(columns.STAMP_TYPE)
        self.out["strike"] = pa.array(rows.take("strike_usd"), mask=no_option)
        self.out["cp"] = columns.coded(["C", "P"], ~rows.take("is_call"), no_option)
        self.out["settlement"] = columns.coded(["inverse", "linear"], rows.take("is_linear"), no_option)

    def take(self, column: Column) -> None:
        """Read a column; all null where the piece has none."""
        name, table = column.name, self.piece.table
        if name not in table.column_names:
            if column.required:
                raise SchemaError(
                    f"{self.source}: {self.piece.dataset.value} need the column {name}; "
                    f"found: {', '.join(table.column_names)}.",
                    file=self.source,
                )
            raw = pa.chunked_array([pa.nulls(self.rows)])
        else:
            raw = table[name]
        if column.kind is _TEXT:
            self.out[name] = columns.text(raw, name, self.source)
        elif column.kind is _STAMP:
            read = stamps(raw, name, self.source)
            self.out[name] = read.column
            self.notes += [read.note] if read.note else []
        else:
            self._number(name, raw)

    def _number(self, name: str, raw: pa.ChunkedArray) -> None:
        read = columns.numbers(raw, name, self.source)
        if read.bad is not None:
            self.flag(read.bad, Reason.BAD_NUMBER)
        values = read.values
        if name in _VOLATILITIES[self.piece.dataset]:
            values = as_fraction(values, self.piece.kind)
            if wrong := bad_values(values, read.nulls | np.isnan(values)):
                self.bad[name] = wrong
        self.values[name] = values
        self.out[name] = pa.array(values, pa.float64(), mask=np.isnan(values))

    def check_keys(self) -> None:
        """Flag rows without a time, an underlying or a contract."""
        self.flag(columns.missing(self.out["ts"]), Reason.BAD_TIMESTAMP)
        self.flag(columns.missing(self.out["ccy"]), Reason.BAD_UNDERLYING)
        if self.piece.dataset is Dataset.TRADES:
            self.flag(columns.missing(self.out["expiry"]), Reason.BAD_EXPIRY)
            self.flag(columns.missing(self.out["strike"]), Reason.BAD_STRIKE)
            self.flag(columns.missing(self.out["cp"]), Reason.BAD_TYPE)

    def check_prices(self) -> None:
        """Flag rows without a price, and bars that contradict themselves."""
        dataset = self.piece.dataset
        for name in _PRICES[dataset]:
            values = self.values[name]
            missing = np.isnan(values) & (name not in ("price", "close"))
            self.flag(~(missing | ((values > 0) & (values < np.inf))), Reason.BAD_PRICE)
        if dataset is not Dataset.TRADES:
            self.flag(self.values["low"] > self.values["high"], Reason.BAD_PRICE)

    def speaking(self, name: str) -> Float[np.ndarray, " some"]:
        """The volatilities that may speak for the unit of their column."""
        values = self.values[name]
        # an index has no cap: all of it speaks, so that a price of 60,000 is refused and not passed over
        speaks = (values > 0) & (values < np.inf)
        if self.piece.dataset is Dataset.TRADES:
            speaks = usable_volatility(values, self.piece.kind)
        return values[speaks & (self.reason == 0)]

    def inverse_calls(self) -> Float[np.ndarray, " some"]:
        """Prices of the trades of calls that are settled in the coin, which is what is meant where nothing says so."""
        call, linear = columns.holds(self.out["cp"], "C"), columns.holds(self.out["settlement"], "linear")
        return self.values["price"][call & ~linear & (self.reason == 0)]
