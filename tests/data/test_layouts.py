"""Layouts: each kind is recognised by its columns in any order, and names what it lacks."""

import random

import pyarrow as pa
import pytest

from volgrad.data import layouts
from volgrad.data.layouts import Layout, canonical_layout, recognise
from volgrad.data.schema import CANONICAL, REQUIRED, SourceKind
from volgrad.errors import ForeignError, SchemaError

LAYOUTS = {layout.kind: layout for layout in vars(layouts).values() if isinstance(layout, Layout)}
TABULAR = LAYOUTS | {SourceKind.CANONICAL: canonical_layout(SourceKind.CANONICAL)}


@pytest.mark.parametrize("kind", TABULAR)
def test_a_kind_is_known_by_its_columns_in_any_order(kind):
    names = [*TABULAR[kind].required, "local_timestamp", "colour"]
    random.Random(1).shuffle(names)
    assert recognise(names, "q").kind is kind


@pytest.mark.parametrize("kind", TABULAR)
def test_every_layout_gives_all_that_a_quote_must_have(kind):
    layout = TABULAR[kind]
    from_the_name = {"ccy", "expiry", "strike", "cp"} if layout.named else set()
    assert set(REQUIRED) <= set(layout.columns) | from_the_name
    assert set(layout.columns) <= {column.name for column in CANONICAL}
    assert set(layout.cell_types) == set(layout.names)
    assert set(layout.epoch) <= set(layout.columns)


@pytest.mark.parametrize("kind", TABULAR)
def test_a_missing_column_is_named(kind):
    names = list(TABULAR[kind].required)
    for lacking in names:
        if lacking in ("exchange", "symbol", "instrument_name", "timestamp", "timestamp_ms"):
            continue  # without it the table is another kind, or none
        with pytest.raises(SchemaError, match=lacking):
            recognise(
                [name for name in names if name != lacking] + ["local_timestamp"] * (kind is SourceKind.TARDIS), "q"
            )


def test_little_in_common_is_foreign():
    for names in (
        ["a", "b"],
        ["open", "close"],
        ["exchange", "symbol", "timestamp", "local_timestamp", "side", "price"],
    ):
        with pytest.raises(ForeignError, match=r"q: .* needs the columns"):
            recognise(names, "q")


def test_text_cells_have_the_types_that_the_layout_says():
    types = recognise([*LAYOUTS[SourceKind.TARDIS].required, "local_timestamp"], "q").cell_types
    assert (types["timestamp"], types["strike_price"]) == (pa.int64(), pa.float64())
    assert pa.types.is_dictionary(types["symbol"])
    assert pa.types.is_dictionary(recognise(REQUIRED, "q").cell_types["ts"])
