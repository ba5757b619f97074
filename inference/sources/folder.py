"""A folder of images, in name order. In `class/*.jpg` the folder's name is the truth of the whole frame."""

from __future__ import annotations

from pathlib import Path
from time import monotonic_ns

from inference.errors import InputError
from inference.preprocess import read_image
from inference.regions import WHOLE
from inference.sources import IMAGE_SUFFIXES, EndOfStream, Frame, Source


def open_source(uri: str) -> FolderSource:
    """Open a folder. Raises InputError when it holds no image."""
    root = Path(uri)
    files = sorted(f for f in root.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())
    if not files:
        raise InputError(f"{uri} holds no image ({' '.join(sorted(IMAGE_SUFFIXES))}): give a folder that does")
    return FolderSource(root, files)


class FolderSource(Source):
    """Unrelated pictures; one that cannot be read is skipped, listed in `skipped`, and leaves a gap in the ids."""

    sequence = False
    fps = 1.0

    def __init__(self, root: Path, files: list[Path]) -> None:
        self.root = root
        self.skipped: list[str] = []
        self._files = files
        self._next = 0

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next whole image. Raises EndOfStream after the last, InputError when there was none at all."""
        while self._next < len(self._files):
            index, file = self._next, self._files[self._next]
            self._next += 1
            image = read_image(file)
            name = str(file.relative_to(self.root))
            if image is None:
                self.skipped.append(name)
                continue
            truth = {WHOLE: file.parent.name} if file.parent != self.root else {}
            return Frame(index, monotonic_ns(), image, index * 1_000_000_000, truth, name)
        if len(self.skipped) == len(self._files):
            raise InputError(f"{self.root}: none of its {len(self._files)} images can be read: give whole images")
        raise EndOfStream

    def close(self) -> None:
        """Do nothing."""
