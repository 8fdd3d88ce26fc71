"""The kinds of stages: trainings, tests, mining, reviews, other tools, reports."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmwood.fileio.candidates import read_manifest
from mmwood.fileio.files import text_sha256, write_json
from mmwood.pipeline.records import now
from mmwood.pipeline.references import OWN
from mmwood.pipeline.stage import PipelineError, Stage, State
from mmwood.utils.last_checkpoint import last_checkpoint

if TYPE_CHECKING:
    from mmwood.pipeline.graph import Pipeline


class Train(Stage):
    """A training."""

    kind = "train"
    tool = "train.py"
    runs_config = True
    arguments = ("--work-dir", "{dir}")
    leaves = dict(checkpoint="{dir}")

    def path(self, attribute: str | None, pipeline: "Pipeline") -> Path:
        """As of every stage; the checkpoint is the last one."""
        path = super().path(attribute, pipeline)
        if attribute != "checkpoint" or attribute in self.outputs:
            return path
        last = last_checkpoint(path)
        if last is None:
            raise FileNotFoundError(f"{path} holds no checkpoint yet")
        # mmengine writes where it saved to; the folder may have been moved since.
        return path / last.name

    def _prepare(self, pipeline: "Pipeline", continues: bool) -> list[str]:
        command = self.command(pipeline)
        if continues and last_checkpoint(pipeline.folder(self.name)) is not None:
            command.insert(2, "--resume")
        return command


class Test(Stage):
    """A test, which may write labels and score maps."""

    kind = "test"
    tool = "test.py"
    runs_config = needs_checkpoint = always_resumes = True
    arguments = ("--work-dir", "{dir}", "--out", "{dir}/metrics.json")
    leaves = dict(
        labels="{dir}/pseudo_labels/labels",
        scores="{dir}/pseudo_labels",
        curve="{dir}/seed_curve.json",
        metrics="{dir}/metrics.json",
    )


class Mine(Stage):
    """The search for hard OoD images."""

    kind = "mine"
    tool = "mine_ood.py"
    runs_config = needs_checkpoint = always_resumes = True
    # Beside its folder: a person's decisions must not go when mining starts anew.
    arguments = ("--work-dir", "{dir}", "--out", "{dir}.csv")
    leaves = dict(manifest="{dir}.csv", summary="{dir}.json")

    def _prepare(self, pipeline: "Pipeline", continues: bool) -> list[str]:
        command = self.command(pipeline)
        # What a person decided is kept.
        if self.path("manifest", pipeline).is_file():
            command.insert(3, "--update")
        return command

    def _damage(self, pipeline: "Pipeline") -> str:
        damage = super()._damage(pipeline)
        if not damage and not self.path("manifest", pipeline).is_file():
            return "its manifest is gone"
        return damage


class Review(Stage):
    """A person's look at what was mined; rules can take the person's place."""

    kind = "review"
    tool = "review_ood.py"
    leaves = dict(manifest="")

    def names(self) -> list[tuple[str, str | None]]:
        """As of every stage, and the mining."""
        return [*super().names(), (self.source, None)]

    def check(self, pipeline: "Pipeline") -> None:
        """Refuse to review what was not mined."""
        if not isinstance(pipeline.stages.get(self.source), Mine):
            raise PipelineError(
                f"stages.{self.name}.review: {self.source!r} is no mine stage"
            )

    def check_folder(self, pipeline: "Pipeline") -> None:
        """Nothing: it has no folder."""

    def path(self, attribute: str | None, pipeline: "Pipeline") -> Path:
        """The manifest, which is what the mining left."""
        return pipeline.path(self.source, "manifest")

    def command(self, pipeline: "Pipeline") -> list[str]:
        """As of every stage; it starts from the manifest."""
        command = super().command(pipeline)
        return [command[0], str(self.path(None, pipeline)), *command[1:]]

    def key(self, pipeline: "Pipeline") -> dict[str, Any]:
        """Nothing: the manifest is a person's work, and never made anew."""
        return {}

    def state(self, pipeline: "Pipeline") -> State:
        """Done when no row is unseen, or when it was declared so."""
        try:
            manifest = self.path(None, pipeline)
            unseen = self._unseen(pipeline)
            record = pipeline.records.read(self.name) or {}
            if not unseen or record.get("manifest") == pipeline.hashes[manifest]:
                return State("done")
        except FileNotFoundError:
            return State("new", "its candidates have not been mined")
        except OSError as error:
            return State("waiting", str(error))
        return State("waiting", f"{unseen} rows of {manifest} have not been looked at")

    def begin(self, pipeline: "Pipeline", key: dict, forced: bool) -> list[str]:
        """The command that decides by the rules."""
        rules = pipeline.resolve(self, self.rules)
        return [*self.command(pipeline), "--auto", *rules]

    def finish(self, pipeline: "Pipeline", key: dict, run: dict[str, Any]) -> None:
        """As :meth:`accept`."""
        self.accept(pipeline)

    def accept(self, pipeline: "Pipeline") -> None:
        """Record which manifest counts as reviewed, and since when."""
        record = dict(
            stage=self.name,
            kind=self.kind,
            title=self.title,
            manifest=pipeline.hashes[self.path(None, pipeline)],
            unseen=self._unseen(pipeline),
            finished=now(),
        )
        write_json(pipeline.records.path(self.name), record)

    def _unseen(self, pipeline: "Pipeline") -> int:
        """Rows of the manifest that nobody has looked at."""
        rows = read_manifest(self.path(None, pipeline))
        return Counter(row.state for _, row in rows)["unseen"]


class Run(Stage):
    """Any tool."""

    kind = "run"


class Report(Stage):
    """The page that shows what the others made."""

    kind = "report"
    tool = "analysis_tools/report.py"
    arguments = ("{dir}/spec.json", "--out", "{dir}")
    leaves = dict(page="{dir}/index.html")

    def key(self, pipeline: "Pipeline") -> dict[str, Any]:
        """As of every stage, with the hash of the content."""
        content = text_sha256(json.dumps(self.source, default=str))
        return super().key(pipeline) | dict(report=content)

    def _prepare(self, pipeline: "Pipeline", continues: bool) -> list[str]:
        content = pipeline.resolve(self, self.source)
        others = (name for name in pipeline.stages if name != self.name)
        records = map(pipeline.records.path, others)
        content["records"] = [str(path) for path in records if path.is_file()]
        write_json(pipeline.folder(self.name) / "spec.json", content)
        return self.command(pipeline)


#: By the field that names what a stage starts from.
KINDS: dict[str, type[Stage]] = {
    kind.kind: kind for kind in (Train, Test, Mine, Review, Run, Report)
}

#: Type of each field of a stage, and how it is called.
_FIELDS: dict[str, tuple[type, str]] = dict(
    title=(str, "a text"),
    checkpoint=(str, "a text"),
    options=(Mapping, "a dict"),
    args=(Sequence, "a list"),
    reads=(Sequence, "a list"),
    rules=(Sequence, "a list"),
    outputs=(Mapping, "a dict"),
    packages=(Mapping, "a dict"),
    threads=(int, "an integer"),
    resume=(bool, "True or False"),
)


def parse_stage(name: str, content: Any, threads: int | None = None) -> Stage:
    """Read a stage of a pipeline's config.

    Raises:
        PipelineError: A field is unknown or of the wrong type, or there is not exactly
            one of :data:`KINDS`.
    """
    where = f"stages.{name}"
    if not re.fullmatch(r"\w+", name) or name in OWN:
        raise PipelineError(f"{where}: a stage's name is letters, digits and _")
    if not isinstance(content, Mapping):
        raise PipelineError(f"{where}: expected a dict, got {content!r}")
    kinds = [kind for kind in KINDS if kind in content]
    if len(kinds) != 1:
        raise PipelineError(
            f"{where}: expected exactly one of {', '.join(KINDS)}, got "
            f"{', '.join(kinds) or 'none'}"
        )
    stage = KINDS[kinds[0]]
    source = (Mapping, "a dict") if stage is Report else (str, "a text")
    fields = {**_FIELDS, kinds[0]: source}
    for key, value in content.items():
        if key not in fields:
            raise PipelineError(
                f"{where}.{key}: there is no such field; known are {', '.join(_FIELDS)}"
            )
        kind, called = fields[key]
        if not isinstance(value, kind) or (kind is Sequence and isinstance(value, str)):
            raise PipelineError(f"{where}.{key}: expected {called}, got {value!r}")
    if stage.needs_checkpoint and not content.get("checkpoint"):
        raise PipelineError(f"{where}.checkpoint: a {kinds[0]} stage needs one")
    rest = {key: value for key, value in content.items() if key != kinds[0]}
    return stage(name, content[kinds[0]], **{"threads": threads, **rest})
