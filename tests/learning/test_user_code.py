"""A user's file is loaded, and what is wrong with it is told with its line."""

import sys

import pytest

from volgrad.errors import InputError, UnknownOptionError
from volgrad.learning.user_code import classes_in, is_reference, load, load_module


class Contract:
    """Stands for Study: what a class must inherit from."""


GOOD = """
import abc
from tests.learning.test_user_code import Contract

class Half(Contract, abc.ABC):
    @abc.abstractmethod
    def image(self): ...

class Whole(Half):
    def image(self): return 7

class Stranger: ...
"""


@pytest.fixture
def contract(monkeypatch):
    monkeypatch.setitem(sys.modules, "tests.learning.test_user_code", sys.modules[__name__])
    return Contract


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "good.py").write_text(GOOD)
    return tmp_path


@pytest.mark.parametrize("reference", ["good.py:Whole", "good.py", "good.py:"])
def test_a_class_is_found_by_name_or_alone(folder, contract, reference):
    assert load(reference, folder, contract)().image() == 7


def test_a_path_of_its_own_needs_no_base(folder, contract, tmp_path):
    assert load(f"{folder / 'good.py'}:Whole", tmp_path / "elsewhere", contract).__name__ == "Whole"


def test_only_what_the_file_defines_counts(folder, contract):
    assert list(classes_in(load_module(folder / "good.py"), contract)) == ["Whole"]


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("nowhere.py:Whole", "nowhere.py: no such file"),
        ("good.py:Half", "Half lacks image"),
        ("good.py:Stranger", "Stranger is no Contract"),
        ("good", "write it as file.py:Name"),
    ],
)
def test_what_is_wrong_is_said(folder, contract, reference, said):
    with pytest.raises(InputError, match=said):
        load(reference, folder, contract)


def test_a_typing_error_is_met_with_the_nearest_name(folder, contract):
    with pytest.raises(UnknownOptionError, match=r"unknown Contract 'Whol'.*'Whole'") as caught:
        load("good.py:Whol", folder, contract)
    assert caught.value.suggestion == "Whole"


def test_two_classes_need_a_name(folder, contract):
    (folder / "good.py").write_text(GOOD + "\nclass Other(Whole): ...\n")
    with pytest.raises(InputError, match=r"more than one \(Whole, Other\)"):
        load("good.py", folder, contract)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ny = 1 / 0\n", "line 2: ZeroDivisionError: division by zero"),
        ("def f(:\n", "line 1: SyntaxError"),
        ("import nothing_of_this_name\n", "line 1: ModuleNotFoundError"),
        ("def f():\n    raise KeyError('a')\n\nf()\n", "line 2: KeyError"),
    ],
)
def test_a_file_that_fails_is_told_with_its_line(tmp_path, text, said):
    (tmp_path / "bad.py").write_text(text)
    before = set(sys.modules)
    with pytest.raises(InputError, match=f"bad.py: {said}") as caught:
        load_module(tmp_path / "bad.py")
    assert caught.value.file == tmp_path / "bad.py"
    assert set(sys.modules) == before


def test_a_file_changed_is_read_again(folder, contract):
    first = load("good.py:Whole", folder, contract)
    (folder / "good.py").write_text(GOOD.replace("return 7", "return 8888"))
    assert (first().image(), load("good.py:Whole", folder, contract)().image()) == (7, 8888)


def test_references_and_names_differ():
    assert is_reference("a/b.py:C")
    assert not is_reference("implied-vol")
