"""How scripts end that fail."""

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest
from mmengine.registry import MODELS
from torch.utils.data import DataLoader

from mmwood.utils.check import one_of
from mmwood.utils.command import png_path, run
from mmwood.utils.require import require


@pytest.fixture(autouse=True)
def as_script(monkeypatch):
    """This file is the script that runs."""
    monkeypatch.setattr(sys, "argv", [__file__])


class Broken:
    def __init__(self):
        one_of("void", "c", ("a", "b"))


class Items:
    """A data set that cannot give its items."""

    def __init__(self, item):
        self.item = item

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.item()


def load(item):
    list(DataLoader(Items(item), num_workers=2))


def build(**config):
    if "Broken" not in MODELS.module_dict:
        MODELS.register_module(module=Broken)
    MODELS.build(config)


def refuse():
    raise ValueError("the list is empty")


def handle():
    try:
        Path("/no/such/file").read_bytes()
    except OSError:
        return {}["key"]


def unpack():
    _one, _two = range(3)


def say_nothing():
    raise ValueError


def connect():
    urlopen("http://127.0.0.1:9/weights.pth")


def wrap():
    try:
        Path("/no/such/file").read_bytes()
    except OSError as error:
        raise RuntimeError("the stage failed") from error


NO_FILE = "[Errno 2] No such file or directory: '/no/such/file'"
NO_VALUE = "void must be 'a' or 'b', but is 'c'"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("main", "message"),
    [
        (refuse, "the list is empty"),
        (Broken, NO_VALUE),
        (partial(build, type="Broken"), NO_VALUE),
        (partial(load, Broken), NO_VALUE),
        (Path("/no/such/file").open, NO_FILE),
        (partial(load, Path("/no/such/file").open), NO_FILE),
        (
            partial(require, "no_such_package", "export", "an export"),
            "an export needs no_such_package (No module named 'no_such_package'): "
            'run `pip install "mmwood[export]"`.',
        ),
        (
            partial(build, type="Broken", colour=1),
            "Broken.__init__() got an unexpected keyword argument 'colour'",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line(main, message):
    with pytest.raises(SystemExit) as end:
        run(main)
    assert end.value.code == message


def test_a_class_that_does_not_exist_is_named():
    with pytest.raises(SystemExit, match=r"Brokn is not in the mm\w+::model registr"):
        run(partial(build, type="Brokn"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("main", "kind"),
    [
        (partial(json.loads, "{"), json.JSONDecodeError),
        (partial(load, {}.popitem), KeyError),
        # What was being handled is not its cause.
        (handle, KeyError),
        (unpack, ValueError),
        (partial(load, unpack), ValueError),
        (say_nothing, ValueError),
        (connect, OSError),
        (wrap, RuntimeError),
    ],
)
def test_a_fault_of_the_program_keeps_its_traceback(main, kind):
    with pytest.raises(kind):
        run(main)


def test_only_png_figures():
    assert png_path("a/b.png") == Path("a/b.png")
    with pytest.raises(argparse.ArgumentTypeError, match=r"'b\.json'"):
        png_path("b.json")
