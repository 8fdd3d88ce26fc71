"""Pipelines of small real tools: what runs, what is skipped, what is said."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmwood.fileio.files import text_sha256
from mmwood.pipeline.graph import Pipeline, load_pipeline
from mmwood.pipeline.run import StageError, make_plan, run_plan
from mmwood.pipeline.stage import PipelineError

pytestmark = pytest.mark.slow

#: A tool that joins files into one, with one letter more, and counts its runs.
JOIN = """\
import argparse, pathlib, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("files", nargs="*")
parser.add_argument("--out", required=True)
parser.add_argument("--letter", default="")
parser.add_argument("--wait", type=float, default=0)
parser.add_argument("--fail", action="store_true")
args = parser.parse_args()
out = pathlib.Path(args.out)
runs = out.parent.parent / (out.parent.name + ".runs")
runs.write_text((runs.read_text() if runs.is_file() else "") + "x")
if args.fail:
    sys.exit("the file b.txt is broken")
time.sleep(args.wait)
text = "".join(pathlib.Path(name).read_text() for name in args.files)
out.write_text(text + args.letter)
"""


def join(*files: str, **fields) -> dict:
    args = [*files, "--out", "{dir}/out.txt", *fields.pop("args", ())]
    return dict(run="join.py", args=args, outputs=dict(out="{dir}/out.txt"), **fields)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tool, an input, and a pipeline a -> b -> d, a -> c -> d."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/join.py").write_text(JOIN)
    (tmp_path / "input.txt").write_text("i")
    monkeypatch.chdir(tmp_path)
    write(
        a=join("{start}", args=["--letter", "a"]),
        b=join("{a.out}", args=["--letter", "b"]),
        c=join("{a.out}", args=["--letter", "c"]),
        d=join("{b.out}", "{c.out}", args=["--letter", "d"]),
    )
    return tmp_path


def write(**stages: dict) -> None:
    Path("pipeline.py").write_text(
        f"work_dir = 'w'\ninputs = dict(start='input.txt')\nstages = {stages!r}\n"
    )


def load() -> Pipeline:
    return load_pipeline("pipeline.py", "tools")


def run(**options) -> list[str]:
    plan = {
        key: options.pop(key) for key in ("start", "until", "only") if key in options
    }
    pipeline = load()
    return run_plan(pipeline, make_plan(pipeline, **plan), **options)


def times(stage: str) -> int:
    path = Path(f"w/{stage}.runs")
    return len(path.read_text()) if path.is_file() else 0


def test_stages_run_in_order_and_only_once(place):
    assert run() == ["a", "b", "c", "d"]
    assert Path("w/d/out.txt").read_text() == "iabiacd"
    assert run() == []
    assert [times(stage) for stage in "abcd"] == [1, 1, 1, 1]


def test_a_changed_input_runs_what_depends_on_it(place):
    run()
    write(
        a=join("{start}", args=["--letter", "a"]),
        b=join("{a.out}", args=["--letter", "B"]),
        c=join("{a.out}", args=["--letter", "c"]),
        d=join("{b.out}", "{c.out}", args=["--letter", "d"]),
    )
    plan = make_plan(load())
    assert plan.reasons["b"] == "its command has changed"
    assert plan.reasons["d"] == "if b leaves something else than before"
    assert plan.done == ("a", "c")
    assert run() == ["b", "d"]
    assert Path("w/d/out.txt").read_text() == "iaBiacd"
    Path("input.txt").write_text("j")
    assert "input.txt has changed" in make_plan(load()).reasons["a"]
    assert run() == ["a", "b", "c", "d"]


def test_what_comes_out_the_same_stops_the_change(place):
    run()
    Path("w/b/out.txt").unlink()
    plan = make_plan(load())
    assert plan.reasons["b"] == "w/b/out.txt, which it made, is gone"
    assert run() == ["b"]
    assert times("d") == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (dict(start="b"), ["b", "d"]),
        (dict(only="a"), ["a"]),
        (dict(start="a", until="c"), ["a", "c"]),
        (dict(until="c"), []),
    ],
)
def test_a_choice_of_stages(place, options, expected):
    run()
    assert run(**options) == expected


def test_until_runs_what_it_needs_and_no_more(place):
    assert run(until="b") == ["a", "b"]
    with pytest.raises(PipelineError, match="stage c has to run first: it has not run"):
        run(only="d")
    with pytest.raises(PipelineError, match="no stage 'e'; there are a, b, c, d"):
        run(start="e")


def test_stages_of_which_none_needs_the_other_run_at_the_same_time(place):
    write(
        a=join("{start}", args=["--wait", "1"]),
        b=join("{start}", args=["--wait", "1"]),
    )
    run(jobs=2)
    started = [json.loads(Path(f"w/records/{s}.json").read_text()) for s in "ab"]
    # Both began before either ended, however long that took.
    begins = [
        time.mktime(time.strptime(r["started"][:19], "%Y-%m-%dT%H:%M:%S"))
        for r in started
    ]
    assert abs(begins[0] - begins[1]) <= max(r["seconds"] for r in started)


def test_a_failure_is_said_and_loses_nothing(place):
    write(
        a=join("{start}"),
        b=join("{a.out}", args=["--fail"]),
        c=join("{b.out}"),
    )
    with pytest.raises(StageError) as error:
        run()
    assert "the file b.txt is broken" in str(error.value)
    assert "b failed (exit status 1)" in str(error.value)
    assert "w/logs/b.log" in str(error.value)
    assert make_plan(load()).done == ("a",)
    write(a=join("{start}"), b=join("{a.out}"), c=join("{b.out}"))
    assert run() == ["b", "c"]


def test_a_record_says_who_made_what_from_what(place):
    run(until="b")
    record = json.loads(Path("w/records/b.json").read_text())
    assert record["stage"] == "b"
    assert record["kind"] == "run"
    assert record["command"][-4:] == ["--out", "w/b/out.txt", "--letter", "b"]
    assert list(record["inputs"]) == ["w/a/out.txt"]
    files = json.loads(Path("w/records/b.files.json").read_text())
    sha256 = text_sha256(json.dumps(files, sort_keys=True))
    assert record["outputs"] == dict(files=1, bytes=3, sha256=sha256)
    assert {"python", "torch", "mmwood"} <= set(record["versions"])
    assert record["seconds"] >= 0
    assert record["peak_memory_mb"] > 0


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (dict(a=dict(title="x")), "stages.a: expected exactly one of train, test"),
        (dict(a=dict(run="join.py", what=1)), "stages.a.what: there is no such field"),
        (dict(a=dict(run="join.py", args="x")), "stages.a.args: expected a list"),
        (dict(a=join("{nothing}")), "stages.a: 'nothing' is no input and no stage"),
        (
            dict(a=join("{b.checkpoint}"), b=join()),
            r"\{b.checkpoint\}: a run stage has dir, out",
        ),
        (dict(a=join("{b.out}"), b=join("{a.out}")), "wait for each other: a, b"),
        (
            dict(a=dict(run="nothing.py")),
            "stages.a.run: there is no file tools/nothing",
        ),
        (dict(a=dict(train="nothing.py")), "stages.a.train: there is no file nothing"),
        (dict(a=dict(test="pipeline.py")), "stages.a.checkpoint: a test stage needs"),
        ({"a b": join()}, "a stage's name is letters"),
        (dict(a=dict(train=None)), "stages.a.train: expected a text, got None"),
        (dict(a=dict(run=5)), "stages.a.run: expected a text, got 5"),
        (dict(a=dict(review=dict(b=1))), "stages.a.review: expected a text"),
        (dict(a=dict(report="x")), "stages.a.report: expected a dict, got 'x'"),
    ],
)
def test_what_is_wrong_in_a_pipeline_is_named(place, stages, message):
    write(**stages)
    with pytest.raises((PipelineError, FileNotFoundError), match=message):
        load()


def test_a_missing_package_is_said_before_anything_runs(place):
    packages = dict(json="docs", no_such_module="coco")
    write(a=join("{start}"), b=join("{a.out}", packages=packages))
    message = r"stage b needs the package no_such_module.*pip install .mmwood\[coco\]"
    with pytest.raises(StageError, match=message):
        run()
    assert times("a") == 0
    # Who does not run the stage does not need it.
    assert run(until="a") == ["a"]


def test_an_absent_input_is_named(place):
    Path("input.txt").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"inputs.start: there is no.*input.txt"
    ):
        load()


def test_a_damaged_record_costs_a_stage_no_more(place):
    run()
    Path("w/records/b.json").write_text("{")
    Path("w/records/hashes.json").write_text("[1")
    assert make_plan(load()).reasons["b"] == "it has not run"
    assert run() == ["b"]


def test_files_that_the_pipeline_did_not_make_are_not_removed(place):
    mine = Path("w/b/thesis.txt")
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    with pytest.raises(PipelineError, match=r"stages\.b: w/b exists, and w/rec"):
        run()
    assert mine.read_text() == "years of work"
    assert times("a") == 0
    mine.unlink()
    # An empty folder is in nobody's way.
    assert run() == ["a", "b", "c", "d"]


@pytest.mark.parametrize("record", ["b.json", "b.files.json"])
def test_what_the_pipeline_made_is_removed_before_the_stage_runs_again(place, record):
    run()
    Path("w/b/old.txt").write_text("of an earlier version")
    Path("w/records", record).unlink()
    assert run(only="b") == ["b"]
    assert not Path("w/b/old.txt").exists()


def test_a_link_in_place_of_a_folder_is_written_to_but_never_emptied(place):
    Path("large_disk").mkdir()
    Path("w").mkdir()
    Path("w/a").symlink_to("../large_disk")
    run()
    assert Path("large_disk/out.txt").read_text() == "ia"
    with pytest.raises(PipelineError, match=r"stages\.a: w/a is a link"):
        run(only="a")


TRAIN = """\
import argparse, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("config")
parser.add_argument("--resume", action="store_true")
parser.add_argument("--work-dir", type=pathlib.Path)
parser.add_argument("--cfg-options", nargs="+")
args = parser.parse_args()
(args.work_dir / "how.txt").write_text("resumed" if args.resume else "anew")
(args.work_dir / "epoch_1.pth").write_text("weights")
(args.work_dir / "last_checkpoint").write_text("epoch_1.pth")
"""


def test_only_what_an_interrupted_training_left_is_resumed(place):
    Path("tools/train.py").write_text(TRAIN)
    Path("config.py").write_text("")
    stage = dict(train="config.py", resume=True, options=dict(a=1))
    write(a=stage)
    run()
    how = Path("w/a/how.txt")
    assert how.read_text() == "anew"
    finished = json.loads(Path("w/records/a.json").read_text())
    for interrupted, options, expected in (
        (True, dict(a=1), "resumed"),
        (True, dict(a=2), "anew"),
        (False, dict(a=3), "anew"),
    ):
        if interrupted:
            Path("w/records/a.json").unlink()
            started = Path("w/records/a.started.json")
            started.write_text(json.dumps(finished["key"]))
        write(a={**stage, "options": options})
        assert run() == ["a"]
        assert how.read_text() == expected


def test_a_training_may_name_its_checkpoint(place):
    Path("tools/train.py").write_text(TRAIN)
    Path("config.py").write_text("")
    outputs = dict(checkpoint="{dir}/epoch_1.pth")
    write(a=dict(train="config.py", outputs=outputs), b=join("{a.checkpoint}"))
    assert run() == ["a", "b"]
    assert Path("w/b/out.txt").read_text() == "weights"


def test_what_cannot_be_read_is_the_reason_of_one_stage(place):
    write(a=join(), b=join("{start}"))
    Path("loop").mkdir()
    write(a=join(reads=["loop"]), b=join("{start}"))
    run()
    Path("loop/loop").symlink_to("loop")
    reasons = make_plan(load()).reasons
    assert list(reasons) == ["a"]
    assert "loop/loop" in reasons["a"]


COMMAND = [sys.executable, "-c"]
MAIN = """\
import signal
# Jobs in a shell's background ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from mmwood.fileio.files import text_sha256
from mmwood.pipeline.graph import load_pipeline
from mmwood.pipeline.run import make_plan, run_plan
pipeline = load_pipeline("pipeline.py", "tools")
run_plan(pipeline, make_plan(pipeline))
"""


def wait_for(path: str) -> None:
    end = time.monotonic() + 60
    while not Path(path).exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.05)


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="stages end with a killed run on Linux"
)
def test_a_killed_run_takes_its_stages_with_it_and_goes_on(place):
    stage = join("{start}", args=["--wait", "600"])
    write(a=join("{start}"), b=stage)
    with subprocess.Popen([*COMMAND, MAIN]) as process:
        wait_for("w/b.runs")
        process.send_signal(signal.SIGKILL)
    half = Path("w/b/half.txt")
    half.write_text("what it was writing")
    write(a=join("{start}"), b=join("{start}"))
    # The lock is free at once: the stage that would have waited is gone.
    assert make_plan(load()).reasons == {"b": "it was started and has not finished"}
    assert run() == ["b"]
    assert not half.exists()


def test_two_runs_in_one_folder_exclude_each_other(place, monkeypatch):
    monkeypatch.setattr("mmwood.pipeline.run._PATIENCE", 0.3)
    write(a=join("{start}", args=["--wait", "600"]))
    with subprocess.Popen([*COMMAND, MAIN]) as process:
        wait_for("w/a.runs")
        with pytest.raises(StageError, match="another run is at work in w"):
            run()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0


def test_the_same_bytes_from_another_folder(place):
    """Hashes are of what files hold, not of when they were written."""
    run()
    for name in ("input.txt", "w/a/out.txt"):
        os.utime(name)
    assert run() == []
