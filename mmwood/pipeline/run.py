"""Run the stages of a pipeline, each as a process of its own."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from multiprocessing.process import BaseProcess
from pathlib import Path

from mmwood.pipeline.graph import Pipeline
from mmwood.pipeline.kinds import Review
from mmwood.pipeline.launch import can_fork, fork_tool
from mmwood.pipeline.progress import Progress
from mmwood.pipeline.records import machine, now, versions
from mmwood.pipeline.stage import PipelineError, Stage
from mmwood.utils.locations import tool_command
from mmwood.utils.processes import end_with_parent

#: Seconds between looks at what the running stages print.
_TICK = 0.1
#: Seconds that what a killed run left may take to end.
_PATIENCE = 30


class StageError(RuntimeError):
    """A stage failed, or waits for a person."""


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
        reasons: Stage -> why it would run, in order. A stage that only follows another
            one is looked at again when that has run: where it left the same, the stage
            is skipped.
        forced: Stages that run whether or not they are up to date.
        done: Stages that are up to date.
    """

    reasons: dict[str, str]
    forced: frozenset[str]
    done: tuple[str, ...]


def make_plan(
    pipeline: Pipeline,
    start: str | None = None,
    until: str | None = None,
    only: str | None = None,
) -> Plan:
    """Which stages have to run, and why.

    Args:
        pipeline: The pipeline.
        start: Run this stage and all that need it again (``--from``).
        until: Run no stage that this one does not need.
        only: Run this stage again and no other one.

    Raises:
        PipelineError: There is no such stage, or one that is needed is not finished.
    """
    for name in filter(None, (start, until, only)):
        if name not in pipeline.stages:
            raise PipelineError(
                f"there is no stage {name!r}; there are {', '.join(pipeline.stages)}"
            )
    wanted = _upstream(pipeline, until) if until else set(pipeline.stages)
    forced = {only} if only else set()
    if start:
        forced |= {s for s in wanted if start in _upstream(pipeline, s)}
        wanted &= forced
        if not wanted:
            raise PipelineError(f"--until {until} does not need --from {start}")
    if only:
        wanted = {only}
    reasons, done = {}, []
    for name, stage in pipeline.stages.items():
        before = next((need for need in pipeline.needs[name] if need in reasons), None)
        state = stage.state(pipeline)
        if name not in wanted:
            # --until's stages are whole by themselves; --from and --only need others.
            needed = any(name in pipeline.needs[other] for other in wanted)
            if needed and state.name in ("new", "unfinished", "waiting"):
                raise PipelineError(f"stage {name} has to run first: {state.reason}")
            continue
        if name in forced:
            reasons[name] = "asked for" if name in (only, start) else f"after {start}"
        elif state.name != "done":
            reasons[name] = state.reason
        elif before is not None:
            reasons[name] = f"if {before} leaves something else than before"
        else:
            done.append(name)
    return Plan(reasons, frozenset(forced), tuple(done))


def run_plan(
    pipeline: Pipeline,
    plan: Plan,
    gpus: int = 1,
    jobs: int = 1,
    auto: bool = False,
    reviewed: bool = False,
    fork: bool = False,
) -> list[str]:
    """Run a plan's stages as soon as those that they need are done.

    Args:
        pipeline: The pipeline.
        plan: What to run.
        gpus: Processes of a stage, one a GPU.
        jobs: Stages that run at the same time.
        auto: Let reviews decide by their ``rules``.
        reviewed: Take reviews as they are, though rows are unseen.
        fork: Whether stages may be forked from this process, which must have no other
            thread (:mod:`mmwood.pipeline.launch`).

    Raises:
        PipelineError: A stage would remove files that are not the pipeline's; nothing
            has run.
        StageError: A stage failed, waits for a person, or another run is at work.
            Stages that were running beside it have ended. Or a package is missing;
            then nothing has run.
    """
    _check_packages(pipeline.stages[name] for name in plan.reasons)
    for name in plan.reasons:
        pipeline.stages[name].check_folder(pipeline)
    with _only_one(pipeline.work_dir / "records/lock") as lock:
        return _Runner(pipeline, plan, gpus, jobs, auto, reviewed, fork, lock).run()


def _check_packages(stages: Iterable[Stage]) -> None:
    """Refuse what would fail after hours."""
    for stage in stages:
        for module, extra in stage.packages.items():
            if find_spec(module) is None:
                raise StageError(
                    f"stage {stage.name} needs the package {module}, which is not "
                    f'installed: run `pip install "mmwood[{extra}]"`'
                )


@dataclass
class Job:
    """A running stage."""

    stage: Stage
    key: dict
    command: list[str]
    process: subprocess.Popen | BaseProcess
    started: str
    clock: float
    log: Path
    processes: int


class _Runner:
    def __init__(
        self,
        pipeline: Pipeline,
        plan: Plan,
        gpus: int,
        jobs: int,
        auto: bool,
        reviewed: bool,
        fork: bool,
        lock: int,
    ) -> None:
        self.pipeline, self.plan = pipeline, plan
        self.gpus, self.jobs = gpus, jobs
        self.auto, self.reviewed, self.lock = auto, reviewed, lock
        # One stage alone imports no more than it needs.
        runs = [name for name in plan.reasons if pipeline.stages[name].runs_config]
        self.fork = fork and len(runs) > 1
        self.running: dict[int, Job] = {}
        self.progress = Progress(self.running)
        self.ran: list[str] = []
        self.number = 0
        self.failure: str | None = None
        #: Review -> what to tell the person.
        self.blocked: dict[str, str] = {}

    def run(self) -> list[str]:
        waiting = list(self.plan.reasons)
        try:
            while True:
                if self.failure is None:
                    self._start_ready(waiting)
                if not self.running:
                    break
                self._wait()
        except BaseException:
            for pid in self.running:
                os.kill(pid, signal.SIGTERM)
            for pid in self.running:
                os.waitpid(pid, 0)
            raise
        finally:
            self.pipeline.hashes.save()
        if self.failure is not None or self.blocked:
            raise StageError(self.failure or "\n".join(self.blocked.values()))
        return self.ran

    def _start_ready(self, waiting: list[str]) -> None:
        """Start what can start, and take it from the list."""
        for name in list(waiting):
            if len(self.running) >= self.jobs:
                break
            busy = {job.stage.name for job in self.running.values()}
            if busy.union(waiting, self.blocked).intersection(
                self.pipeline.needs[name]
            ):
                continue
            waiting.remove(name)
            self.number += 1
            self._take(self.pipeline.stages[name])

    def _take(self, stage: Stage) -> None:
        """Start a stage unless it is done or waits for a person."""
        title = f"{self.number}/{len(self.plan.reasons)} {stage.name}"
        state = stage.state(self.pipeline)
        if state.name == "done" and stage.name not in self.plan.forced:
            self.progress.say(f"{title}: unchanged after all, skipped")
            return
        self.progress.say(f"{title}: {stage.title or stage.kind}")
        if not isinstance(stage, Review) or (self.auto and stage.rules):
            self._start(stage)
        elif state.name == "done" or self.reviewed:
            stage.accept(self.pipeline)
        else:
            # What does not depend on it still runs.
            rules = "" if stage.rules else " (this stage names no rules for that)"
            self.blocked[stage.name] = (
                f"{stage.name}: {state.reason}. Look at them, then start this again:\n"
                f"  {_shown(stage.command(self.pipeline))}\n"
                "or continue with what was looked at so far (--reviewed), or "
                f"without a person (--auto){rules}"
            )
            self.progress.say(f"{stage.name}: waits for a person")

    def _start(self, stage: Stage) -> None:
        pipeline = self.pipeline
        key = stage.key(pipeline)
        command = stage.begin(pipeline, key, stage.name in self.plan.forced)
        processes = self.gpus if stage.runs_config else 1
        if processes > 1:
            command = [
                "-m",
                "torch.distributed.run",
                "--standalone",
                f"--nproc_per_node={processes}",
                *_launched(command),
            ]
        log = pipeline.work_dir / "logs" / f"{stage.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = dict(os.environ, PYTHONUNBUFFERED="1")
        if stage.threads is not None:
            environment["OMP_NUM_THREADS"] = str(stage.threads)
        process = self._launch(command, log, environment, processes)
        # It has been started, which the type does not tell.
        assert process.pid is not None
        self.running[process.pid] = Job(
            stage, key, command, process, now(), time.monotonic(), log, processes
        )

    def _launch(
        self, command: list[str], log: Path, environment: dict, processes: int
    ) -> subprocess.Popen | BaseProcess:
        if self.fork and processes == 1 and can_fork():
            return fork_tool(command, log, environment)
        end = signal.SIGTERM if processes > 1 else signal.SIGKILL
        with log.open("wb") as file:
            return subprocess.Popen(
                [sys.executable, "-W", "ignore", *command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                # The lock stays taken while a stage of a killed pipeline runs on; what
                # is forked has it.
                pass_fds=(self.lock,),
                preexec_fn=partial(end_with_parent, end),
            )

    def _wait(self) -> None:
        """Wait for one of the stages to end."""
        while True:
            for pid, job in self.running.items():
                ended, status, usage = os.wait4(pid, os.WNOHANG)
                if ended:
                    del self.running[pid]
                    code = os.waitstatus_to_exitcode(status)
                    if isinstance(job.process, subprocess.Popen):
                        job.process.returncode = code
                    self._end(job, code, usage.ru_maxrss)
                    return
            time.sleep(_TICK)
            self.progress.draw()

    def _end(self, job: Job, code: int, peak: int) -> None:
        name = job.stage.name
        seconds = time.monotonic() - job.clock
        if code:
            tail = ""
            with suppress(OSError):
                tail = job.log.read_text(encoding="utf-8", errors="replace")
            lines = [line for line in tail.splitlines() if line.strip()][-12:]
            how = f"exit status {code}" if code > 0 else f"signal {-code}"
            self.failure = "\n".join(
                [
                    *lines,
                    f"{name} failed ({how}) after {seconds:.0f} s; its whole output is "
                    f"in {job.log}. What is finished stays; start again to continue.",
                ]
            )
            return
        run = dict(
            command=job.command,
            versions=versions(),
            machine=machine(),
            started=job.started,
            seconds=round(seconds, 1),
            # Linux counts in KiB, macOS in bytes; of the largest process.
            peak_memory_mb=round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
            peak_gpu_memory_mb=_gpu_memory(self.pipeline.folder(name)),
            processes=job.processes,
        )
        job.stage.finish(self.pipeline, job.key, run)
        self.pipeline.hashes.save()
        self.ran.append(name)
        self.progress.say(f"{name}: done in {seconds:.0f} s (log: {job.log})")


def _upstream(pipeline: Pipeline, name: str) -> set[str]:
    """A stage and all that it needs."""
    return {name}.union(*(_upstream(pipeline, need) for need in pipeline.needs[name]))


def _shown(command: Iterable[str]) -> str:
    """A command as a person would type it."""
    tool, *rest = command
    return tool_command(os.path.abspath(tool), rest)


def _launched(command: list[str]) -> list[str]:
    """The command of one of several processes."""
    # Before --cfg-options, which takes all that follows.
    place = command.index("--cfg-options") if "--cfg-options" in command else None
    end = len(command) if place is None else place
    return [*command[:end], "--launcher", "pytorch", *command[end:]]


def _gpu_memory(folder: Path) -> float | None:
    """Largest memory in MB that mmengine logged on a GPU."""
    peak = None
    for path in folder.glob("*/vis_data/*.json"):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                memory = json.loads(line).get("memory")
            except (ValueError, AttributeError):
                continue
            if memory is not None:
                peak = max(peak or 0, memory)
    return peak


@contextmanager
def _only_one(path: Path) -> Iterator[int]:
    """Keep other runs out of the folder; yields the lock's file descriptor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise StageError(
                        f"another run is at work in {path.parent.parent}, or a stage "
                        "of one that was killed"
                    ) from None
                time.sleep(0.2)
        yield file.fileno()
