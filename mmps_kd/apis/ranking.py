"""The people of a gallery, ranked."""

from collections.abc import Sequence

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.gallery import GalleryIndex

from .results import Match


def rank_scenes(
    index: GalleryIndex,
    names: Sequence[str],
    embedding: np.ndarray,
    score_thr: float,
    topk: int,
    min_similarity: float = -np.inf,
) -> tuple[list[Match], int]:
    """Rank the people of scenes by their similarity to an embedding (D,); see :meth:`GalleryIndex.search`.

    Returns:
        The most similar ones, and how many people there are.

    Raises:
        UserError: If there is nobody.
    """
    owners, people, similarities, num_people = index.search(
        embedding, names, score_thr=score_thr, topk=topk, min_similarity=min_similarity
    )
    if num_people == 0:
        raise UserError(
            f'nobody was found with a score of at least {score_thr:g} in the {len(names)} scenes of the gallery: lower '
            'score_thr, or see whether config and weights are those that belong together'
        )
    rows = zip(owners, people.boxes, people.scores, similarities, strict=True)
    matches = [Match(str(name), tuple(box.tolist()), float(score), float(sim)) for name, box, score, sim in rows]
    return matches, num_people
