"""A file that keeps what a model found in each scene of a gallery, so that no scene is run twice."""

import os
from pathlib import Path

import numpy as np

from mmps_kd.evaluation.functional.ragged import run_offsets
from mmps_kd.npz import DamagedNpzError, read_npz, write_npz

from .people import People

FEWEST = 50
"""Scenes that are worth writing the file."""


class GalleryIndex:
    """The people of scenes, by the scene's name.

    The file is an npz in the interchange format of ``tools/eval_results.py`` (docs/evaluation.md): ``img_names``,
    ``num_dets``, ``bboxes``, ``embeddings``, ``score_thr``, no ``query_embeddings``. Beside them stand ``img_stamps``,
    which tell whether a scene is still the same, and ``model``, what found the people.

    Attributes:
        path: The file; None: nothing is kept beyond this object.
        score_thr: Each scene has all its people with at least this score; None if it is not known.

    Args:
        path: Read if it is there. If it is damaged or of another model, the index starts empty, and writing it
            replaces the file.
        model: Hash of the model, its weights and its pipeline.
        score_thr: Score below which this model drops people, unless the file says another one.
    """

    def __init__(self, path: str | os.PathLike | None, model: str, score_thr: float | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.model = model
        self.score_thr = score_thr
        self._people: dict[str, tuple[str, People]] = {} if path is None else self._read()
        self._added = 0

    def __len__(self) -> int:
        return len(self._people)

    def __getitem__(self, name: str) -> People:
        """The people of a scene."""
        return self._people[name][1]

    def lower_score_thr(self, score_thr: float) -> None:
        """Forget all scenes if people with at least this score may be missing in them: they are to be run again."""
        if self.score_thr is None or score_thr < self.score_thr:
            self._people.clear()
            self.score_thr = score_thr

    def has(self, name: str, stamp: str) -> bool:
        """Whether a scene is there, with the content that the stamp stands for."""
        return name in self._people and self._people[name][0] == stamp

    def add(self, name: str, stamp: str, people: People) -> None:
        """Add a scene, or replace it.

        The file is written now and then, each time more scenes apart, so that writing never takes longer than a
        fixed share of the work.
        """
        self._people[name] = stamp, people
        self._added += 1
        if self._added >= max(FEWEST, len(self) // 4):
            self.save()

    def save(self) -> None:
        """Write the file in one step, if there is one and something was added."""
        if self.path is None or self._added == 0:
            return
        stamps, people = zip(*self._people.values(), strict=True)
        joined = People.join(people)
        write_npz(
            self.path,
            img_names=np.array(list(self._people)),
            num_dets=np.array([len(p) for p in people]),
            bboxes=np.column_stack([joined.boxes, joined.scores]),
            embeddings=joined.embeddings,
            query_embeddings=joined.embeddings[:0],
            img_stamps=np.array(stamps),
            model=np.array(self.model),
            **({} if self.score_thr is None else dict(score_thr=np.array(self.score_thr))),
        )
        self._added = 0

    def _read(self) -> dict[str, tuple[str, People]]:
        try:
            arrays = read_npz(self.path)
        except (FileNotFoundError, DamagedNpzError):
            return {}
        if str(arrays.get('model')) != self.model:
            return {}
        if 'score_thr' in arrays:
            self.score_thr = float(arrays['score_thr'])
        names, stamps = arrays['img_names'].tolist(), arrays['img_stamps'].tolist()
        boxes, embeddings, starts = arrays['bboxes'], arrays['embeddings'], run_offsets(arrays['num_dets'])
        people = People(boxes[:, :4], boxes[:, 4], embeddings)
        runs = zip(starts[:-1], starts[1:], strict=True)
        return {
            name: (stamp, people[start:stop]) for name, stamp, (start, stop) in zip(names, stamps, runs, strict=True)
        }
