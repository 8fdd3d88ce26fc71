"""What the documentation site needs beside its pages: see mkdocs.yml.

The files of the repository that are pages of the site too, and the Sphinx markup of
docstrings (roles, equations, literal blocks) as Markdown and MathML, so that a page
needs no script and no network to show an equation.
"""

import html
import re
import textwrap
from itertools import takewhile
from pathlib import Path

import griffe
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
#: Page of the site -> file of the repository.
INCLUDED = {
    "configs/wood.md": "configs/wood/README.md",
    "configs/advcam.md": "configs/advcam/README.md",
    "configs/seam.md": "configs/seam/README.md",
    "configs/irn.md": "configs/irn/README.md",
    "configs/segmentation.md": "configs/segmentation/README.md",
    "configs/sbce.md": "configs/sbce/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
DELIMITERS = dict(l=r"\left", r=r"\right")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add :data:`INCLUDED`; their pictures lie in docs/."""
    for page, source in INCLUDED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(
            File.generated(config, page, content=text.replace("](../../docs/", "](../"))
        )
    return files


def mathml(latex: str, display: str) -> str:
    """An equation as MathML in which Markdown finds nothing to format."""
    # latex2mathml loses the size of \Bigr) before an exponent.
    latex = re.sub(r"\\[bB]igg?(l|r)\b", lambda m: DELIMITERS[m[1]], latex)
    text = convert(" ".join(latex.split()), display=display)
    return text.replace("*", "&#42;").replace("_", "&#95;")


def markdown(text: str, link) -> str:
    """A docstring's Sphinx markup as Markdown.

    Args:
        text: The docstring.
        link: From the target of a role to what stands for it.
    """
    # mkdocstrings knows the plural only; unknown titles become boxes of plain text.
    text = re.sub(r"(?m)^( *)Example:$", r"\1Examples:", text)
    text = re.sub(
        r"(?m)^( *)\.\. math::(.*(?:\n.*\S.*)*)",
        lambda m: f'{m[1]}<div class="equation">{mathml(m[2], "block")}</div>',
        text,
    )
    text = re.sub(r":math:`([^`]*)`", lambda m: mathml(m[1], "inline"), text)
    text = re.sub(
        r":(?:class|func|meth|mod|data|attr):`([^`]*)`", lambda m: link(m[1]), text
    )
    # A block after "::" ends before the next line that is not indented deeper.
    text = re.sub(
        r"(?m)^( *)(?:(\S.*:)|:):\n\n((?:\1 +\S.*\n?|\n(?=\1 ))+)", literal_block, text
    )
    # A table of Sphinx, as it is.
    return re.sub(
        r"(?ms)^=+( =+)+$.*^=+( =+)+$",
        lambda m: f"```text\n{m[0].replace('``', '  ')}\n```",
        text,
    )


def literal_block(match: re.Match) -> str:
    """Sphinx's block after "::" as a fenced one."""
    indent, sentence, block = match.groups()
    fenced = f"```text\n{textwrap.dedent(block).rstrip()}\n```\n"
    return textwrap.indent(f"{sentence or ''}\n\n{fenced}", indent)


class Docstrings(griffe.Extension):
    """A package's docstrings as Markdown, with links between its objects."""

    def on_package(self, *, pkg: griffe.Module, **kwargs) -> None:
        objects = list(_objects(pkg))
        for item in objects:
            if item.docstring is None:
                continue

            def link(target: str, here: str = item.path) -> str:
                name = target.lstrip("~.").removeprefix("mmwood.")
                found = [o.path for o in objects if o.path.endswith(f".{name}")]
                text = f"<code>{html.escape(target.lstrip('~.'))}</code>"
                if not found:
                    return text
                # The nearest of several with one name.
                path = max(found, key=lambda p: _in_common(p, here))
                return f'<autoref identifier="{path}" optional>{text}</autoref>'

            item.docstring.value = markdown(item.docstring.value, link)


def _objects(item: griffe.Object):
    yield item
    for member in item.members.values():
        if not member.is_alias:
            yield from _objects(member)


def _in_common(path: str, other: str) -> int:
    """How many packages, modules and classes two objects share."""
    pairs = zip(path.split("."), other.split("."))
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
