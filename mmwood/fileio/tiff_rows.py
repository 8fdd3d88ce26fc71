"""Some rows of a TIFF as a TIFF of their own, so that the others need no memory.

A TIFF holds strips or tiles, each compressed by itself (TIFF 6.0, Adobe 1992, parts 1
and 2). Those that hold the rows are copied as they are, behind a header of their own.
"""

import struct
from typing import BinaryIO, NamedTuple

from PIL import TiffTags
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COLORMAP,
    COMPRESSION,
    EXTRASAMPLES,
    FILLORDER,
    IMAGELENGTH,
    IMAGEWIDTH,
    JPEGTABLES,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    PREDICTOR,
    REFERENCEBLACKWHITE,
    ROWSPERSTRIP,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
    STRIPBYTECOUNTS,
    STRIPOFFSETS,
    TILEBYTECOUNTS,
    TILELENGTH,
    TILEOFFSETS,
    TILEWIDTH,
    YCBCRSUBSAMPLING,
    TiffImageFile,
)

__all__ = ["TiffBlocks", "rows_as_tiff", "tiff_blocks"]

_ORIENTATION, _YCBCR_COEFFICIENTS, _YCBCR_POSITIONING = 274, 529, 531
#: What a decoder must know of the pixels.
_COPIED = (
    IMAGEWIDTH,
    BITSPERSAMPLE,
    COMPRESSION,
    PHOTOMETRIC_INTERPRETATION,
    FILLORDER,
    SAMPLESPERPIXEL,
    PLANAR_CONFIGURATION,
    PREDICTOR,
    COLORMAP,
    TILEWIDTH,
    TILELENGTH,
    EXTRASAMPLES,
    SAMPLEFORMAT,
    JPEGTABLES,
    _YCBCR_COEFFICIENTS,
    YCBCRSUBSAMPLING,
    _YCBCR_POSITIONING,
    REFERENCEBLACKWHITE,
)
#: None, LZW, JPEG, Deflate (two numbers), PackBits, Zstandard. JPEG's old form (6) has
#: its tables elsewhere in the file.
_NONE = 1
_COMPRESSIONS = (_NONE, 5, 7, 8, 32946, 32773, 50000)
#: How numbers of a field are packed.
_CODES = {TiffTags.BYTE: "B", TiffTags.SHORT: "H", TiffTags.LONG: "L"}
#: Rows of the strips that a single one without compression is taken for.
_ROWS = 64


class TiffBlocks(NamedTuple):
    """Where the strips or tiles of a TIFF are.

    Attributes:
        rows: Rows of each strip or tile, but perhaps the last strip.
        across: How many lie side by side.
        offsets: Where each begins in the file, row by row.
        counts: Bytes of each.
        height: Rows of the image.
        tiled: Whether they are tiles.
        order: The byte order, as :mod:`struct` writes it.
        fields: What else a decoder needs, by its tag: type, count and packed values.
    """

    rows: int
    across: int
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    height: int
    tiled: bool
    order: str
    fields: dict[int, tuple[int, int, bytes]]


def tiff_blocks(image: TiffImageFile) -> TiffBlocks | None:
    """The strips or tiles of an image, if some rows can be read without the others.

    None where it has one alone, compressed, or one for each channel, where its camera
    turned it, and for compressions that are not known to be of each block by itself.
    """
    tags = image.tag_v2
    apart = tags.get(PLANAR_CONFIGURATION, 1) != 1 and tags.get(SAMPLESPERPIXEL, 1) > 1
    compression = tags.get(COMPRESSION, _NONE)
    if apart or tags.get(_ORIENTATION, 1) != 1 or compression not in _COMPRESSIONS:
        return None
    width, height = tags[IMAGEWIDTH], tags[IMAGELENGTH]
    tiled = TILEOFFSETS in tags
    if tiled:
        rows, across = tags[TILELENGTH], -(-width // tags[TILEWIDTH])
        offsets, counts = tags[TILEOFFSETS], tags.get(TILEBYTECOUNTS, ())
    else:
        rows, across = min(tags.get(ROWSPERSTRIP, height), height), 1
        offsets, counts = tags.get(STRIPOFFSETS, ()), tags.get(STRIPBYTECOUNTS, ())
    if not tiled and compression == _NONE and len(offsets) == 1:
        row = -(-width * sum(tags.get(BITSPERSAMPLE, (1,))) // 8)
        if counts and counts[0] == row * height:
            rows = _ROWS
            tops = range(0, height, rows)
            offsets = [offsets[0] + row * top for top in tops]
            counts = [row * min(rows, height - top) for top in tops]
    down = -(-height // rows)
    if down == 1 or not len(offsets) == len(counts) == down * across:
        return None
    order = "<" if tags.prefix == b"II" else ">"
    fields = {}
    for tag in _COPIED:
        if tag in tags:
            packed = _packed(tags[tag], tags.tagtype[tag], order)
            if packed is None:
                return None
            fields[tag] = packed
    places = tuple(offsets), tuple(counts)
    return TiffBlocks(rows, across, *places, height, tiled, order, fields)


def rows_as_tiff(
    blocks: TiffBlocks, stream: BinaryIO, begin: int, end: int
) -> tuple[int, bytes]:
    """A TIFF of the strips or tiles that hold some rows.

    Args:
        blocks: From :func:`tiff_blocks`.
        stream: The file.
        begin: The first row.
        end: The row behind the last.

    Returns:
        The first row of the strips or tiles, and the TIFF.

    Raises:
        OSError: The file is cut off.
    """
    first, last = begin // blocks.rows, -(-end // blocks.rows)
    content = bytearray(8)
    offsets, counts = [], []
    for block in range(first * blocks.across, last * blocks.across):
        stream.seek(blocks.offsets[block])
        data = stream.read(blocks.counts[block])
        if len(data) < blocks.counts[block]:
            raise OSError("image file is truncated")
        offsets.append(len(content))
        counts.append(len(data))
        content += data
    long = blocks.order + "L"

    def longs(*values: int) -> tuple[int, int, bytes]:
        return (
            TiffTags.LONG,
            len(values),
            b"".join(struct.pack(long, v) for v in values),
        )

    height = min(last * blocks.rows, blocks.height) - first * blocks.rows
    fields = dict(blocks.fields)
    fields[IMAGELENGTH] = longs(height)
    if blocks.tiled:
        fields[TILEOFFSETS], fields[TILEBYTECOUNTS] = longs(*offsets), longs(*counts)
    else:
        fields[ROWSPERSTRIP] = longs(blocks.rows)
        fields[STRIPOFFSETS], fields[STRIPBYTECOUNTS] = longs(*offsets), longs(*counts)
    entries = bytearray()
    for tag in sorted(fields):
        kind, count, values = fields[tag]
        if len(values) > 4:
            content += bytes(len(content) % 2)
            place, values = len(content), values
            content += values
            values = struct.pack(long, place)
        entries += struct.pack(blocks.order + "HHL", tag, kind, count)
        entries += values.ljust(4, b"\0")
    content += bytes(len(content) % 2)
    magic = b"II" if blocks.order == "<" else b"MM"
    content[:8] = magic + struct.pack(blocks.order + "HL", 42, len(content))
    content += struct.pack(blocks.order + "H", len(fields)) + entries + bytes(4)
    return first * blocks.rows, bytes(content)


def _packed(value: object, kind: int, order: str) -> tuple[int, int, bytes] | None:
    """Type, count and bytes of a field; None for types that decoders need not."""
    if kind in (TiffTags.UNDEFINED, TiffTags.BYTE) and isinstance(value, bytes):
        return kind, len(value), value
    values = value if isinstance(value, tuple) else (value,)
    if kind == TiffTags.RATIONAL:
        pairs = [number for v in values for number in (v.numerator, v.denominator)]
        return kind, len(values), struct.pack(f"{order}{len(pairs)}L", *pairs)
    if kind not in _CODES:
        return None
    return (
        kind,
        len(values),
        struct.pack(f"{order}{len(values)}{_CODES[kind]}", *values),
    )
