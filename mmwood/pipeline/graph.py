"""A pipeline: its stages in the order in which they can run."""

import json
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from mmwood.fileio.files import text_sha256
from mmwood.pipeline.exclude import with_exclusion
from mmwood.pipeline.hashes import Hashes
from mmwood.pipeline.kinds import parse_stage
from mmwood.pipeline.records import Records
from mmwood.pipeline.references import OWN, references, resolve
from mmwood.pipeline.stage import PipelineError, Stage
from mmwood.pipeline.switches import SWITCHES, apply_switches
from mmwood.utils.locations import find_config, read_config

_FIELDS = ("work_dir", "inputs", "stages", "threads", "jobs", *SWITCHES)
#: What a pipeline's config gets from bases with lists of classes.
_IGNORED = ("classes", "palette", "metainfo")


def load_pipeline(
    path: str | os.PathLike,
    tools: str | os.PathLike,
    work_dir: str | os.PathLike | None = None,
    switches: Collection[str] = (),
    exclude: str | os.PathLike | None = None,
) -> "Pipeline":
    """Read a pipeline's config.

    Args:
        path: A file as those of ``configs/pipelines/``. It, its bases and the configs
            that it names are looked for as :func:`mmwood.utils.locations.read_config`
            does.
        tools: Folder of the tools.
        work_dir: In place of the config's ``work_dir``.
        switches: What it does beside
            (:data:`mmwood.pipeline.switches.SWITCHES`), whatever the config says.
        exclude: A review of its masks, of which networks do not learn what it rejects
            (:func:`mmwood.pipeline.exclude.with_exclusion`).

    Raises:
        FileNotFoundError: There is no such file, or it names one that is absent.
        PipelineError: A field is wrong; see also :class:`Pipeline`.
    """
    cfg = read_config(path).to_dict()
    # Names that begin with _ are the file's own.
    known = (*_FIELDS, *_IGNORED)
    unknown = [key for key in cfg if key not in known and not key.startswith("_")]
    if unknown:
        raise PipelineError(
            f"{path}: a pipeline has {', '.join(_FIELDS)}, not {', '.join(unknown)}"
        )
    if not isinstance(cfg.get("stages"), dict) or not cfg["stages"]:
        raise PipelineError(f"{path}: stages: expected a dict of stages")
    folder = work_dir or cfg.get("work_dir") or f"work_dirs/{Path(path).stem}"
    inputs = cfg.get("inputs") or {}
    if empty := [name for name, value in inputs.items() if value is None]:
        raise PipelineError(
            f"{path}: inputs.{empty[0]} names nothing: this pipeline starts from a "
            "folder of images, --data FOLDER"
        )
    contents = apply_switches(cfg, switches)

    def build() -> "Pipeline":
        stages = [
            parse_stage(name, content, cfg.get("threads"))
            for name, content in contents.items()
            # What a config based on another one leaves out.
            if content is not None
        ]
        jobs = cfg.get("jobs") or 1
        return Pipeline(stages, inputs, Path(folder), Path(tools), jobs)

    pipeline = build()
    if exclude is not None:
        contents, inputs = with_exclusion(pipeline, contents, inputs, exclude)
        pipeline = build()
    return pipeline


class Pipeline:
    """Stages in an order in which they can run.

    Args:
        stages: The stages.
        inputs: Name -> file or folder; it may refer to what a stage makes.
        work_dir: Folder of everything that is made: a folder for each stage, ``logs``
            and ``records``.
        tools: Folder of the tools.
        jobs: Stages that may run at the same time.

    Attributes:
        needs: Stage -> the stages that it needs, in an order in which they can run.

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
            if not references(path) and not find_config(path).exists():
                raise FileNotFoundError(
                    f"inputs.{name}: there is no file or folder {path}"
                )
        needs = {name: self._needs(stage) for name, stage in self.stages.items()}
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
            text = resolve(self.inputs[name], lambda *other: str(self.path(*other)))
            return Path(text)
        return self.stages[name].path(attribute, self)

    def resolve(self, stage: Stage, value: Any) -> Any:
        """A value of a stage's config with its references replaced by paths.

        Raises:
            FileNotFoundError: What it refers to has not been made yet.
        """
        own = dict(dir=self.folder(stage.name), work_dir=self.work_dir)
        return resolve(
            value,
            lambda name, attribute: str(own.get(name) or self.path(name, attribute)),
        )

    def config(self, stage: Stage) -> tuple[str, int | None]:
        """Hash of a stage's config with all its bases, and its random seed."""
        path = self.resolve(stage, stage.source)
        if path not in self._configs:
            cfg = read_config(path).to_dict()
            text = json.dumps(cfg, sort_keys=True, default=str)
            seed = (cfg.get("randomness") or {}).get("seed")
            self._configs[path] = text_sha256(text), seed
        return self._configs[path]

    def _needs(self, stage: Stage) -> list[str]:
        """The stages that a stage needs; refuses what is wrong with it."""
        needs: dict[str, None] = {}
        names = stage.names()
        while names:
            name, attribute = names.pop(0)
            if name in self.inputs:
                names += references(self.inputs[name])
            elif name in self.stages:
                self.stages[name].check_attribute(attribute)
                needs[name] = None
            elif name not in OWN:
                known = ", ".join([*self.inputs, *self.stages])
                raise PipelineError(
                    f"stages.{stage.name}: {name!r} is no input and no stage; there "
                    f"are {known}"
                )
        stage.check(self)
        return list(needs)
