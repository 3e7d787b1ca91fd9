"""What the annotation readers return: flat arrays, cheap to cache and to search."""

from dataclasses import dataclass, replace

import numpy as np

from mmps_kd.structures import GroundTruth


def corners(boxes: np.ndarray) -> np.ndarray:
    """Turn boxes (N, 4) from x, y, w, h into x1, y1, x2, y2."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def offsets_of(counts: np.ndarray) -> np.ndarray:
    """Starts and ends of consecutive groups: (N,) counts to (N + 1,) int64 offsets."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


@dataclass(frozen=True, eq=False)
class Annotations:
    """The people of N images, M boxes in all.

    Attributes:
        image_names: (N,) str, each name once, as the annotation files write it.
        num_boxes: (N,) int64, boxes in each image.
        boxes: (M, 4) float64, x1, y1, x2, y2 in original pixels, images concatenated in order.
        pids: (M,) int64, identity in the numbering of the annotation files, -1 unlabelled.
        image_sizes: (N, 2) int64, height and width; 0 where an image's is not stated, None where no image's is.
        ignored: (M,) bool, regions that are no single person, as COCO's ``iscrowd`` says; their pid is -1. By default
            there are none.
        notes: What the reader left out, one line each.
    """

    image_names: np.ndarray
    num_boxes: np.ndarray
    boxes: np.ndarray
    pids: np.ndarray
    image_sizes: np.ndarray | None = None
    ignored: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Fill in ``ignored``."""
        if self.ignored is None:
            object.__setattr__(self, 'ignored', np.zeros(len(self.boxes), dtype=bool))

    @property
    def image_of_box(self) -> np.ndarray:
        """(M,) int64, index of the image that a box lies in."""
        return np.repeat(np.arange(len(self.image_names)), self.num_boxes)

    def of_images(self, mask: np.ndarray) -> 'Annotations':
        """Keep the images where ``mask`` (N,) is true."""
        return replace(
            self.of_boxes(mask[self.image_of_box]),
            image_names=self.image_names[mask],
            num_boxes=self.num_boxes[mask],
            image_sizes=None if self.image_sizes is None else self.image_sizes[mask],
        )

    def of_boxes(self, mask: np.ndarray) -> 'Annotations':
        """Keep the boxes where ``mask`` (M,) is true, and all images."""
        return replace(
            self,
            num_boxes=np.bincount(self.image_of_box[mask], minlength=len(self.image_names)),
            boxes=self.boxes[mask],
            pids=self.pids[mask],
            ignored=self.ignored[mask],
        )

    def without_empty_boxes(self) -> 'Annotations':
        """Drop the boxes of zero width or height."""
        return self.of_boxes((self.boxes[:, 2:] > self.boxes[:, :2]).all(axis=1))

    def ground_truth(self) -> GroundTruth:
        """The same people as the detection figures need them."""
        boxes = self.without_empty_boxes()
        people, regions = boxes.of_boxes(~boxes.ignored), boxes.of_boxes(boxes.ignored)
        return GroundTruth(
            people.image_names,
            people.num_boxes,
            people.boxes,
            people.pids >= 0,
            ignored_images=regions.image_of_box,
            ignored_boxes=regions.boxes,
        )


def rare_identities(people: Annotations) -> np.ndarray:
    """Identities that are seen in one image only, ascending (n,) int64."""
    seen = np.unique(np.stack([people.pids, people.image_of_box]), axis=1)[0]
    identities, num_images = np.unique(seen[seen >= 0], return_counts=True)
    return identities[num_images == 1]


@dataclass(frozen=True, eq=False)
class ListedGalleries:
    """A TestG file of CUHK-SYSU as it stands: Q queries, P listed gallery images.

    Attributes:
        query_images: (Q,) str.
        query_boxes: (Q, 4) float64, x1, y1, x2, y2.
        offsets: (Q + 1,) int64; query q's gallery is ``gallery_images[offsets[q]:offsets[q + 1]]``.
        image_names: (G,) str, each name once.
        entries: (P,) int32, indices into ``image_names`` in listed order.
        is_true: (P,) bool, whether the query's person is in the image.
        boxes: (T, 4) float64, the boxes of the T true entries in order.
    """

    query_images: np.ndarray
    query_boxes: np.ndarray
    offsets: np.ndarray
    image_names: np.ndarray
    entries: np.ndarray
    is_true: np.ndarray
    boxes: np.ndarray
