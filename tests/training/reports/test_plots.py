"""The pictures of a training keep their size, whatever the number of classes."""

import cv2
import numpy as np

from training.reports.plots import draw_confusion


def drawn(tmp_path, n: int) -> np.ndarray:
    matrix = np.eye(n, dtype=int) + 1
    draw_confusion(tmp_path / "matrix.png", "test", matrix.tolist(), tuple(f"class {i}" for i in range(n)))
    return cv2.imread(str(tmp_path / "matrix.png"))


def test_a_matrix_of_many_classes_is_a_picture_of_one_size(tmp_path):
    """With a name and a count in each cell 150 classes took 6 GB, and 1,000 were killed."""
    few = drawn(tmp_path, 31)  # first, so that drawing too much fails early
    assert max(few.shape) <= 1200
    assert drawn(tmp_path, 1000).shape == few.shape


def test_a_matrix_of_few_classes_grows_with_them(tmp_path):
    assert drawn(tmp_path, 4).shape[0] < drawn(tmp_path, 8).shape[0]
