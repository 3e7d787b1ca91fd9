"""Where the labels of boxes go: beside people rather than on them, and not on each other."""

import numpy as np

_ON_LABEL, _ON_UPPER_BODY, _ON_LOWER_BODY, _NEXT_CHOICE = 20.0, 3.0, 1.0, 0.05


def place_labels(boxes: np.ndarray, sizes: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
    """Choose a place for the label of each box, one after another from the top of the picture.

    Each goes to the first of the places around its box (above, below, at a side, at the feet) where it covers
    neither another label nor a person; if there is none, where it covers least: faces count more than legs, other
    labels most. Ours.

    Args:
        boxes: (N, 4) float, x1, y1, x2, y2 in pixels.
        sizes: (N, 2) width and height of the labels, smaller than the canvas.
        canvas: Width and height of the picture.

    Returns:
        (N, 4) float, the labels' rectangles, inside of the canvas.
    """
    placed = np.zeros((0, 4))
    labels = np.zeros((len(boxes), 4))
    for index in np.argsort(boxes[:, 1], kind='stable'):
        choices = _around(boxes[index], *sizes[index], *canvas)
        cost = _ON_LABEL * covered(choices, placed) + _cost_of_people(choices, boxes)
        labels[index] = choices[(cost + _NEXT_CHOICE * np.arange(len(choices))).argmin()]
        placed = np.append(placed, labels[[index]], axis=0)
    return labels


def covered(rectangles: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How much of each rectangle (K, 4) others (M, 4) cover, in shares of its area, summed over them: (K,)."""
    upper_left = np.maximum(rectangles[:, None, :2], others[None, :, :2])
    lower_right = np.minimum(rectangles[:, None, 2:], others[None, :, 2:])
    shared = (lower_right - upper_left).clip(min=0).prod(axis=2).sum(axis=1)
    return shared / (rectangles[:, 2:] - rectangles[:, :2]).prod(axis=1)


def _cost_of_people(rectangles: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    upper, lower = boxes.copy(), boxes.copy()
    upper[:, 3] = lower[:, 1] = boxes[:, [1, 3]].mean(axis=1)
    return _ON_UPPER_BODY * covered(rectangles, upper) + _ON_LOWER_BODY * covered(rectangles, lower)


def _around(box: np.ndarray, width: float, height: float, canvas_width: int, canvas_height: int) -> np.ndarray:
    """(10, 4) the places of a label, the best first, moved into the canvas."""
    x1, y1, x2, y2 = box
    right, middle = x2 - width, (x1 + x2 - width) / 2
    corners = [
        *((x, y1 - height) for x in (x1, right, middle)),
        *((x, y2) for x in (x1, right)),
        *((x, y) for y in (y1, y2 - height) for x in (x2, x1 - width)),
        (x1, y2 - height),
    ]
    corners = np.clip(corners, 0, [canvas_width - width, canvas_height - height])
    return np.concatenate([corners, corners + [width, height]], axis=1)
