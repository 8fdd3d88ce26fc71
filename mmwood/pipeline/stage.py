"""A stage: what its pipeline's config says, what it reads and leaves, how far it is."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mmwood.fileio.files import remove_leftovers, text_sha256
from mmwood.pipeline.hashes import tree
from mmwood.pipeline.references import OWN, references, texts
from mmwood.utils.locations import find_config

if TYPE_CHECKING:
    from mmwood.pipeline.graph import Pipeline


class PipelineError(ValueError):
    """What is wrong with a pipeline's config, or with what a stage finds."""


@dataclass(frozen=True)
class State:
    """How far a stage is.

    Attributes:
        name: 'done', 'waiting' (for a person), 'changed', 'unfinished' or 'new'.
        reason: Why it is not done.
    """

    name: str
    reason: str = ""


@dataclass
class Stage:
    """A stage as its pipeline's config states it; each kind is a subclass.

    Attributes:
        name: Its name; its files are in ``work_dir/name``.
        source: What the kind's field names: a config file ('train', 'test', 'mine'),
            a stage of kind 'mine' ('review'), a tool below ``tools/`` ('run'), the
            report's content ('report').
        title: A line for people.
        checkpoint: What 'test' and 'mine' load.
        options: Settings of the config to override, as ``--cfg-options`` does.
        args: More arguments of the tool.
        reads: Files and folders that the stage's config reads by itself.
        rules: How 'review' decides without a person (``--auto``): arguments of
            tools/review_ood.py.
        outputs: Name -> file or folder that the stage leaves beside what its kind
            does; others refer to it by this name.
        packages: Python module that it imports -> mmwood's extra that installs it,
            so that a run without it ends before its first stage.
        threads: Threads of the process, where results must not depend on the
            machine's number of cores.
        resume: Whether an interrupted training continues where it was. Otherwise it
            starts anew, which gives the same bytes as an undisturbed run. Tests and
            mining always continue: theirs are the same either way.
    """

    name: str
    source: Any
    title: str = ""
    checkpoint: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    args: Sequence[str] = ()
    reads: Sequence[str] = ()
    rules: Sequence[str] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None
    resume: bool = False

    #: The field of a pipeline's config that makes a stage one of this kind.
    kind: ClassVar[str]
    #: What it runs, below the folder of the tools; '' is what the stage's field names.
    tool: ClassVar[str] = ""
    #: The tool's first arguments.
    arguments: ClassVar[Sequence[str]] = ()
    #: What others may refer to, beside ``dir`` and its ``outputs``: name -> path.
    leaves: ClassVar[Mapping[str, str]] = {}
    #: Whether it is a Runner's work, which several processes can share.
    runs_config: ClassVar[bool] = False
    needs_checkpoint: ClassVar[bool] = False
    #: Whether what an interrupted run left is taken over, whatever ``resume`` says.
    always_resumes: ClassVar[bool] = False

    def texts(self) -> Iterator[str]:
        """Every text of the stage that may hold references."""
        own = [self.source, self.options, self.args, self.reads, self.rules]
        return texts([*own, self.outputs, self.checkpoint])

    def names(self) -> list[tuple[str, str | None]]:
        """What it refers to: inputs and stages, with their attributes."""
        return [name for text in self.texts() for name in references(text)]

    def check(self, pipeline: "Pipeline") -> None:
        """Refuse what the pipeline lacks.

        Raises:
            FileNotFoundError: There is no such config or tool.
            PipelineError: Another stage is not as this one needs it.
        """
        if self.runs_config or not self.tool:
            source = pipeline.resolve(self, self.source)
            source = (
                find_config(source) if self.runs_config else pipeline.tools / source
            )
            if not source.is_file():
                raise FileNotFoundError(
                    f"stages.{self.name}.{self.kind}: there is no file {source}"
                )

    def check_attribute(self, attribute: str | None) -> None:
        """Refuse a reference to what the stage does not leave.

        Raises:
            PipelineError: It has no such attribute.
        """
        known = ("dir", *self.leaves, *self.outputs)
        if attribute not in (None, *known):
            raise PipelineError(
                f"{{{self.name}.{attribute}}}: a {self.kind} stage has "
                f"{', '.join(known)}"
            )

    def path(self, attribute: str | None, pipeline: "Pipeline") -> Path:
        """Where an attribute is; None is the stage's folder.

        Raises:
            FileNotFoundError: It has not been made yet.
        """
        places = {**self.leaves, **self.outputs}
        return Path(pipeline.resolve(self, places.get(attribute or "dir", "{dir}")))

    def command(self, pipeline: "Pipeline") -> list[str]:
        """The tool and its arguments.

        Raises:
            FileNotFoundError: What it refers to has not been made yet.
        """
        tool = pipeline.resolve(self, self.tool or self.source)
        source = [self.source, self.checkpoint][: 1 + self.needs_checkpoint]
        starts = source if self.runs_config else []
        arguments = pipeline.resolve(self, [*starts, *self.arguments, *self.args])
        command = [str(pipeline.tools / tool), *arguments]
        options = {k: v for k, v in self.options.items() if v is not None}
        if options:
            resolved = pipeline.resolve(self, options)
            command.append("--cfg-options")
            command += [f"{key}={_option(value)}" for key, value in resolved.items()]
        return command

    def key(self, pipeline: "Pipeline") -> dict[str, Any]:
        """All that determines what the stage makes.

        Returns:
            ``command``; ``tool``; ``inputs``, path -> hash of what it reads; and what
            is the kind's own, as ``config``, the hash of its config with everything
            that it is based on.

        Raises:
            FileNotFoundError: What it refers to has not been made yet, or is gone.
        """
        key = dict(
            command=self.command(pipeline)[1:],
            tool=self.kind if self.tool else self.source,
            # By the names that the config has: those stay where mmwood moves.
            inputs={
                str(path): pipeline.hashes[find_config(path)]
                for path in self._inputs(pipeline)
            },
        )
        if self.runs_config:
            key["config"], _ = pipeline.config(self)
        return key

    def state(self, pipeline: "Pipeline") -> State:
        """Whether it is up to date with what is on disk."""
        record = pipeline.records.read(self.name)
        if record is None:
            if pipeline.records.started(self.name) is not None:
                return State("unfinished", "it was started and has not finished")
            return State("new", "it has not run")
        try:
            reason = _difference(record["key"], self.key(pipeline))
            reason = reason or self._damage(pipeline)
        except OSError as error:
            reason = str(error)
        return State("changed", reason) if reason else State("done")

    def begin(self, pipeline: "Pipeline", key: dict, forced: bool) -> list[str]:
        """Make a place for what it leaves, if ``forced`` anew; gives its command.

        Raises:
            OSError: What is there cannot be removed.
            PipelineError: What is there was not made by the pipeline.
        """
        folder = pipeline.folder(self.name)
        continues = (
            (self.resume or self.always_resumes)
            and not forced
            and pipeline.records.started(self.name) == key
        )
        if not continues:
            self.check_folder(pipeline)
            if folder.is_symlink():
                if any(folder.iterdir()):
                    raise PipelineError(
                        f"stages.{self.name}: {folder} is a link, and what it leads to "
                        "is not removed: empty it and start again"
                    )
            elif folder.exists():
                shutil.rmtree(folder)
        pipeline.records.start(self.name, key)
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        return self._prepare(pipeline, continues)

    def check_folder(self, pipeline: "Pipeline") -> None:
        """Refuse a folder with files that the pipeline has not made.

        Raises:
            PipelineError: There is such a folder in the stage's place.
        """
        folder = pipeline.folder(self.name)
        if pipeline.records.knows(self.name) or not folder.exists():
            return
        if not folder.is_dir() or any(folder.iterdir()):
            raise PipelineError(
                f"stages.{self.name}: {folder} exists, and {pipeline.records.folder} "
                "does not say that this pipeline made it: move it away, or choose "
                "another work_dir"
            )

    def finish(self, pipeline: "Pipeline", key: dict, run: dict[str, Any]) -> None:
        """Record that it is whole."""
        files, size = {}, 0
        checkpoint = pipeline.resolve(self, self.checkpoint)
        if "checkpoint" in self.leaves:
            checkpoint = str(self.path("checkpoint", pipeline))
        outputs = map(Path, pipeline.resolve(self, self.outputs).values())
        for path in (pipeline.folder(self.name), *outputs):
            for file in sorted(tree(path)) if path.is_dir() else [path]:
                if str(file) not in files:
                    files[str(file)] = pipeline.hashes[file]
                    size += file.stat().st_size
        record = dict(
            stage=self.name,
            kind=self.kind,
            title=self.title,
            config=pipeline.resolve(self, self.source) if self.runs_config else None,
            seed=pipeline.config(self)[1] if self.runs_config else None,
            checkpoint=checkpoint or None,
            key=key,
            inputs=key["inputs"],
            outputs=dict(
                files=len(files),
                bytes=size,
                sha256=text_sha256(json.dumps(files, sort_keys=True)),
            ),
            threads=self.threads,
            **run,
        )
        pipeline.records.finish(self.name, record, files)

    def _prepare(self, pipeline: "Pipeline", continues: bool) -> list[str]:
        """Its command, once its folder is there.

        Args:
            pipeline: The pipeline.
            continues: Whether the folder has what an interrupted run of the same left.
        """
        return self.command(pipeline)

    def _damage(self, pipeline: "Pipeline") -> str:
        """What it made that is no longer as it was; '' if nothing."""
        for path, sha256 in pipeline.records.files(self.name).items():
            try:
                whole = pipeline.hashes[path] == sha256
            except FileNotFoundError:
                return f"{path}, which it made, is gone"
            if not whole:
                return f"{path}, which it made, has changed"
        return ""

    def _inputs(self, pipeline: "Pipeline") -> list[Path]:
        """Files and folders that it reads."""
        found: dict[Path, None] = {}
        for text in self.texts():
            names = [name for name in references(text) if name[0] not in OWN]
            if not names and text not in self.reads:
                continue
            whole = Path(pipeline.resolve(self, text))
            if whole.exists() or text in self.reads:
                found[whole] = None
            else:
                # Part of a longer text, as in NAME=FOLDER.
                found.update((pipeline.path(*name), None) for name in names)
        return list(found)


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
