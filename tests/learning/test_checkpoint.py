"""Laws of checkpoints: what comes back is what went in to the bit, or an error that says what is wrong."""

import errno
import json
import math
import shutil
import signal
import subprocess
import sys
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from volgrad.data.store.disk import Disk
from volgrad.errors import DamagedError, ForeignError, InputError, WorkError
from volgrad.learning.training.checkpoint import Checkpoints, read_checkpoint
from volgrad.learning.training.leaves import Leaf, assemble, named_leaves, state_sha256, strong
from volgrad.learning.training.state import State

DTYPES = ["float32", "float64", "float16", "int32", "int64", "int8", "uint32", "bool", ">f8", ">i4"]
HOST = {"best": math.inf, "schedule": [1, 2.5, None], "guard": {"rollbacks": 0, "name": "wörk"}}
IDENTITY = {"batch.size": 64, "optimizer.name": "adam", "seed": 3}


class Pair(NamedTuple):
    first: object
    second: object


def small(value):
    return {"w": np.full((2, 3), value, np.float32), "n": np.asarray(value, np.int64)}


def full_state(seed=0):
    key = jax.random.key(seed)
    variables = {"w": jax.random.normal(key, (3, 2), jnp.float32), "b": [jnp.zeros(2, jnp.float32), None]}
    moments = Pair(jnp.ones((3, 2), jnp.float64), jnp.asarray(7, jnp.int32))
    return State(variables, None, moments, key, jnp.asarray(512, jnp.int64))


def arrays():
    shapes = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
    plain = npst.arrays(st.sampled_from(DTYPES).map(np.dtype), shapes)
    return st.one_of(
        plain, plain.map(np.asfortranarray), plain.map(lambda array: array[..., ::-1] if array.ndim else array)
    )


def leaves():
    keys = st.builds(
        lambda seed, impl: jax.random.key(seed, impl=impl), st.integers(0, 9), st.sampled_from(["threefry2x32", "rbg"])
    )
    many_keys = st.integers(0, 3).map(lambda count: jax.random.split(jax.random.key(1), count))
    on_device = arrays().map(lambda array: jnp.array(array.astype(array.dtype.newbyteorder("="))))
    half = st.just(jnp.asarray([1.5, -0.0, jnp.nan], jnp.bfloat16))
    numbers = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats())
    return st.one_of(arrays(), on_device, keys, many_keys, half, numbers, st.just(np.float32(1.5)), st.none())


def trees():
    names = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
    return st.recursive(
        leaves(),
        lambda below: st.one_of(
            st.dictionaries(names, below, max_size=3),
            st.lists(below, max_size=3),
            st.tuples(below, below),
            st.builds(Pair, below, below),
        ),
        max_leaves=6,
    )


def assert_same(one, other):
    """The same structure, kinds of leaf, types and bits; byte order aside."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert isinstance(left, jax.Array) == isinstance(right, jax.Array)
        assert isinstance(left, np.ndarray) == isinstance(right, np.ndarray)
        assert type(left) is type(right) or isinstance(left, jax.Array)
    before, after = named_leaves(one), named_leaves(other)
    assert before.keys() == after.keys()
    for name, leaf in before.items():
        assert (leaf.kind, leaf.value.dtype, leaf.value.shape) == (
            after[name].kind,
            after[name].value.dtype,
            after[name].value.shape,
        )
        assert leaf.value.tobytes() == after[name].value.tobytes()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A folder that a hypothesis test empties itself."""
    return tmp_path_factory.mktemp("checkpoints")


# --- round trips ---


@settings(max_examples=40)
@given(state=trees())
def test_any_tree_comes_back_to_the_bit(scratch, state):
    shutil.rmtree(scratch)
    Checkpoints(scratch).save(5, state, {}, {})
    loaded = Checkpoints(scratch).load(state, {})
    assert_same(state, loaded.state)
    assert state_sha256(loaded.state) == state_sha256(state)
    assert loaded.samples == 5


PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(host=st.dictionaries(st.text(), PLAIN, max_size=3))
def test_the_host_side_comes_back_infinities_included(scratch, host):
    shutil.rmtree(scratch)
    file = Checkpoints(scratch).save(0, {}, host, {})
    assert repr(Checkpoints(scratch).load({}, {}).host) == repr(host)

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    json.loads(file.read_text(), parse_constant=refuse)


def test_a_whole_state_goes_on_where_it_was(tmp_path):
    state = full_state()
    Checkpoints(tmp_path).save(512, state, HOST, IDENTITY)
    loaded = Checkpoints(tmp_path).load(jax.eval_shape(full_state), IDENTITY)
    assert_same(state, loaded.state)
    assert loaded.host == HOST
    assert jax.random.key_impl(loaded.state.key) == "threefry2x32"


def test_float64_survives_in_a_process_of_single_precision(tmp_path):
    with jax.enable_x64(True):
        state = {"w": jnp.asarray(1.0 + 2.0**-50, jnp.float64)}
    Checkpoints(tmp_path).save(1, state, {}, {})
    with jax.enable_x64(False):
        loaded = Checkpoints(tmp_path).load(state, {})
    assert_same(state, loaded.state)


def test_numpy_leaves_can_be_written_to(tmp_path):
    Checkpoints(tmp_path).save(1, small(1), {}, {})
    loaded = Checkpoints(tmp_path).load(small(0), {})
    loaded.state["w"][0, 0] = 9.0
    assert loaded.state["w"].sum() == 14.0


def test_what_was_read_is_not_changed_by_who_took_a_part_of_it(tmp_path):
    Checkpoints(tmp_path).save(1, {"a": small(1)}, {}, {})
    found = read_checkpoint(tmp_path)
    found.part("['a']", small(0))["w"][:] = 9.0
    assert_same(found.part("['a']", small(0)), small(1))


def test_a_name_that_looks_like_a_path_stays_a_name(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    state = {"../../escape": np.ones(2), "/etc/x": np.zeros(1)}
    Checkpoints(folder).save(1, state, {}, {})
    assert_same(state, Checkpoints(folder).load(state, {}).state)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "000001-1.json",
        "000001-1.safetensors",
        "checkpoints",
        "run",
    ]


# --- what cannot be stored ---


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"f": jnp.tanh}, r"a \w+ at \['f'\]"),
        ({"s": "text"}, r"a str at \['s'\]"),
        ({"c": np.ones(2, np.complex128)}, r"complex128 at \['c'\]"),
        ({"o": np.array([None])}, r"object at \['o'\]"),
        ({"n": 2**70}, r"beyond 64 bits"),
        ([jnp.asarray(1.0)], r"weakly typed at \[0\].*strong"),
    ],
    ids=["function", "text", "complex", "object", "large", "weak"],
)
def test_what_would_not_come_back_is_refused_by_name(tmp_path, state, message):
    with pytest.raises(ValueError, match=message):
        Checkpoints(tmp_path).save(1, state, {}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"a": {"b": (1, 2)}}, r"host\.a\.b is a tuple"),
        ({"a": [1, np.float64(2)]}, r"host\.a\[1\] is a float64"),
        ({3: 1}, r"the key 3"),
        ({"__float__": "inf"}, "__float__"),
    ],
    ids=["tuple", "numpy", "key", "tag"],
)
def test_a_host_side_that_would_come_back_otherwise_is_refused(tmp_path, host, message):
    with pytest.raises(ValueError, match=message):
        Checkpoints(tmp_path).save(1, {}, host, {})


def test_strong_leaves_promote_as_they_would_after_a_resume(tmp_path):
    state = strong({"scale": jnp.asarray(0.5), "w": jnp.ones(2, jnp.float32)})
    Checkpoints(tmp_path).save(1, state, {}, {})
    loaded = Checkpoints(tmp_path).load(state, {}).state
    assert (state["scale"] * state["w"]).dtype == (loaded["scale"] * loaded["w"]).dtype == jnp.float64


# --- damage ---


@pytest.fixture(scope="module")
def two_saves(tmp_path_factory):
    """Files of two checkpoints, the older of ones and the newer of twos."""
    folder = tmp_path_factory.mktemp("two")
    checkpoints = Checkpoints(folder)
    for value in (1, 2):
        checkpoints.save(value * 100, small(value), HOST, IDENTITY)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def written(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return Checkpoints(folder)


def assert_falls_back(folder, files, name):
    checkpoints = written(folder, files)
    loaded = checkpoints.load(small(0), IDENTITY)
    assert loaded.samples == 100
    assert_same(loaded.state, small(1))
    assert len(checkpoints.notes) == 1
    assert "000002-200" in checkpoints.notes[0]
    assert "damaged" in checkpoints.notes[0]
    assert "falls back to 000001-100" in checkpoints.notes[0]


@pytest.mark.parametrize("ending", ["json", "safetensors"])
def test_every_flipped_bit_is_found_and_the_one_before_used(tmp_path, two_saves, ending):
    name = f"000002-200.{ending}"
    content = two_saves[name]
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        assert_falls_back(tmp_path / "run", two_saves | {name: bytes(flipped)}, name)


@pytest.mark.parametrize("ending", ["json", "safetensors"])
def test_every_truncation_is_found_and_the_one_before_used(tmp_path, two_saves, ending):
    name = f"000002-200.{ending}"
    for length in range(0, len(two_saves[name]), 7):
        assert_falls_back(tmp_path / "run", two_saves | {name: two_saves[name][:length]}, name)
    assert_falls_back(tmp_path / "run", two_saves | {name: two_saves[name] + b" "}, name)


def test_arrays_that_are_gone_are_told(tmp_path, two_saves):
    files = {name: content for name, content in two_saves.items() if name != "000002-200.safetensors"}
    assert_falls_back(tmp_path / "run", files, "000002-200.json")


def test_a_sound_manifest_under_another_name_is_not_used(tmp_path, two_saves):
    old = {f"000002-200.{ending}": two_saves[f"000001-100.{ending}"] for ending in ("json", "safetensors")}
    assert_falls_back(tmp_path / "run", two_saves | old, "000002-200.json")


def test_where_none_is_sound_that_is_said_and_no_state_given(tmp_path, two_saves):
    files = {name: content[:-1] for name, content in two_saves.items()}
    checkpoints = written(tmp_path / "run", files)
    with pytest.raises(DamagedError, match=r"no checkpoint is sound \(damaged: 000002-200, 000001-100\)"):
        checkpoints.load(small(0), IDENTITY)
    with pytest.raises(DamagedError, match="000001-100"):
        read_checkpoint(tmp_path / "run")


def test_a_damaged_one_does_not_crowd_out_sound_ones(tmp_path, two_saves):
    files = two_saves | {"000002-200.safetensors": b""}
    written(tmp_path / "run", files)
    checkpoints = Checkpoints(tmp_path / "run", keep=2)
    checkpoints.load(small(0), IDENTITY)
    checkpoints.save(150, small(3), HOST, IDENTITY)
    left = sorted(file.name for file in (tmp_path / "run").iterdir() if file.suffix == ".json")
    assert left == ["000001-100.json", "000003-150.json"]


# --- killed writers, full disks ---


class Killed(BaseException):
    """What kill -9 does, as far as files can tell: nothing after it happens."""


def stopping_at(operation, error):
    seen = iter(range(1_000_000))

    def before(what, path):
        if next(seen) == operation:
            raise error

    return Disk(before)


def three_saved(folder):
    checkpoints = Checkpoints(folder, keep=3)
    for value in (1, 2, 3):
        checkpoints.save(value * 100, small(value), {"at": value}, IDENTITY)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_killed_at_any_operation_a_save_leaves_the_old_state_or_the_new_one(tmp_path):
    files = three_saved(tmp_path / "made")
    outcomes = []
    for operation in range(100):
        folder = tmp_path / f"run{operation}"
        written(folder, files)
        try:
            Checkpoints(folder, disk=stopping_at(operation, Killed())).save(400, small(4), {"at": 4}, IDENTITY)
        except Killed:
            checkpoints = Checkpoints(folder)
            loaded = checkpoints.load(small(0), IDENTITY)
            assert loaded.samples in (300, 400)
            assert_same(loaded.state, small(loaded.samples // 100))
            assert loaded.host == {"at": loaded.samples // 100}
            assert checkpoints.notes == []
            outcomes.append(loaded.samples)
            checkpoints.save(500, small(5), {"at": 5}, IDENTITY)
            stems = [file.stem for file in folder.iterdir()]
            assert len(stems) == 6  # three pairs, no leftovers
            assert len(set(stems)) == 3
        else:
            break
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {300, 400}
    assert len(outcomes) >= 10


def test_a_full_disk_is_an_error_and_costs_no_checkpoint(tmp_path):
    files = three_saved(tmp_path / "made")
    failures = 0
    for operation in range(100):
        folder = tmp_path / f"run{operation}"
        written(folder, files)
        full = OSError(errno.ENOSPC, "No space left on device")
        told = ""
        try:
            Checkpoints(folder, disk=stopping_at(operation, full)).save(400, small(4), {"at": 4}, IDENTITY)
        except WorkError as error:
            told = str(error)
        if not told:
            break
        failures += 1
        assert "000004-400" in told
        assert "No space left" in told
        loaded = Checkpoints(folder).load(small(0), IDENTITY)
        assert_same(loaded.state, small(loaded.samples // 100))
    assert failures >= 10


WRITER = """
import sys
import numpy as np
from volgrad.learning.training.checkpoint import Checkpoints
checkpoints = Checkpoints(sys.argv[1], keep=2)
loaded = checkpoints.load({"w": np.zeros(20_000)}, {})
assert checkpoints.notes == [], checkpoints.notes
start = 0 if loaded is None else loaded.samples
for samples in range(start + 1, start + 1_000_000):
    checkpoints.save(samples, {"w": np.full(20_000, float(samples))}, {"at": samples}, {})
    print(samples, flush=True)
"""


def test_killed_with_9_while_saving_a_run_goes_on_from_a_whole_state(tmp_path):
    last = 0
    for lines in (3, 11):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as child:
            for _ in range(lines):
                last = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            last = max([last, *(int(line) for line in child.stdout.read().splitlines() if line)])
        assert child.returncode == -signal.SIGKILL
        checkpoints = Checkpoints(tmp_path)
        loaded = checkpoints.load({"w": np.zeros(20_000)}, {})
        assert checkpoints.notes == []
        assert loaded.samples in (last, last + 1)
        assert loaded.host == {"at": loaded.samples}
        assert np.all(loaded.state["w"] == loaded.samples)


# --- the last K; other people's files ---


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_last_ones_are_kept(tmp_path, keep):
    checkpoints = Checkpoints(tmp_path, keep)
    for value in range(1, 5):
        checkpoints.save(value, small(value), {}, {})
    names = sorted(file.stem for file in tmp_path.iterdir() if file.suffix == ".json")
    assert names == [f"{value:06d}-{value}" for value in range(1, 5)][-keep:]
    assert len(list(tmp_path.iterdir())) == 2 * len(names)


def test_the_newest_is_the_last_written_whatever_its_samples(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for samples in (900, 100):
        checkpoints.save(samples, small(samples), {}, {})
    assert Checkpoints(tmp_path).load(small(0), {}).samples == 100


def test_leftovers_go_and_other_files_stay(tmp_path):
    Checkpoints(tmp_path).save(1, small(1), {}, {})
    ours = [".000002-2.safetensors.tmp", ".000002-2.json.tmp", "000002-2.safetensors"]
    others = ["notes.txt", "best.safetensors", ".hidden.tmp"]
    for name in ours + others:
        (tmp_path / name).write_text("x")
    Checkpoints(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        [*others, "000001-1.json", "000001-1.safetensors"]
    )


def test_reading_removes_nothing(tmp_path):
    Checkpoints(tmp_path).save(1, small(1), {}, {})
    (tmp_path / "000002-2.safetensors").write_text("x")
    assert read_checkpoint(tmp_path).samples == 1
    assert (tmp_path / "000002-2.safetensors").exists()


def test_a_new_run_has_no_checkpoint(tmp_path):
    assert Checkpoints(tmp_path / "new").load(small(0), {}) is None
    with pytest.raises(InputError, match="no checkpoint is here"):
        read_checkpoint(tmp_path)


def test_a_file_in_place_of_the_folder_and_a_keep_of_none_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="a file is here"):
        Checkpoints(tmp_path / "file")
    with pytest.raises(InputError, match="1 checkpoint or more, not 0"):
        Checkpoints(tmp_path, keep=0)


# --- another configuration, another model ---


def test_another_configuration_is_named_key_and_values(tmp_path):
    Checkpoints(tmp_path).save(1, small(1), {}, IDENTITY)
    now = {"batch.size": 128, "seed": 3, "optimizer.beta1": 0.9}
    with pytest.raises(ForeignError) as caught:
        Checkpoints(tmp_path).load(small(0), now)
    assert "000001-1: the checkpoint was made with batch.size = 64, the recipe says 128" in str(caught.value)
    assert "optimizer.beta1 = nothing, the recipe says 0.9" in str(caught.value)
    assert "optimizer.name = 'adam', the recipe says nothing" in str(caught.value)
    assert "seed" not in str(caught.value)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (small(0) | {"v": np.ones(1)}, r"has no \['v'\]"),
        ({"w": small(0)["w"]}, r"has \['n'\], which is unknown here"),
        (small(0) | {"w": np.ones((3, 2), np.float32)}, r"has float32 2x3 at \['w'\], where float32 3x2 is due"),
        (small(0) | {"w": np.ones((2, 3))}, r"has float32 2x3 at \['w'\], where float64 2x3 is due"),
        (small(0) | {"n": 1}, r"has int64 one number at \['n'\], where int one number is due"),
        (small(0) | {"n": jax.random.key(0)}, r"where key:threefry2x32 2 is due"),
    ],
    ids=["missing", "left over", "shape", "type", "kind", "key"],
)
def test_another_model_is_named_leaf_by_leaf(tmp_path, like, message):
    Checkpoints(tmp_path).save(1, small(1), {}, IDENTITY)
    with pytest.raises(ForeignError, match=message):
        Checkpoints(tmp_path).load(like, IDENTITY)


def test_another_kind_of_random_key_is_refused(tmp_path):
    Checkpoints(tmp_path).save(1, jax.random.key(0, impl="rbg"), {}, {})
    with pytest.raises(ForeignError, match=r"key:rbg 4 at .*, where key:unsafe_rbg 4 is due"):
        Checkpoints(tmp_path).load(jax.random.key(0, impl="unsafe_rbg"), {})


def test_hundreds_of_differences_make_one_short_message():
    with pytest.raises(ForeignError, match="and 292 more") as caught:
        assemble([1.0] * 300, {}, "it")
    assert len(str(caught.value)) < 600


# --- serving ---


def test_variables_are_read_without_knowing_the_optimizer(tmp_path):
    state = full_state()
    Checkpoints(tmp_path / "checkpoints").save(512, state, HOST, IDENTITY)
    found = read_checkpoint(tmp_path)  # the RUN folder
    assert_same(found.part(".variables", jax.eval_shape(full_state).variables), state.variables)
    assert found.part(".statistics", None) is None
    assert (found.samples, found.host, found.identity) == (512, HOST, IDENTITY)
    assert np.array_equal(found.leaves[".variables['w']"].value, state.variables["w"])
    with pytest.raises(ForeignError, match=r"\.variables of checkpoint 000001-512"):
        found.part(".variables", {"w": np.ones(2)})


# --- the digest ---


def test_the_digest_does_not_depend_on_who_holds_the_numbers():
    state = full_state()
    moved = jax.tree.map(
        lambda leaf: leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.asarray(leaf), state
    )
    turned = {"b": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "a": np.arange(2, dtype=">i8")}
    assert state_sha256(moved) == state_sha256(state)
    assert state_sha256(turned) == state_sha256({"a": np.arange(2), "b": np.arange(6.0).reshape(2, 3)})


@pytest.mark.parametrize(
    "other",
    [
        {"w": np.array([0.0, -0.0])},
        {"v": np.array([0.0, 0.0])},
        {"w": np.array([[0.0, 0.0]])},
        {"w": np.array([0, 0])},
        {"w": np.array([0.0, 0.0, 0.0])},
        {"w": np.array([0.0, 0.0]), "x": np.zeros(0)},
    ],
    ids=["bit", "name", "shape", "type", "length", "leaf"],
)
def test_the_digest_tells_states_apart(other):
    assert state_sha256(other) != state_sha256({"w": np.array([0.0, 0.0])})


def test_the_digest_tells_kinds_of_random_keys_apart():
    assert state_sha256(jax.random.key(0, impl="rbg")) != state_sha256(jax.random.key(0, impl="unsafe_rbg"))


def test_leaves_of_one_path_are_refused():
    class Twins(eqx.Module):
        a: np.ndarray

    @jax.tree_util.register_pytree_with_keys_class
    class Both:
        def tree_flatten_with_keys(self):
            key = jax.tree_util.GetAttrKey("a")
            return ((key, np.ones(1)), (key, np.ones(1))), None

        @classmethod
        def tree_unflatten(cls, aux, children):
            return cls()

    assert named_leaves(Twins(np.ones(1))) == {".a": Leaf(np.ones(1), "array")}
    with pytest.raises(ValueError, match=r"both at \.a"):
        named_leaves(Both())
