"""One scene with its people: as annotated, or as a detector found them."""

import numpy as np
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

from .people import FramedPerson, draw_people
from .style import INK, identity_colour

UNLABELLED, NOBODY = -1, -2
MIN_OVERLAP = 0.5


def draw_ground_truth(image: np.ndarray, people: InstanceData, heading: str = 'annotated') -> np.ndarray:
    """Draw the true people, each in the colour of his identity and labelled with it; grey without identity.

    Args:
        image: (H, W, 3) uint8 RGB.
        people: ``bboxes`` (G, 4) in its pixels and ``pids`` (G,), on the CPU.
        heading: What the people are, for the line above the picture, which counts them.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    pids = people.pids.tolist()
    return _draw(image, people.bboxes, pids, [_name(pid) for pid in pids], heading)


def draw_detections(
    image: np.ndarray, found: InstanceData, people: InstanceData | None, heading: str = 'found'
) -> np.ndarray:
    """Draw detections with their scores, each in the colour of the person that it found (:func:`find_people`).

    One that found nobody is black and marked with a cross; where nobody knows who is there, all are grey.

    Args:
        image: (H, W, 3) uint8 RGB.
        found: ``bboxes`` (N, 4) in its pixels and ``scores`` (N,), on the CPU.
        people: As for :func:`draw_ground_truth`; None if nobody knows.
        heading: As for :func:`draw_ground_truth`.

    Returns:
        (H', W', 3) uint8 RGB, the size that :func:`draw_ground_truth` gives.
    """
    pids = find_people(found.bboxes, people).tolist()
    texts = [_name(pid, f'{score:.2f}') for pid, score in zip(pids, found.scores.tolist(), strict=True)]
    return _draw(image, found.bboxes, pids, texts, heading)


def find_people(boxes: Tensor, people: InstanceData | None) -> Tensor:
    """Whom detections found: a true person whose best detection it is, and who is its best person, by IoU >= 0.5.

    This is the rule that detection is scored by (:func:`mmps_kd.evaluation.functional.evaluate_detection`).

    Args:
        boxes: (N, 4) of detections.
        people: With ``bboxes`` (G, 4) in the same pixels and ``pids`` (G,); None if nobody knows.

    Returns:
        (N,) int64 identities, -1 for a person without one and where nobody knows, -2 where nobody was found.
    """
    if people is None:
        return torch.full((len(boxes),), UNLABELLED)
    pids = torch.full((len(boxes),), NOBODY)
    if len(boxes) and len(people):
        overlaps = bbox_overlaps(boxes, people.bboxes)
        best = overlaps.argmax(dim=1)
        mutual = overlaps.argmax(dim=0)[best] == torch.arange(len(boxes))
        found = mutual & (overlaps.amax(dim=1) >= MIN_OVERLAP)
        pids[found] = people.pids[best[found]]
    return pids


def _draw(image: np.ndarray, boxes: Tensor, pids: list[int], texts: list[str], heading: str) -> np.ndarray:
    people = [
        FramedPerson(box, INK if pid == NOBODY else identity_colour(pid), text)
        for box, pid, text in zip(boxes.numpy(), pids, texts, strict=True)
    ]
    return draw_people(image, people, f'{heading}: {_count(pids)}')


def _name(pid: int, score: str = '') -> str:
    """Label of a box."""
    name = {UNLABELLED: '', NOBODY: '✗'}.get(pid, str(pid))
    return f'{name} {score}'.strip()


def _count(pids: list[int]) -> str:
    """How many people of which kind."""
    wrong, named = pids.count(NOBODY), sum(pid >= 0 for pid in pids)
    people = len(pids) - wrong
    parts = ['1 person' if people == 1 else f'{people} people']
    parts += [f'{named} with identity'] if named else []
    parts += [f'{wrong} false'] if wrong else []
    return ', '.join(parts)
