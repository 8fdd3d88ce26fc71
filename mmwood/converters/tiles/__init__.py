"""Big images as tiles with tags of their own, and masks of tiles as masks of images.

::

    folder/
      images/ID_yTOP_xLEFT.png   tiles, named after image, first row and first column
      tags.csv, classes.txt      tags, as a pipeline of one's own images reads them
      tiles.json                 image, position, size and tags of every tile
"""

from mmwood.converters.tiles.cut import cut_images, read_tiles
from mmwood.converters.tiles.grid import BigImage, Tile, find_big_images
from mmwood.converters.tiles.stitch import stitch_masks
from mmwood.converters.tiles.tags import TileTags, resolve_tile_tags

__all__ = [
    "BigImage",
    "Tile",
    "TileTags",
    "cut_images",
    "find_big_images",
    "read_tiles",
    "resolve_tile_tags",
    "stitch_masks",
]
