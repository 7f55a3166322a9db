"""Every kind of surface survives its file to the last bit."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.discovery import concrete_subclasses
from tests.models.examples import TS_US, YEARS, essvi_surface, local_vol_surface, ssvi_surface, svi_surface
from volgrad.errors import InputError
from volgrad.models.slices import SlicedSurface
from volgrad.models.ssvi_surface import EssviSurface, SsviSurface
from volgrad.models.surface import ListedSurface
from volgrad.models.svi import SviSurface
from volgrad.tasks.surface_file import Entry
from volgrad.tasks.surfaces import Surfaces, load_surfaces

FACTORIES = {
    SlicedSurface: lambda: local_vol_surface(0.6, 3, 0.3),
    EssviSurface: lambda: essvi_surface(1),
    SsviSurface: lambda: ssvi_surface(1),
    SviSurface: svi_surface,
}
K, TIMES = np.linspace(-1.0, 1.0, 21)[None, :], np.array([0.001, 0.01, 0.1, 0.5, 1.5])[:, None]
STAMPS = TS_US + np.rint(YEARS * 365.0 * 86_400e6).astype(np.int64)


@pytest.mark.parametrize("kind", concrete_subclasses(ListedSurface), ids=lambda kind: kind.__name__)
def test_a_file_gives_back_the_same_surface(kind, tmp_path):
    assert kind in FACTORIES, f"give {kind.__qualname__} a factory in {__name__}"
    surface = FACTORIES[kind]()
    Surfaces([Entry(TS_US, "BTC", None, "inverse", surface, STAMPS)]).write(tmp_path / "s.parquet")
    back = load_surfaces(tmp_path / "s.parquet").surface(TS_US, "BTC")
    assert type(back) is kind
    np.testing.assert_array_equal(back.total_variance(K, TIMES), surface.total_variance(K, TIMES))
    np.testing.assert_array_equal(back.forward(YEARS), surface.forward(YEARS))
    np.testing.assert_array_equal(back.quoted, surface.quoted)


def test_kinds_may_stand_in_one_file(tmp_path):
    surfaces = [FACTORIES[kind]() for kind in FACTORIES]
    entries = [Entry(TS_US, "BTC", str(place), "inverse", one, STAMPS) for place, one in enumerate(surfaces)]
    Surfaces(entries).write(tmp_path / "s.parquet")
    back = load_surfaces(tmp_path / "s.parquet")
    assert [type(back.surface(TS_US, "BTC", str(place))) for place in range(len(entries))] == list(FACTORIES)
    assert set(pq.read_table(tmp_path / "s.parquet")["model"].to_pylist()) == {"local-vol", "essvi", "ssvi", "svi"}


def test_a_model_of_another_version_is_refused_by_name(tmp_path):
    Surfaces([Entry(TS_US, "BTC", None, "inverse", essvi_surface(), STAMPS)]).write(tmp_path / "s.parquet")
    table = pq.read_table(tmp_path / "s.parquet")
    place = table.schema.get_field_index("model")
    strange = table.set_column(place, "model", [["heston"] * table.num_rows]).cast(table.schema)
    pq.write_table(strange, tmp_path / "s.parquet")
    with pytest.raises(InputError, match="surfaces of model 'heston'"):
        load_surfaces(tmp_path / "s.parquet")
