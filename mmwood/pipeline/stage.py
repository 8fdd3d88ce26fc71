"""One stage of a pipeline: what its config says, and the command that it becomes."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "KINDS",
    "OWN",
    "PipelineError",
    "Stage",
    "attribute_path",
    "check_attribute",
    "fill",
    "parse_stage",
    "references",
]

#: Kinds of stages; each names the file that the kind's tool starts from.
KINDS = ("train", "test", "mine", "review", "run", "report")
#: {stage.attribute}, {input} or one of OWN.
_REFERENCE = re.compile(r"\{(\w+)(?:\.(\w+))?\}")
#: References that every stage has: its own folder and the pipeline's.
OWN = ("dir", "work_dir")
#: What a stage of a kind leaves, beside ``dir``.
_ATTRIBUTES = {
    "train": ("checkpoint",),
    "test": ("labels", "scores", "curve", "metrics"),
    "mine": ("manifest", "summary"),
    "review": ("manifest",),
    "run": (),
    "report": ("page",),
}


class PipelineError(ValueError):
    """What is wrong with a pipeline's config, or with what a stage finds."""


@dataclass
class Stage:
    """A stage as its pipeline's config states it.

    Attributes:
        name: Its name; its files are in ``work_dir/name``.
        kind: One of :data:`KINDS`.
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
        resume: Whether an interrupted stage goes on where it was. Otherwise it starts
            anew, which gives the same bytes as an undisturbed run. Tests and mining
            always go on: theirs are the same either way.
    """

    name: str
    kind: str
    source: Any
    title: str = ""
    checkpoint: str = ""
    options: dict = field(default_factory=dict)
    args: Sequence[str] = ()
    reads: Sequence[str] = ()
    rules: Sequence[str] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    threads: int | None = None
    resume: bool = False

    @property
    def runs_config(self) -> bool:
        """Whether it is a Runner's work, which several processes can share."""
        return self.kind in ("train", "test", "mine")

    @property
    def resumes(self) -> bool:
        return self.resume or self.kind in ("test", "mine")

    def texts(self) -> Iterator[str]:
        """Every text of the stage that may hold references."""
        for value in (self.source, self.options, self.args, self.reads):
            yield from _texts(value)
        yield from (*self.rules, *self.outputs.values(), self.checkpoint)


def parse_stage(name: str, content: Any, threads: int | None = None) -> Stage:
    """Read a stage of a pipeline's config.

    Args:
        name: The stage's name.
        content: Its fields.
        threads: For a stage that states none.

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
    rest = {key: value for key, value in content.items() if key != kinds[0]}
    types = dict(
        title=str,
        checkpoint=str,
        options=Mapping,
        args=Sequence,
        reads=Sequence,
        rules=Sequence,
        outputs=Mapping,
        packages=Mapping,
        threads=int,
        resume=bool,
    )
    for key, value in rest.items():
        if key not in types:
            raise PipelineError(
                f"{where}.{key}: there is no such field; known are {', '.join(types)}"
            )
        if not isinstance(value, types[key]) or (
            types[key] is Sequence and isinstance(value, str)
        ):
            wanted = {Sequence: "a list", Mapping: "a dict", str: "a text"}
            raise PipelineError(
                f"{where}.{key}: expected {wanted.get(types[key], types[key].__name__)}"
                f", got {value!r}"
            )
    if kinds[0] in ("test", "mine") and not rest.get("checkpoint"):
        raise PipelineError(f"{where}.checkpoint: a {kinds[0]} stage needs one")
    return Stage(name, kinds[0], content[kinds[0]], **{"threads": threads, **rest})


def check_attribute(stage: Stage, attribute: str | None) -> None:
    """Refuse a reference to what stages of a kind do not leave.

    Raises:
        PipelineError: A stage of its kind has no such attribute.
    """
    known = ("dir", *_ATTRIBUTES[stage.kind], *stage.outputs)
    if attribute not in (None, *known):
        raise PipelineError(
            f"{{{stage.name}.{attribute}}}: a {stage.kind} stage has {', '.join(known)}"
        )


def attribute_path(stage: Stage, attribute: str | None, folder: Path) -> Path:
    """Where an attribute of a stage is.

    Args:
        stage: The stage.
        attribute: What of it; None is its folder.
        folder: Its folder.

    Raises:
        FileNotFoundError: It has not been made yet.
    """
    if attribute == "checkpoint":
        pointer = folder / "last_checkpoint"
        # mmengine writes where it saved to; the folder may have been moved since.
        return folder / Path(pointer.read_text(encoding="utf-8").strip()).name
    # A manifest is the reviewer's too: it must not go when mining starts anew.
    if attribute in ("manifest", "summary"):
        suffix = "csv" if attribute == "manifest" else "json"
        return folder.with_name(f"{stage.name}.{suffix}")
    return folder.joinpath(
        *{
            "labels": ("pseudo_labels", "labels"),
            "scores": ("pseudo_labels",),
            "curve": ("seed_curve.json",),
            "metrics": ("metrics.json",),
            "page": ("index.html",),
        }.get(attribute, ())
    )


def references(text: str) -> list[tuple[str, str | None]]:
    """Names, and their attributes, that a text refers to."""
    return [(name, attribute or None) for name, attribute in _REFERENCE.findall(text)]


def fill(value: Any, resolve: Callable[[str, str | None], str]) -> Any:
    """A value with every reference in its texts replaced.

    Args:
        value: A text, or dicts and lists of texts and other values.
        resolve: Gives the text for a name and an attribute.
    """
    if isinstance(value, str):
        return _REFERENCE.sub(lambda m: resolve(m[1], m[2]), value)
    if isinstance(value, Mapping):
        return {key: fill(item, resolve) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [fill(item, resolve) for item in value]
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
