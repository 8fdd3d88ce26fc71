"""Tags from CVAT's export "CVAT for images 1.1": the tags of whole images."""

from pathlib import Path

from mmwood.converters.source import TagSource
from mmwood.fileio.files import read_xml
from mmwood.fileio.lists import TaggedImage

__all__ = ["read_cvat"]


def read_cvat(path: Path) -> TagSource:
    """Tags from the ``<tag>`` elements of an ``annotations.xml``.

    The classes are the project's labels that may be tags, in its order. Boxes,
    polygons and other shapes are left out and counted.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no such XML, names an image twice, or has shapes alone.
    """
    root = read_xml(path, "export")
    images = root.findall("image")
    if root.tag != "annotations" or not images:
        raise ValueError(
            f"{path} is not an export 'CVAT for images 1.1': expected <annotations> "
            f"with <image> elements, got <{root.tag}>"
        )
    items: dict[str, TaggedImage] = {}
    shapes = 0
    for number, image in enumerate(images):
        source = f"{path}: image id {image.get('id', f'[{number}]')}"
        name = image.get("name")
        if not name:
            raise ValueError(f"{source}: has no name")
        if name in items:
            raise ValueError(f"{source}: {name!r} is also {items[name].source}")
        labels = [tag.get("label", "").strip() for tag in image.findall("tag")]
        if not all(labels):
            raise ValueError(f"{source}: a <tag> has no label")
        items[name] = TaggedImage(name, set(labels), source)
        shapes += len(image) - len(labels)
    if shapes and not any(item.tags for item in items.values()):
        raise ValueError(
            f"{path}: no image has a tag, they have {shapes} shapes: tag whole images, "
            "with labels of the type tag"
        )
    classes = [
        (label.findtext("name") or "").strip()
        for label in root.findall("meta//label")
        if (label.findtext("type") or "any").strip() in ("any", "tag")
    ]
    notes = [f"{path}: {shapes} shapes are left out"] if shapes else []
    return TagSource(list(items.values()), list(dict.fromkeys(classes)) or None, notes)
