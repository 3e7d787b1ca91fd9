"""A file that keeps the detections in each image of a gallery, so that no image is run twice."""

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional import most_similar
from mmps_kd.fileio import DamagedNpzError, read_npz, write_npz
from mmps_kd.structures import expand_runs, run_offsets

FEWEST = 50
"""Images that are worth writing the file."""


@dataclass(frozen=True, eq=False)
class Detections:
    """The persons that a model detected in one or several images.

    Attributes:
        boxes: (N, 4) float32, x1, y1, x2, y2 in original pixels.
        scores: (N,) float32 in 0..1.
        embeddings: (N, D) float32 of unit length.
    """

    boxes: np.ndarray
    scores: np.ndarray
    embeddings: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: np.ndarray | slice) -> 'Detections':
        """Those that an index array, a mask or a slice picks."""
        return Detections(self.boxes[which], self.scores[which], self.embeddings[which])


class GalleryIndex:
    """The detections of images, by the image's name.

    The file is an npz in the interchange format of ``tools/eval_results.py`` (docs/evaluation.md): ``img_names``,
    ``num_dets``, ``bboxes``, ``embeddings``, ``score_thr``, no ``query_embeddings``. Beside them are ``img_stamps``,
    which tell whether an image is still the same, and ``model``, the model that made the detections.

    Several processes can use one file: each write adds what this object has added, and takes out what it has removed,
    from the file as it is then, under a lock.

    Attributes:
        path: The file; None: nothing is kept beyond this object.
        model: Hash of the model.
        score_thr: Each image has all its detections with at least this score; None if it is not known.

    Args:
        path: Read if it is there. If it is of another model, the index starts empty, and writing it replaces the file.
        model: Hash of the model, its weights and its pipeline; None for that of the file, which must be there.
        score_thr: Score below which this model drops detections, unless the file has a lower one.

    Raises:
        UserError: If the file is damaged or no gallery index, or if it is absent and no model is given.
    """

    def __init__(
        self, path: str | os.PathLike | None, model: str | None = None, score_thr: float | None = None
    ) -> None:
        self.path = None if path is None else Path(path)
        self.model = model
        self.score_thr = score_thr
        self._clear()
        self._removed: set[str] = set()
        self._version = None
        saved = None if self.path is None else self._read()
        # A file with a higher threshold lacks detections: the first write replaces it.
        if saved is not None and (score_thr is None or saved['score_thr'] <= score_thr):
            self._take(saved)
        if self.model is None:
            raise UserError(f'there is no gallery index {path}')

    def _clear(self) -> None:
        # The images in the arrays: stamp and position of each, in the order of the arrays.
        self._people: dict[str, tuple[str, int]] = {}
        self._offsets = run_offsets(np.zeros(0, dtype=np.int64))
        self._boxes = np.empty((0, 5), dtype=np.float32)  # with the score
        self._embeddings = np.empty((0, 0), dtype=np.float32)
        # What the file does not have yet.
        self._added: dict[str, tuple[str, Detections]] = {}

    def __len__(self) -> int:
        return len(self._people) + len(self._added)

    def __iter__(self) -> Iterator[str]:
        """The names of the images."""
        yield from self._people
        yield from self._added

    def __contains__(self, name: str) -> bool:
        return name in self._people or name in self._added

    def __getitem__(self, name: str) -> Detections:
        """The detections of an image."""
        if name in self._added:
            return self._added[name][1]
        position = self._people[name][1]
        rows = slice(*self._offsets[position : position + 2])
        return Detections(self._boxes[rows, :4], self._boxes[rows, 4], self._embeddings[rows])

    def lower_score_thr(self, score_thr: float) -> None:
        """Forget all images if detections with at least this score may be missing: they are to be run again."""
        if self.score_thr is None or score_thr < self.score_thr:
            self._clear()
            self.score_thr = score_thr

    def has(self, name: str, stamp: str) -> bool:
        """Whether an image is there, with the content that the stamp stands for."""
        known = self._added.get(name) or self._people.get(name)
        return known is not None and known[0] == stamp

    def add(self, name: str, stamp: str, people: Detections) -> None:
        """Add an image, or replace it.

        The file is written now and then, each time more images apart, so that writing never takes longer than a
        fixed share of the work.
        """
        self._people.pop(name, None)
        self._removed.discard(name)
        self._added[name] = stamp, people
        if len(self._added) >= max(FEWEST, len(self) // 4):
            self.save()

    def remove(self, images: str | os.PathLike | Iterable[str | os.PathLike]) -> list[str]:
        """Forget images, and write the file.

        An image that is still in the gallery's folder is run again by the next search there.

        Args:
            images: One or several: names as results give them or paths of files. A video stands for all of its
                frames, a folder for all images in it and below it.

        Returns:
            The names of the images that were removed.

        Raises:
            UserError: If one of ``images`` stands for no image of the index; nothing is removed then.
        """
        images = [images] if isinstance(images, str | os.PathLike) else images
        wanted = {
            name if name in self else os.path.abspath(os.path.expanduser(name)) for name in map(os.fspath, images)
        }

        @cache  # many images share a folder
        def wanted_folders(folder: str) -> set[str]:
            return wanted & {folder, *map(str, Path(folder).parents)}

        fitting = {name: wanted & {name, _file_of(name)} | wanted_folders(os.path.dirname(name)) for name in self}
        unknown = wanted.difference(*fitting.values())
        if unknown:
            raise UserError(f'the gallery index {self.path} has no image {min(unknown)}: nothing was removed')
        return self._forget([name for name, fits in fitting.items() if fits])

    def prune(self) -> list[str]:
        """Forget the images and videos whose file is gone, and write the file.

        The folder of a drive that is not connected is gone, too.

        Returns:
            The names of the images that were removed.
        """
        files = {_file_of(name) for name in self if os.path.isabs(name)}  # arrays have no file
        gone = {file for file in files if not os.path.exists(file)}
        return self._forget([name for name in self if _file_of(name) in gone])

    def save(self) -> None:
        """Write the file in one step, if there is one and something was added or removed."""
        if not self._added and not self._removed:
            return
        if self.path is None:
            self._merge()
        else:
            with _locked(self.path):
                # Has another process written it?
                saved = self._read() if _version(self.path) != self._version else None
                if saved is not None and saved['score_thr'] == self.score_thr:
                    self._take(saved)
                self._merge()
                if saved is not None and self.score_thr is not None and saved['score_thr'] < self.score_thr:
                    # The file has more detections than this object: it stays, but for what was removed.
                    if self._removed:
                        newest = GalleryIndex(self.path, self.model)
                        newest._removed = self._removed
                        newest._merge()
                        newest._write()
                    self._version = None
                else:
                    self._write()
        self._added, self._removed = {}, set()

    def search(
        self,
        embedding: np.ndarray,
        names: Sequence[str],
        *,
        score_thr: float,
        topk: int,
        min_similarity: float = -np.inf,
    ) -> tuple[list[str], Detections, np.ndarray, int]:
        """Find the detections most similar to an embedding; what was added is saved first.

        Of equally similar detections the one in the image that ``names`` lists first comes first, then the one that
        the image lists first.

        Args:
            embedding: (D,).
            names: The images to search; those that the index does not have are left out.
            score_thr: Detections with a lower score take no part.
            topk: How many are wanted, fewer if there are fewer.
            min_similarity: Least similarity.

        Returns:
            Images of the K most similar detections, the detections, (K,) float32 similarities, and the number of
            detections that took part.
        """
        self.save()
        listed = {name: order for order, name in enumerate(names)}
        order = np.array([listed.get(name, -1) for name in self._people], dtype=np.int64)
        order = np.repeat(order, np.diff(self._offsets))
        rows = np.flatnonzero((order >= 0) & (self._boxes[:, 4] >= score_thr))
        rows = rows[np.argsort(order[rows], kind='stable')]
        if not len(rows):
            return [], Detections(self._boxes[rows, :4], self._boxes[rows, 4], self._embeddings[rows]), rows, 0
        # Unlike a BLAS product, einsum gives equal rows equal results, wherever they stand.
        similarities = np.einsum('nd,d->n', self._embeddings, embedding.astype(np.float32))[rows]
        best = most_similar(similarities, topk)
        best = best[similarities[best] >= min_similarity]
        found = rows[best]
        people = Detections(self._boxes[found, :4], self._boxes[found, 4], self._embeddings[found])
        return [names[i] for i in order[found]], people, similarities[best], len(rows)

    def _forget(self, names: list[str]) -> list[str]:
        """Take images out, and write the file; returns the names."""
        for name in names:
            self._people.pop(name, None)
            self._added.pop(name, None)
        self._removed.update(names)
        self.save()
        return names

    def _merge(self) -> None:
        """Bring what was added into the arrays, leave out what was replaced or removed.

        This can be repeated if the writing after it fails.
        """
        changed = self._added.keys() | self._removed
        kept = {name: image for name, image in self._people.items() if name not in changed}
        positions = np.array([position for _, position in kept.values()], dtype=np.int64)
        counts = np.diff(self._offsets)[positions]
        rows = expand_runs(self._offsets[positions], counts)
        new = [people for _, people in self._added.values()]
        boxes = _join(self._boxes, rows, [np.column_stack([people.boxes, people.scores]) for people in new])
        embeddings = _join(self._embeddings, rows, [people.embeddings for people in new])
        stamps = [(name, stamp) for images in (kept, self._added) for name, (stamp, _) in images.items()]
        self._people = {name: (stamp, position) for position, (name, stamp) in enumerate(stamps)}
        self._offsets = run_offsets(np.concatenate([counts, np.array([len(people) for people in new], dtype=np.int64)]))
        self._boxes, self._embeddings = boxes, embeddings

    def _write(self) -> None:
        write_npz(
            self.path,
            img_names=np.array(list(self._people), dtype=str),
            num_dets=np.diff(self._offsets),
            bboxes=self._boxes,
            embeddings=self._embeddings,
            query_embeddings=self._embeddings[:0],
            img_stamps=np.array([stamp for stamp, _ in self._people.values()], dtype=str),
            model=np.array(self.model),
            **({} if self.score_thr is None else dict(score_thr=np.array(self.score_thr))),
        )
        self._version = _version(self.path)

    def _read(self) -> dict[str, np.ndarray] | None:
        """Read the file; None if it is absent or of another model."""
        version = _version(self.path)
        try:
            arrays = read_npz(self.path)
        except FileNotFoundError:
            return None
        except DamagedNpzError:
            raise UserError(
                f'the gallery index {self.path} is damaged: put a copy back, or delete it to run its images again'
            ) from None
        if not _is_index(arrays):
            raise UserError(f'{self.path} is no gallery index, or a damaged one: choose another file')
        model = str(arrays['model'])
        self.model = model if self.model is None else self.model
        if model != self.model:
            return None
        self._version = version
        # Files of earlier releases do not name the threshold: it is the model's own.
        return dict(arrays, score_thr=float(arrays['score_thr']) if 'score_thr' in arrays else self.score_thr)

    def _take(self, saved: dict[str, np.ndarray]) -> None:
        """Take the images of the file."""
        stamps = zip(saved['img_names'].tolist(), saved['img_stamps'].tolist(), strict=True)
        self._people = {name: (stamp, position) for position, (name, stamp) in enumerate(stamps)}
        self._offsets = run_offsets(saved['num_dets'])
        self._boxes = saved['bboxes'].astype(np.float32, copy=False)
        self._embeddings = saved['embeddings'].astype(np.float32, copy=False)
        self.score_thr = saved['score_thr']


def _join(old: np.ndarray, rows: np.ndarray, new: list[np.ndarray]) -> np.ndarray:
    """Rows of an array, then further arrays, in one allocation: (N, C) float32."""
    columns = (new[0] if new else old).shape[1]
    joined = np.empty((len(rows) + sum(map(len, new)), columns), dtype=np.float32)
    if len(rows):
        np.take(old, rows, axis=0, out=joined[: len(rows)], mode='clip')  # 'raise' makes a copy
    if new:
        np.concatenate(new, out=joined[len(rows) :])
    return joined


def _is_index(arrays: dict[str, np.ndarray]) -> bool:
    """Whether the arrays of a file are there, and agree with each other."""
    expected = dict(img_names='U', img_stamps='U', model='U', num_dets='i', bboxes='f', embeddings='f')
    if any(key not in arrays or arrays[key].dtype.kind != kind for key, kind in expected.items()):
        return False
    names, counts, num = arrays['img_names'], arrays['num_dets'], len(arrays['bboxes'])
    return (
        names.ndim == 1
        and names.shape == arrays['img_stamps'].shape == counts.shape
        and len(set(names.tolist())) == len(names)
        and (counts >= 0).all()
        and counts.sum() == num
        and arrays['bboxes'].shape == (num, 5)
        and arrays['embeddings'].ndim == 2
        and len(arrays['embeddings']) == num
    )


def _file_of(name: str) -> str:
    """The file of an image: of a video's frame ``cam.mp4#12`` the video."""
    file, mark, number = name.rpartition('#')
    return file if mark and number.isdecimal() else name


def _version(path: Path) -> tuple[int, int, int] | None:
    """Changes when the file is written; None if it is absent."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait until no other process writes a file, and keep others from it meanwhile."""
    lock = path.with_name(f'{path.name}.lock')
    while True:
        with open(lock, 'w') as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                if not os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                    continue
            except FileNotFoundError:  # the process before has deleted it
                continue
            try:
                yield
            finally:
                lock.unlink()
            return
