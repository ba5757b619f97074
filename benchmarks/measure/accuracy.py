"""Test accuracy of the model file that ships, measured through the runner's own classifier."""

from __future__ import annotations

import numpy as np

from benchmarks.results.candidate import Accuracy, NotMeasured, Recall, measured
from core.bundle.contract import Bundle, Probs
from core.data.pack import Pack
from core.errors import CheckError, InputError
from core.geometry.frame import Bytes
from core.geometry.preprocess import whole
from core.stats import Ints, calibration_bins, calibration_error, risk_coverage, wilson
from inference.frame.classifier import RegionClassifier


def check_same_data(pack: Pack, bundle: Bundle) -> None:
    """Raise InputError when the pack has other classes or another geometry than the bundle."""
    if pack.classes != bundle.classes:
        other = ", ".join(sorted({*pack.classes} ^ {*bundle.classes})[:5]) or "their order"
        raise InputError(
            f"{pack.path} and {bundle.path} differ in their classes ({other}): give the pack of the training"
        )
    # a bundle for latency only has another size on purpose
    if pack.geometry != bundle.geometry and bundle.selectable:
        raise InputError(f"{pack.path} was packed with another geometry than {bundle.path}: pack it again")


def classify_rows(classifier: RegionClassifier, images_nhwc: Bytes) -> Probs:
    """Return probabilities, float32 (n, classes). Each RGB row becomes a BGR frame whose region is the whole frame.

    Raises CheckError when the bytes that reach the backend are not those of the row.
    """
    probs = []
    for row, image in enumerate(images_nhwc):
        frame_bgr = np.ascontiguousarray(image[..., ::-1])  # a camera gives BGR, a pack holds RGB
        answer_c = classifier.classify(frame_bgr, [whole(frame_bgr)])[0]
        probs.append(answer_c.copy())  # the backend answers into the same buffer each time
        same_size = image.shape[0] == classifier.geometry.size_px
        # one row is enough: of a frame that has the input size already, the geometry must be a copy
        if row == 0 and same_size and not np.array_equal(classifier.backend.input_nhwc[0], image):
            raise CheckError("the bytes that reach the backend differ from the pack's row: geometry changed them")
    return np.asarray(probs, np.float32)


def predict(classifier: RegionClassifier, pack: Pack) -> Probs:
    """Return the probabilities of the test rows of a pack. Raises InputError when it has none."""
    rows = pack.rows("test")
    if not len(rows):
        raise InputError(f"{pack.path} has no test rows: pack the source again with a test split")
    return classify_rows(classifier, pack.images_nhwc[rows])


def score(labels_n: Ints, probs_nc: Probs, classes: tuple[str, ...]) -> Accuracy:
    """Return the accuracy of these probabilities: recalls, calibration, risk over coverage."""
    predicted_n = np.asarray(probs_nc.argmax(1), np.int64)
    top_n = probs_nc.max(1)
    correct = np.asarray(predicted_n == labels_n)
    hits = int(correct.sum())
    n = len(correct)
    rows = np.bincount(labels_n, minlength=len(classes)).tolist()
    rows_hit = np.bincount(labels_n[correct], minlength=len(classes)).tolist()
    recalls = dict(zip(classes, map(recall_of, rows_hit, rows), strict=True))
    # a class without a test row has no recall that could lower the mean
    values = [measured(entry.recall) for entry in recalls.values()]
    known = [recall for recall in values if recall is not None]
    _, coverage, risk = risk_coverage(top_n, correct)
    steps = sorted({max(1, round(n * part / 20)) for part in range(1, 21)})  # 20 points are enough for a chart
    return Accuracy(
        predicted_n=predicted_n,
        top_n=np.round(top_n.astype(np.float64), 6),  # a float32 has no more digits than that
        n=n,
        hits=hits,
        top1=hits / n,
        interval=wilson(hits, n),
        balanced=float(np.mean(known)),
        recalls=recalls,
        ece=calibration_error(top_n, correct),
        bins=tuple(calibration_bins(top_n, correct)),
        risk_coverage=tuple((float(coverage[n - 1]), float(risk[n - 1])) for n in steps),
        aurc=float(risk.mean()),  # over every coverage, not over the points alone
    )


def recall_of(hits: int, n: int) -> Recall:
    """Return the recall of a class of which `hits` of n rows are right."""
    return Recall(n, hits / n if n else NotMeasured("the test split has no row of it"), wilson(hits, n))
