"""Bars of a real Runner on a pseudo-terminal, and none where there is no terminal."""

import fcntl
import os
import re
import struct
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import partial
from threading import Thread

import pytest
from mmengine.runner import Runner
from tqdm import tqdm

pytest.importorskip("mmpretrain")

from mmwood.engine.hooks import progress_bar_hook as hook_module
from mmwood.utils.progress import progress

pytestmark = pytest.mark.slow

BAR = re.compile(r"(train|val|test|below): +(\d+)%.*?(\d+)/(\d+) \[[^\]]*")


@pytest.fixture
def runner(small_config, load, build_runner) -> Callable[[str], Runner]:
    """Two epochs of three steps, each with a validation of three."""
    tests = load(small_config).test_dataloader
    changes = dict(
        train_cfg__max_epochs=2,
        val_cfg=dict(),
        val_dataloader=tests,
        val_evaluator=[dict(type="AveragePrecision")],
        test_evaluator=[dict(type="AveragePrecision")],
        default_hooks__logger__interval=2,
        default_hooks__pseudo_label=None,
    )
    return lambda work_dir: build_runner(small_config, work_dir, **changes)


class Terminal:
    """A pseudo-terminal, and what was written to it."""

    def __init__(self) -> None:
        self._reader, writer = os.openpty()
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
        self.file = os.fdopen(writer, "w")
        self._text = b""
        # It holds some kilobytes, then writing waits for a reader.
        self._thread = Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError):  # the other end is closed
            while block := os.read(self._reader, 4096):
                self._text += block

    def close(self) -> str:
        self.file.close()
        self._thread.join()
        os.close(self._reader)
        return self._text.decode()


@contextmanager
def on_terminal(texts: list[str]) -> Iterator[None]:
    """Standard output and error are a terminal; what they are given joins ``texts``."""
    terminal = Terminal()
    try:
        # Not by a fixture: pytest sets them anew before the test's own code.
        with redirect_stdout(terminal.file), redirect_stderr(terminal.file):
            yield
    finally:
        texts.append(terminal.close())


def test_training_validation_and_test_on_a_terminal(runner, monkeypatch):
    # So that every step is drawn, however quick it is.
    monkeypatch.setattr(tqdm, "monitor_interval", 0)
    monkeypatch.setattr(hook_module, "progress", partial(progress, mininterval=0))
    texts = []
    with on_terminal(texts):
        runner("bars").train()
    (text,) = texts
    steps = [(kind, int(n), int(total)) for kind, _, n, total in BAR.findall(text)]
    train = [n for kind, n, total in steps if kind == "train" and total == 6]
    assert train == sorted(train)
    assert {0, 3, 6} <= set(train)
    assert {("val", n, 3) for n in range(4)} <= set(steps)
    # A line of the log begins where the cursor has gone to the start of a line, and
    # below it the bars are drawn again.
    lines = [line for line in text.split("\n") if "mmengine - " in line]
    assert any("Epoch(val)" in line for line in lines)
    for line in lines:
        assert BAR.sub("", line.rpartition("\r")[2] or line.rstrip("\r")).strip()
        assert not BAR.search(line.rstrip("\r").rpartition("\r")[2])
    # What remains is the bar of the training; that of the validation is gone.
    assert BAR.findall(text.rstrip().rpartition("\r")[2])[0][0] == "train"

    with on_terminal(texts):
        runner("test").test()
    steps = [(kind, int(n)) for kind, _, n, _ in BAR.findall(texts[1])]
    assert steps[0] == ("test", 0)
    assert steps[-1] == ("test", 3)


def test_a_bar_below_another_goes_away():
    texts = []
    with on_terminal(texts):
        for _ in progress(range(2), "train", mininterval=0):
            for _ in progress(range(3), "below", mininterval=0):
                pass
    (text,) = texts
    assert "below: 100%" in text
    assert "below" not in text.rpartition("train")[2]
    # The cursor ends one line further down: one bar stays.
    assert text.count("\n") - text.count("\x1b[A") == 1


def test_no_bar_without_a_terminal(runner, capsys):
    quiet = runner("quiet")
    quiet.train()
    quiet.test()
    assert list(progress([1, 2], "items")) == [1, 2]
    assert not BAR.search(capsys.readouterr().err)
