"""What files and folders hold, as hashes that are computed once."""

import os
from collections.abc import Iterator
from pathlib import Path

from mmwood.fileio.files import (
    TEMPORARY,
    file_sha256,
    read_json,
    text_sha256,
    walk,
    write_json,
)
from mmwood.utils.progress import progress

#: mmengine's folder of one run's logs: named after the time.
_TIMES = "[0-9]" * 8 + "_" + "[0-9]" * 6 + "*"


class Hashes:
    """SHA-256 of files and folders, remembered in a JSON file by path, size and time.

    A file whose size and time are those of an earlier look is not read again. A
    folder's hash is that of its files' relative paths and hashes; mmengine's logs and
    what a killed process was writing do not count.

    Example:
        >>> hashes = Hashes('work_dirs/demo/records/hashes.json')
        >>> hashes['data/context_shapes']
        '1f0d...'
        >>> hashes.save()
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        try:
            known = read_json(self.path)
            self._known = {key: tuple(value) for key, value in known.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            # It only saves time: what is damaged is computed again.
            self._known = {}

    def __getitem__(self, path: str | os.PathLike) -> str:
        """Hash of a file or folder.

        Raises:
            FileNotFoundError: There is neither.
        """
        path = Path(path)
        if path.is_dir():
            files = progress(sorted(tree(path)), f"hash {path}", delay=1)
            return text_sha256(
                "".join(f"{file.relative_to(path)}\0{self[file]}\n" for file in files)
            )
        if not path.is_file():
            raise FileNotFoundError(f"there is no file or folder {path}")
        stat = path.stat()
        key = os.path.abspath(path)
        known = self._known.get(key)
        if known is None or known[:2] != (stat.st_size, stat.st_mtime_ns):
            known = (stat.st_size, stat.st_mtime_ns, file_sha256(path))
            self._known[key] = known
        return known[2]

    def save(self) -> None:
        """Write what was learned."""
        write_json(self.path, self._known)


def tree(folder: Path) -> Iterator[Path]:
    """The files below a folder that count as its content."""
    for path in walk(folder, leave_out=_TIMES):
        if not path.name.startswith(TEMPORARY):
            yield path
