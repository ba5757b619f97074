"""The picture files of a pack: their pixels, and their size without decoding them."""

from __future__ import annotations

from pathlib import Path

from core.data.images import read_picture
from core.geometry.frame import Bytes


def load_file(root: str, name: str) -> Bytes | str:
    """Return the decoded frame of a file, uint8 (H, W, 3) BGR, or the reason why there is none."""
    return read_picture(Path(root, name))


def image_size(path: Path) -> tuple[int, int] | None:
    """Return an image's width and height as OpenCV decodes it, from its header alone; None when it has none."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # a limit against decoding bombs: nothing is decoded here
    try:
        with Image.open(path) as image:
            # Pillow has turned a TIFF's size already; OpenCV turns no AVIF, and knows no orientation in XMP.
            exif = image.info.get("exif") if image.format in ("JPEG", "MPO", "PNG", "WEBP") else None
            return image.size[::-1] if exif and _is_turned(exif) else image.size
    except (OSError, ValueError, SyntaxError):
        return None


def _is_turned(exif: bytes) -> bool:
    """Say whether an EXIF block's orientation swaps the sides."""
    from PIL import Image

    block = Image.Exif()
    block.load(exif)
    return block.get(0x0112) in (5, 6, 7, 8)
