"""A gallery in memory, searched by NumPy, and kept in a folder of npz files: for who does without LanceDB."""

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.fileio import DamagedNpzError, locked, read_npz, write_npz
from mmps_kd.structures import run_offsets

from .rows import DISK_FULL, READ_ONLY, Detections, Filter, GalleryImage, Rows


class NumpyEngine:
    """All images in memory. Each transaction is a further file of the folder, ``<number>.npz``.

    A file lists images, which replace those of the same name in earlier files, and the names of removed images. Files
    are written in one step, so that a process that is killed leaves nothing partial; writers take turns by a file lock.
    ``optimize`` joins the files into one, which names those that it replaces.

    Args:
        folder: None: nothing is kept beyond this object.
    """

    name = 'numpy'
    gives_ties = True

    def __init__(self, folder: str | None) -> None:
        self.folder = None if folder is None else Path(folder)
        self.properties: dict[str, str] | None = None
        self._images: dict[str, tuple[GalleryImage, float]] = {}
        self._all: Rows | None = None
        self._read_files: set[str] = set()
        self._refresh()

    def create(self, properties: dict[str, str]) -> None:
        """Fix the properties; the folder is made with its first file."""
        self.properties = properties

    def stamps(self, images: Sequence[str] | None) -> dict[str, tuple[str, float]]:
        """Stamp and score threshold of the images that are there; None: of all."""
        self._refresh()
        names = self._images if images is None else [name for name in images if name in self._images]
        return {name: (self._images[name][0].stamp, self._images[name][1]) for name in names}

    def images(self, where: Filter) -> list[str]:
        """The names of the images that fulfil the conditions, except for that on scores."""
        self._refresh()
        wanted, unwanted = set(where.images or ()), set(where.not_images or ())

        def fits(image: GalleryImage) -> bool:
            seconds = np.nan if image.time is None else image.time
            return (
                (where.camera is None or image.camera in where.camera)
                and (where.after is None or seconds >= where.after)
                and (where.before is None or seconds < where.before)
                and (where.images is None or image.name in wanted)
                and image.name not in unwanted
            )

        return [name for name, (image, _) in self._images.items() if fits(image)]

    def cameras(self) -> set[str]:
        """The cameras of all images, empty where one is not known."""
        self._refresh()
        return {image.camera for image, _ in self._images.values()}

    def add(self, images: Sequence[GalleryImage], score_thr: float) -> None:
        """Add or replace images in one transaction."""
        self._write(images, [score_thr] * len(images))

    def remove(self, images: Sequence[str]) -> None:
        """Delete images in one transaction."""
        self._write([], [], removed=images)

    def count(self, where: Filter) -> int:
        """How many detections fulfil the conditions."""
        return len(self.read(where))

    def nearest(self, queries: np.ndarray, limit: int, where: Filter, exact: bool) -> list[Rows]:
        """For each query the ``limit`` rows of largest dot product, or more of them if the last are equal."""
        rows, found = self.read(where), []
        for query in queries:
            # Unlike a BLAS product, einsum gives equal rows equal results, wherever they stand.
            similarities = np.einsum('nd,d->n', rows.detections.embeddings, query) if len(rows) else np.zeros(0)
            least = np.partition(similarities, -limit)[-limit] if limit < len(rows) else -np.inf
            found.append(rows[similarities >= least])
        return found

    def read(self, where: Filter) -> Rows:
        """The detections that fulfil the conditions."""
        self._refresh()
        if self._all is None:
            self._join()
        rows = self._all
        keep = np.ones(len(rows), dtype=bool)
        if replace(where, score_thr=None) != Filter():
            fitting = set(self.images(where))
            keep &= np.fromiter((name in fitting for name in rows.images), bool, len(rows))
        if where.score_thr is not None:
            keep &= rows.detections.scores >= np.float32(where.score_thr)
        return rows if keep.all() else rows[keep]

    def is_exact(self, where: Filter) -> bool:
        """Every search is exact."""
        return True

    def optimize(self) -> None:
        """Join the files into one."""
        if self.folder is None or not self.folder.is_dir():
            return
        with self._writing():
            files = sorted(self._read_files)
            images, score_thrs = zip(*self._images.values(), strict=True) if self._images else ((), ())
            if len(files) > 1:
                self._read_files = {self._write_file(images, score_thrs, replaced=files)}
                for name in files:
                    (self.folder / name).unlink(missing_ok=True)

    def info(self) -> dict:
        """Number of files."""
        return dict(files=len(self._read_files), index=None)

    def _join(self) -> None:
        """Bring all detections into one array, and let the images look into it."""
        images = [image for image, _ in self._images.values()]
        counts = np.array([len(image.detections) for image in images], dtype=np.int64)
        parts = [image.detections for image in images if len(image.detections)]
        dim = int(self.properties['dim']) if self.properties else 0
        embeddings = np.concatenate([p.embeddings for p in parts]) if parts else np.zeros((0, dim), np.float32)
        boxes = np.concatenate([p.boxes for p in parts]) if parts else np.zeros((0, 4), np.float32)
        scores = np.concatenate([p.scores for p in parts]) if parts else np.zeros(0, np.float32)
        joined, offsets = Detections(boxes, scores, embeddings), run_offsets(counts)
        for number, (name, (image, score_thr)) in enumerate(self._images.items()):
            own = joined[offsets[number] : offsets[number + 1]]
            self._images[name] = GalleryImage(name, image.stamp, own, image.camera, image.time), score_thr
        times = [np.nan if image.time is None else image.time for image in images]
        self._all = Rows(
            images=np.repeat(np.array([image.name for image in images], dtype=object), counts),
            numbers=np.arange(len(scores)) - np.repeat(offsets[:-1], counts),
            cameras=np.repeat(np.array([image.camera for image in images], dtype=object), counts),
            times=np.repeat(np.array(times, dtype=np.float64), counts),
            detections=joined,
        )

    def _write(self, images: Sequence[GalleryImage], score_thrs: Sequence[float], removed: Sequence[str] = ()) -> None:
        if self.folder is not None:
            with self._writing():
                self._read_files.add(self._write_file(images, score_thrs, removed))
        self._take(images, score_thrs, removed)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Keep other writers out, after their changes were read."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked(self.folder / 'write.lock'):
                self._refresh()
                yield
        except OSError as error:
            reasons = dict.fromkeys((errno.EACCES, errno.EROFS, errno.EPERM), READ_ONLY) | {errno.ENOSPC: DISK_FULL}
            if error.errno not in reasons:
                raise
            raise UserError(f'gallery {self.folder} cannot be written: {reasons[error.errno]}') from None

    def _take(self, images: Sequence[GalleryImage], score_thrs: Sequence[float], removed: Sequence[str]) -> None:
        for image, score_thr in zip(images, score_thrs, strict=True):
            # In the precision of the gallery, as another process reads it.
            found = image.detections
            stored = found.embeddings.astype(self.properties['dtype']).astype(np.float32)
            found = Detections(found.boxes, found.scores, stored)
            self._images[image.name] = replace(image, detections=found), score_thr
        for name in removed:
            self._images.pop(name, None)
        self._all = None

    def _write_file(
        self,
        images: Sequence[GalleryImage],
        score_thrs: Sequence[float],
        removed: Sequence[str] = (),
        replaced: Sequence[str] = (),
    ) -> str:
        """Write a further file; returns its name, which comes after those of all others."""
        last = max((int(name.partition('.')[0]) for name in self._read_files), default=0)
        name = f'{last + 1:08d}.npz'
        parts = [image.detections for image in images if len(image.detections)]
        dim, kind = int(self.properties['dim']), self.properties['dtype']
        write_npz(
            self.folder / name,
            images=np.array([image.name for image in images], dtype=str),
            stamps=np.array([image.stamp for image in images], dtype=str),
            cameras=np.array([image.camera for image in images], dtype=str),
            times=np.array([np.nan if image.time is None else image.time for image in images], dtype=np.float64),
            score_thrs=np.array(score_thrs, dtype=np.float64),
            num_dets=np.array([len(image.detections) for image in images], dtype=np.int64),
            boxes=np.concatenate([np.zeros((0, 4), np.float32), *(part.boxes for part in parts)]),
            scores=np.concatenate([np.zeros(0, np.float32), *(part.scores for part in parts)]),
            embeddings=np.concatenate([np.zeros((0, dim), kind), *(part.embeddings.astype(kind) for part in parts)]),
            removed=np.array(removed, dtype=str),
            replaced=np.array(replaced, dtype=str),
            **{key: np.array(value) for key, value in self.properties.items()},
        )
        return name

    def _refresh(self) -> None:
        """Read the files that other processes have written."""
        if self.folder is None or not self.folder.is_dir():
            return
        new = sorted(path.name for path in self.folder.glob('[0-9]*.npz') if path.name not in self._read_files)
        arrays = {}
        for name in new:
            try:
                arrays[name] = read_npz(self.folder / name)
            except FileNotFoundError:  # optimize of another process has just replaced it
                return self._refresh()
            except DamagedNpzError:
                raise UserError(
                    f'gallery {self.folder} has a damaged file {name}: delete it to run its images again'
                ) from None
        replaced = {old for part in arrays.values() for old in part['replaced'].tolist()}
        for name, part in arrays.items():
            self._read_files.add(name)
            if name in replaced:
                continue
            if len(part['replaced']):  # it holds all that was before it
                self._images = {}
            self.properties = {key: str(part[key]) for key in ('model', 'dim', 'dtype')}
            ends = np.cumsum(part['num_dets']).tolist()
            found = Detections(part['boxes'], part['scores'], part['embeddings'].astype(np.float32))
            images = [
                GalleryImage(image, stamp, found[end - count : end], camera, None if np.isnan(seconds) else seconds)
                for image, stamp, camera, seconds, count, end in zip(
                    *(part[key].tolist() for key in ('images', 'stamps', 'cameras', 'times', 'num_dets')),
                    ends,
                    strict=True,
                )
            ]
            self._take(images, part['score_thrs'].tolist(), part['removed'].tolist())


def is_numpy_folder(folder: str) -> bool:
    """Whether a folder holds a gallery of this engine."""
    return os.path.isdir(folder) and any(re.fullmatch(r'\d+\.npz', name) for name in os.listdir(folder))
