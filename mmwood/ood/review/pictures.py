"""Candidates as small and large JPEGs, by row number; small ones are kept on disk."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock

from PIL import Image

from mmwood.fileio.decoding import PICTURE, Decoding
from mmwood.fileio.files import atomic_write, text_sha256
from mmwood.fileio.images import UNREADABLE, open_upright

#: Long sides in pixels. A cell of the grid has 160 to 220, on fine screens twice that.
SMALL, LARGE = 360, 1600


class PictureError(ValueError):
    """There is no image, or none that can be read."""


class Cache:
    """Small JPEGs in a folder of so many bytes; the oldest make room for new ones.

    A cache that cannot be written only makes things slower.
    """

    def __init__(self, folder: str | os.PathLike, limit: int) -> None:
        self.folder = Path(folder)
        self.limit = limit
        self._size: int | None = None
        self._lock = Lock()

    def get(self, key: str, make: Callable[[], bytes]) -> bytes:
        """The JPEG under a key, which is made if need be."""
        name = text_sha256(key)[:40]
        path = self.folder / name[:2] / f"{name}.jpg"
        with suppress(OSError):
            content = path.read_bytes()
            # A power cut can leave a file of zeros, or an empty one.
            if content.startswith(b"\xff\xd8") and content.endswith(b"\xff\xd9"):
                return content
        content = make()
        try:
            with atomic_write(path) as temporary:
                temporary.write_bytes(content)
            self._make_room(len(content))
        except OSError:
            # Read-only or full: the picture is shown all the same.
            pass
        return content

    def _make_room(self, added: int) -> None:
        with self._lock:
            if self._size is None:
                self._size = sum(size for _, size, _ in self._files())
            else:
                self._size += added
            if self._size <= self.limit:
                return
            for _, size, path in sorted(self._files()):
                if self._size <= 0.8 * self.limit:
                    break
                path.unlink(missing_ok=True)
                self._size -= size

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        for path in self.folder.glob("??/*.jpg"):
            found = path.stat()
            yield found.st_mtime, found.st_size, path


class Pictures:
    """The images of a manifest, decoded and encoded anew.

    Bytes of a file never leave as they are: what is not an image is not served,
    whatever a manifest names.
    """

    def __init__(
        self, images: list[str], cache: Cache, decoding: Decoding = PICTURE
    ) -> None:
        self.images = images
        self.cache = cache
        self.decoding = decoding

    def key(self, row: int, kind: str) -> str:
        """What a picture depends on.

        Raises:
            PictureError: There is no such file.
        """
        path = self.images[row]
        try:
            found = os.stat(path)
        except OSError as error:
            raise PictureError(error.strerror) from error
        name = os.path.abspath(path)
        return f"{name}\0{found.st_mtime_ns}\0{found.st_size}\0{kind}{self.decoding}"

    def small(self, row: int) -> bytes:
        """A JPEG of at most 360 pixels a side.

        Raises:
            PictureError: The image is missing or cannot be read; says why.
        """
        return self.cache.get(
            self.key(row, f"small {SMALL}"), lambda: self._jpeg(row, SMALL)
        )

    def large(self, row: int) -> bytes:
        """A JPEG of at most 1600 pixels a side.

        Raises:
            PictureError: As for :meth:`small`.
        """
        return self._jpeg(row, LARGE)

    def missing(self) -> Iterator[tuple[int, str]]:
        """Rows whose file is not there, with the reason; files are not opened."""
        for row, image in enumerate(self.images):
            try:
                os.stat(image)
            except OSError as error:
                yield row, str(error.strerror)

    def _jpeg(self, row: int, side: int) -> bytes:
        picture = open_picture(self.images[row], (side, side), decoding=self.decoding)
        picture.thumbnail((side, side))
        return to_jpeg(picture)


def open_picture(
    path: str | os.PathLike,
    draft: tuple[int, int],
    mode: str = "RGB",
    decoding: Decoding = PICTURE,
) -> Image.Image:
    """An image as a person sees it; see :func:`mmwood.fileio.images.open_upright`.

    Raises:
        PictureError: The image is missing or cannot be read; says why.
    """
    try:
        return open_upright(path, draft, mode, decoding)
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or "not a whole image"
        raise PictureError(reason) from error


def to_jpeg(picture: Image.Image) -> bytes:
    """Its bytes as JPEG."""
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=85)
    return content.getvalue()
