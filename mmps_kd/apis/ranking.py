"""The people of a gallery, ranked."""

from collections.abc import Sequence

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.gallery import GalleryIndex, People, rank_people

from .results import Match


def rank_scenes(
    index: GalleryIndex, names: Sequence[str], embedding: np.ndarray, score_thr: float, topk: int
) -> tuple[list[Match], int]:
    """Rank the people of scenes by their similarity to an embedding (D,).

    Returns:
        The most similar ones, and how many people there are.

    Raises:
        UserError: If there is nobody.
    """
    parts = [index[name] for name in names]
    people, owners = People.join(parts), np.repeat(names, [len(part) for part in parts])
    kept = people.scores >= score_thr
    if not kept.any():
        raise UserError(
            f'nobody was found with a score of at least {score_thr:g} in the {len(names)} scenes of the gallery: lower '
            'score_thr, or see whether config and weights are those that belong together'
        )
    people, owners = people[kept], owners[kept]
    order, similarities = rank_people(people.embeddings, embedding, topk)
    rows = zip(owners[order], people.boxes[order], people.scores[order], similarities, strict=True)
    matches = [Match(str(name), tuple(box.tolist()), float(score), float(sim)) for name, box, score, sim in rows]
    return matches, len(people)
