"""A pipeline: stages, what they read of each other, and whether they are up to date."""

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmwood.fileio.candidates import read_manifest
from mmwood.fileio.files import text_sha256
from mmwood.pipeline.hashes import Hashes
from mmwood.pipeline.records import Records
from mmwood.pipeline.stage import (
    OWN,
    PipelineError,
    Stage,
    attribute_path,
    check_attribute,
    fill,
    parse_stage,
    references,
)

__all__ = ["Pipeline", "State", "load_pipeline"]

_TOOLS = dict(
    train="train.py",
    test="test.py",
    mine="mine_ood.py",
    review="review_ood.py",
    report="analysis_tools/report.py",
)


def load_pipeline(
    path: str | os.PathLike,
    tools: str | os.PathLike,
    work_dir: str | os.PathLike | None = None,
) -> "Pipeline":
    """Read a pipeline's config.

    Args:
        path: A file of ``configs/pipelines/``.
        tools: Folder of the tools.
        work_dir: In place of the config's ``work_dir``.

    Raises:
        FileNotFoundError: There is no such file, or it names one that is absent.
        PipelineError: A field is wrong; see also :class:`Pipeline`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"config: there is no file {path}")
    cfg = Config.fromfile(path).to_dict()
    known = ("work_dir", "inputs", "stages", "threads", "jobs")
    # Names that begin with _ are the file's own, and lists of classes are bases, too.
    others = ("classes", "palette", "metainfo")
    unknown = [
        key for key in cfg if key not in known + others and not key.startswith("_")
    ]
    if unknown:
        raise PipelineError(
            f"{path}: a pipeline has {', '.join(known)}, not {', '.join(unknown)}"
        )
    if not isinstance(cfg.get("stages"), dict) or not cfg["stages"]:
        raise PipelineError(f"{path}: stages: expected a dict of stages")
    folder = work_dir or cfg.get("work_dir") or f"work_dirs/{Path(path).stem}"
    stages = [
        parse_stage(name, content, cfg.get("threads"))
        for name, content in cfg["stages"].items()
        # What a config based on another one leaves out.
        if content is not None
    ]
    inputs = cfg.get("inputs") or {}
    return Pipeline(stages, inputs, Path(folder), Path(tools), cfg.get("jobs") or 1)


@dataclass(frozen=True)
class State:
    """How far a stage is.

    Attributes:
        name: 'done', 'waiting' (for a person), 'changed', 'unfinished' or 'new'.
        reason: Why it is not done.
    """

    name: str
    reason: str = ""


class Pipeline:
    """Stages in an order in which they can run.

    Args:
        stages: The stages.
        inputs: Name -> file or folder; it may refer to what a stage makes.
        work_dir: Folder of everything that is made: a folder for each stage, ``logs``
            and ``records``.
        tools: Folder of the tools.
        jobs: Stages that may run at the same time.

    Raises:
        FileNotFoundError: A config, a tool or an input is absent.
        PipelineError: A reference names nothing, or stages wait for each other.
    """

    def __init__(
        self,
        stages: Iterable[Stage],
        inputs: dict[str, str],
        work_dir: Path,
        tools: Path,
        jobs: int = 1,
    ) -> None:
        self.stages = {stage.name: stage for stage in stages}
        self.inputs = inputs
        self.work_dir = work_dir
        self.tools = tools
        self.jobs = jobs
        self.records = Records(work_dir / "records")
        self.hashes = Hashes(work_dir / "records/hashes.json")
        self._configs: dict[str, tuple[str, int | None]] = {}
        for name, path in inputs.items():
            if name in self.stages:
                raise PipelineError(f"inputs.{name}: a stage has this name")
            if not references(path) and not Path(path).exists():
                raise FileNotFoundError(
                    f"inputs.{name}: there is no file or folder {path}"
                )
        needs = {name: self._check(stage) for name, stage in self.stages.items()}
        self.needs: dict[str, list[str]] = {}
        while needs:
            # Of the stages that can run, the first in the config.
            ready = [n for n, others in needs.items() if not needs.keys() & others]
            if not ready:
                raise PipelineError(f"stages wait for each other: {', '.join(needs)}")
            self.needs[ready[0]] = needs.pop(ready[0])
        self.stages = {name: self.stages[name] for name in self.needs}

    def folder(self, stage: str) -> Path:
        """Folder of a stage's files."""
        return self.work_dir / stage

    def path(self, name: str, attribute: str | None = None) -> Path:
        """What a reference names: an input, or an attribute of a stage.

        Raises:
            FileNotFoundError: The stage has not made it yet.
        """
        if name in self.inputs:
            return Path(fill(self.inputs[name], lambda *other: str(self.path(*other))))
        stage = self.stages[name]
        if stage.kind == "review":
            return self.path(stage.source, "manifest")
        if attribute in stage.outputs:
            return Path(self.fill(stage, stage.outputs[attribute]))
        return attribute_path(stage, attribute, self.folder(name))

    def fill(self, stage: Stage, value: Any) -> Any:
        """A value of a stage's config with its references replaced by paths.

        Raises:
            FileNotFoundError: What it refers to has not been made yet.
        """
        own = dict(dir=self.folder(stage.name), work_dir=self.work_dir)
        return fill(
            value,
            lambda name, attribute: str(own.get(name) or self.path(name, attribute)),
        )

    def command(self, stage: Stage) -> list[str]:
        """The tool and its arguments.

        Raises:
            FileNotFoundError: What it refers to has not been made yet.
        """
        folder = str(self.folder(stage.name))
        checkpoint = self.fill(stage, stage.checkpoint)
        source = self.source(stage)
        match stage.kind:
            case "train":
                command = [source, "--work-dir", folder]
            case "test":
                command = [source, checkpoint, "--work-dir", folder]
                command += ["--out", f"{folder}/metrics.json"]
            case "mine":
                command = [source, checkpoint, "--work-dir", folder]
                command += ["--out", str(self.path(stage.name, "manifest"))]
            case "review":
                command = [str(self.path(stage.name))]
            case "run":
                command = []
            case "report":
                command = [f"{folder}/spec.json", "--out", folder]
        command += self.fill(stage, stage.args)
        options = {k: v for k, v in stage.options.items() if v is not None}
        options = self.fill(stage, options)
        if options:
            command.append("--cfg-options")
            command += [f"{key}={_option(value)}" for key, value in options.items()]
        tool = _TOOLS.get(stage.kind, source)
        return [str(self.tools / tool), *command]

    def key(self, stage: Stage) -> dict:
        """All that determines what a stage makes.

        Returns:
            ``command``; ``config``, the hash of its config with everything that it is
            based on; ``inputs``, path -> hash of what it reads.

        Raises:
            FileNotFoundError: What it refers to has not been made yet, or is gone.
        """
        key = dict(command=self.command(stage)[1:], tool=stage.kind)
        if stage.kind == "run":
            key["tool"] = stage.source
        if stage.kind == "report":
            key["report"] = text_sha256(json.dumps(stage.source, default=str))
        if stage.runs_config:
            key["config"] = self.config(stage)[0]
        key["inputs"] = {str(path): self.hashes[path] for path in self.reads(stage)}
        return key

    def source(self, stage: Stage) -> str:
        """The config or tool that a stage names."""
        return self.fill(stage, stage.source) if isinstance(stage.source, str) else ""

    def config(self, stage: Stage) -> tuple[str, int | None]:
        """Hash of a stage's config, and its seed."""
        source = self.source(stage)
        if source not in self._configs:
            cfg = Config.fromfile(source).to_dict()
            text = json.dumps(cfg, sort_keys=True, default=str)
            seed = (cfg.get("randomness") or {}).get("seed")
            self._configs[source] = text_sha256(text), seed
        return self._configs[source]

    def reads(self, stage: Stage) -> list[Path]:
        """Files and folders that a stage reads.

        Raises:
            FileNotFoundError: What it refers to has not been made yet.
        """
        found = {}
        for text in stage.texts():
            names = [name for name in references(text) if name[0] not in OWN]
            if not names and text not in stage.reads:
                continue
            whole = Path(self.fill(stage, text))
            if whole.exists() or text in stage.reads:
                found[whole] = None
            else:
                # Part of a longer text, as in NAME=FOLDER.
                found.update((self.path(*name), None) for name in names)
        return list(found)

    def outputs(self, stage: Stage) -> list[Path]:
        """Files and folders that a stage leaves; a manifest is the reviewer's too."""
        if stage.kind == "review":
            return []
        others = self.fill(stage, stage.outputs).values()
        return [self.folder(stage.name), *map(Path, others)]

    def state(self, stage: Stage) -> State:
        """Whether a stage is up to date with what is on disk."""
        if stage.kind == "review":
            return self._review_state(stage)
        record = self.records.read(stage.name)
        if record is None:
            if self.records.started(stage.name) is not None:
                return State("unfinished", "it was started and has not finished")
            return State("new", "it has not run")
        try:
            reason = _difference(record["key"], self.key(stage))
        except FileNotFoundError as error:
            return State("changed", str(error))
        return State("changed", reason) if reason else self._output_state(stage)

    def unseen(self, review: Stage) -> int:
        """Rows of a review's manifest that nobody has looked at.

        Raises:
            FileNotFoundError: It has not been mined yet.
        """
        rows = read_manifest(self.path(review.name))
        return Counter(row.state for _, row in rows)["unseen"]

    def _review_state(self, stage: Stage) -> State:
        try:
            unseen = self.unseen(stage)
            record = self.records.read(stage.name) or {}
            manifest = self.path(stage.name)
        except FileNotFoundError:
            return State("new", "its candidates have not been mined")
        if not unseen or record.get("manifest") == self.hashes[manifest]:
            return State("done")
        return State("waiting", f"{unseen} rows of {manifest} have not been looked at")

    def _output_state(self, stage: Stage) -> State:
        for path, sha256 in self.records.files(stage.name).items():
            try:
                whole = self.hashes[path] == sha256
            except FileNotFoundError:
                return State("changed", f"{path}, which it made, is gone")
            if not whole:
                return State("changed", f"{path}, which it made, has changed")
        if stage.kind == "mine" and not self.path(stage.name, "manifest").is_file():
            return State("changed", "its manifest is gone")
        return State("done")

    def _check(self, stage: Stage) -> list[str]:
        """The stages that a stage needs."""
        where = f"stages.{stage.name}"
        needs = {}
        names = [name for text in stage.texts() for name in references(text)]
        if stage.kind == "review":
            names.append((stage.source, None))
        while names:
            name, attribute = names.pop(0)
            if name in self.inputs:
                names += references(self.inputs[name])
            elif name in self.stages:
                check_attribute(self.stages[name], attribute)
                needs[name] = None
            elif name not in OWN:
                known = ", ".join([*self.inputs, *self.stages])
                raise PipelineError(
                    f"{where}: {name!r} is no input and no stage; there are {known}"
                )
        if stage.kind == "review" and self.stages[stage.source].kind != "mine":
            raise PipelineError(f"{where}.review: {stage.source!r} is no mine stage")
        if stage.kind == "run" or stage.runs_config:
            folder = self.tools if stage.kind == "run" else Path()
            source = folder / self.source(stage)
            if not source.is_file():
                raise FileNotFoundError(
                    f"{where}.{stage.kind}: there is no file {source}"
                )
        return list(needs)


def _difference(before: dict, now: dict) -> str:
    """What a stage was made with that is no longer so; '' if nothing."""
    for part in ("tool", "command", "report", "config"):
        if before.get(part) != now.get(part):
            return f"its {part} has changed"
    for path in before["inputs"] | now["inputs"]:
        if before["inputs"].get(path) != now["inputs"].get(path):
            return f"{path} has changed"
    return ""


def _option(value: Any) -> str:
    """A value as ``--cfg-options`` reads it."""
    if isinstance(value, list):
        return f"[{','.join(map(_option, value))}]"
    return str(value)
