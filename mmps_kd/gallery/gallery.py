"""A gallery: the detections of many images, stored once and searched many times."""

import csv
import importlib.util
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional import most_similar
from mmps_kd.fileio import DamagedNpzError, read_npz, write_npz
from mmps_kd.structures import run_offsets

from .lance_engine import LanceEngine, is_lance_folder
from .milvus_engine import MilvusEngine
from .numpy_engine import NumpyEngine, is_numpy_folder
from .rows import Detections, Filter, GalleryImage, Rows, split_frame

PIECE = 4
"""Queries that LanceDB answers at a time: 100 at once take gigabytes."""
MARGIN = 32, 1e-3
"""Further rows that the engine is asked for, and the similarity that its own half-precision result may be off."""
DTYPES = ('float16', 'float32')


@dataclass(frozen=True, eq=False)
class Hits:
    """The K detections most similar to a query, most similar first.

    Attributes:
        images: K names.
        cameras: K names of cameras, empty where they are not known.
        times: (K,) float64 seconds, NaN where they are not known.
        detections: K; embeddings in the precision of the gallery.
        similarities: (K,) float32, dot products.
    """

    images: list[str]
    cameras: list[str]
    times: np.ndarray
    detections: Detections
    similarities: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which: np.ndarray | slice) -> 'Hits':
        """Those that an index array or a slice picks."""
        images, cameras = (np.array(names, dtype=object)[which].tolist() for names in (self.images, self.cameras))
        return Hits(images, cameras, self.times[which], self.detections[which], self.similarities[which])


class Gallery:
    """Images, each with its stamp, camera, time and detections, in a folder, an object store or in memory.

    Several processes, on several machines, can write one gallery and search it meanwhile. Each call sees whole images:
    an image is added or replaced with all of its detections in one step. A batch of images is one transaction, except
    in Milvus, where its images change one by one.

    A gallery belongs to one model. Another model, another dimension or another precision is refused; an image that was
    run with a higher score threshold than :attr:`score_thr` counts as missing, so that it is run again.

    LanceDB is the engine if it is installed (``pip install 'mmps_kd[gallery]'``). Without it a new gallery in a folder
    is held in memory as a whole and kept in npz files; it is opened by that engine later, too.

    Attributes:
        score_thr: Images added from now on have all detections with at least this score.

    Args:
        uri: Folder, address that LanceDB opens, such as ``s3://bucket/gallery``, or ``milvus://HOST:PORT/NAME`` of a
            Milvus server; None: in memory alone.
        model: Hash of the model, its weights and its pipeline; None for that of the gallery, which must be there.
        dim: Length of an embedding; None: that of the gallery, or of the first image.
        score_thr: Score below which the model drops detections.
        dtype: How a new gallery stores embeddings, ``float16`` or ``float32``.
        engine: ``lancedb`` or ``numpy`` for a new gallery; None: see above.

    Raises:
        UserError: If the gallery cannot be opened, is of another model or dimension, or is absent without ``model``.
    """

    def __init__(
        self,
        uri: str | os.PathLike | None,
        model: str | None = None,
        dim: int | None = None,
        *,
        score_thr: float = 0.0,
        dtype: str = 'float16',
        engine: str | None = None,
    ) -> None:
        self.uri = None if uri is None else local_path(os.fspath(uri))
        self.score_thr = score_thr
        self._wanted = dict(model=model, dim=dim, dtype=dtype)
        self._engine = make_engine(self.uri, engine)
        if self._engine.properties is None and model is None:
            raise UserError(f'there is no gallery {uri}: tools/gallery.py index makes one')
        self._check_properties()

    def _check_properties(self) -> None:
        stored = self._engine.properties
        if stored is None:
            return
        if 'model' not in stored:
            raise UserError(f'{self.uri} holds a LanceDB table that is no gallery: choose another place')
        model, dim = self._wanted['model'], self._wanted['dim']
        if model is not None:
            self.require_model(model)
        if dim is not None and dim != int(stored['dim']):
            raise UserError(f'gallery {self.uri} has embeddings of {stored["dim"]} numbers, not {dim}')

    @property
    def model(self) -> str:
        """Hash of the model."""
        return (self._engine.properties or self._wanted)['model']

    @property
    def dim(self) -> int | None:
        """Length of an embedding; None as long as that is not known."""
        dim = (self._engine.properties or self._wanted)['dim']
        return None if dim is None else int(dim)

    def require_model(self, model: str) -> None:
        """Refuse another model than that of the gallery.

        Raises:
            UserError: If ``model`` is the hash of another one.
        """
        if model != self.model:
            raise UserError(
                f'gallery {self.uri} was made by another model ({self.model[:8]}, this one is {model[:8]}): '
                'use its config and checkpoint, or choose another gallery'
            )

    def __len__(self) -> int:
        """Number of images."""
        return len(self._engine.stamps(None))

    def images(self, **conditions) -> list[str]:
        """The names of the images that fulfil the conditions, sorted.

        These are the conditions of :meth:`search` without ``score_thr``; without any: all images.
        """
        return sorted(self._engine.images(self._filter(**conditions)))

    def stamps(self, names: Collection[str]) -> dict[str, str]:
        """The stamps of those of these images that are in the gallery, by name, sorted."""
        known = self._engine.stamps(sorted(names))
        return {name: known[name][0] for name in sorted(known)}

    def cameras(self) -> list[str]:
        """The names of all cameras, sorted."""
        return sorted(self._engine.cameras() - {''})

    def __getitem__(self, name: str) -> Detections:
        """The detections of an image, none if the gallery does not have it."""
        rows = self._engine.read(Filter(images=[name]))
        return rows[np.argsort(rows.numbers)].detections

    def read(self, names: Collection[str]) -> dict[str, Detections]:
        """The detections of several images; an image that the gallery does not have has none."""
        rows = self._engine.read(Filter(images=sorted(names)))
        rows = rows[np.lexsort((rows.numbers, rows.images))] if len(rows) else rows
        owners, counts = np.unique(rows.images.astype(str), return_counts=True)
        offsets = run_offsets(counts)
        found = {name: slice(*offsets[i : i + 2]) for i, name in enumerate(owners.tolist())}
        return {name: rows.detections[found.get(name, slice(0))] for name in names}

    def missing(self, stamps: Mapping[str, str]) -> list[str]:
        """Images that are to be run: new, changed, or run with a threshold above :attr:`score_thr`.

        Args:
            stamps: Stamp of each image, by name.

        Returns:
            Their names, in the order given.
        """
        known = self._engine.stamps(list(stamps) if len(stamps) <= 5000 else None)
        absent = ('', np.inf)

        def fits(name: str, stamp: str) -> bool:
            known_stamp, score_thr = known.get(name, absent)
            return known_stamp == stamp and score_thr <= self.score_thr

        return [name for name, stamp in stamps.items() if not fits(name, stamp)]

    def lowest_score_thr(self) -> float:
        """The lowest threshold that an image was run with; infinity if there is no image."""
        return min((score_thr for _, score_thr in self._engine.stamps(None).values()), default=np.inf)

    def highest_score_thr(self) -> float:
        """The highest threshold that an image was run with; minus infinity if there is no image."""
        return max((score_thr for _, score_thr in self._engine.stamps(None).values()), default=-np.inf)

    def add(self, images: Sequence[GalleryImage]) -> None:
        """Add images, or replace them. It is done when this returns.

        Args:
            images: Of an image that is given twice the last one is taken. The larger the batch, the better:
                :class:`Writer` collects one.

        Raises:
            UserError: If the embeddings have another dimension or are not finite, or the gallery cannot be written.
        """
        images = list({image.name: image for image in images}.values())
        for image in images:
            found = image.detections
            if len(found) and self.dim is None:
                self._wanted['dim'] = found.embeddings.shape[1]
            if len(found) and found.embeddings.shape[1] != self.dim:
                length = found.embeddings.shape[1]
                raise UserError(f'gallery {self.uri} has embeddings of {self.dim} numbers, {image.name} of {length}')
            if not np.isfinite(found.embeddings).all():
                raise UserError(f'the embeddings of {image.name} hold NaN or infinity')
        if not images:
            return
        if self.dim is None:
            raise UserError('no image has a detection, so the length of an embedding is not known: give dim')
        if self._engine.properties is None:
            self._engine.create({key: str(value) for key, value in self._wanted.items()})
            self._check_properties()  # another process may have been faster
        self._engine.add(images, self.score_thr)

    def remove(self, images: str | os.PathLike | Iterable[str | os.PathLike]) -> list[str]:
        """Remove images.

        An image that is still in its folder is run again when that is indexed or searched.

        Args:
            images: One or several: names as results give them or paths of files. A video stands for all of its frames,
                a folder for all images in it and below it.

        Returns:
            The names of the images that were removed, sorted.

        Raises:
            UserError: If one of ``images`` stands for no image of the gallery; nothing is removed then.
        """
        images = [images] if isinstance(images, str | os.PathLike) else images
        names = self.images()
        known = set(names)
        wanted = {
            name if name in known else os.path.abspath(os.path.expanduser(name)) for name in map(os.fspath, images)
        }

        @cache  # many images share a folder
        def wanted_folders(folder: str) -> set[str]:
            return wanted & {folder, *map(str, Path(folder).parents)}

        fitting = {
            name: wanted & {name, split_frame(name)[0]} | wanted_folders(os.path.dirname(name)) for name in names
        }
        unknown = wanted.difference(*fitting.values())
        if unknown:
            raise UserError(f'gallery {self.uri} has no image {min(unknown)}: nothing was removed')
        return self._remove([name for name, fits in fitting.items() if fits])

    def prune(self) -> list[str]:
        """Remove the images and videos whose file is gone; returns their names.

        The folder of a drive that is not connected is gone, too.
        """
        names = [name for name in self.images() if os.path.isabs(name)]  # arrays have no file
        files = {name: split_frame(name)[0] for name in names}
        gone = {file for file in set(files.values()) if not os.path.exists(file)}
        return self._remove([name for name, file in files.items() if file in gone])

    def _remove(self, names: list[str]) -> list[str]:
        if names:
            self._engine.remove(names)
        return names

    def count(self, **conditions) -> int:
        """How many detections fulfil the conditions, which are those of :meth:`search`."""
        return self._engine.count(self._filter(**conditions))

    def search(
        self,
        embeddings: np.ndarray,
        topk: int = 10,
        *,
        camera: str | Collection[str] | None = None,
        after: float | None = None,
        before: float | None = None,
        images: Collection[str] | None = None,
        not_images: Collection[str] | None = None,
        score_thr: float | None = None,
        exact: bool = False,
    ) -> list[Hits]:
        """Find the detections most similar to each of several embeddings.

        Of equally similar detections the one in the image that ``images`` lists first comes first, without ``images``
        in the order of the names; in one image the one that the model gave first.

        Args:
            embeddings: (Q, D) float32 of unit length.
            topk: Detections for each; fewer if there are fewer.
            camera: Only these cameras.
            after: Only images of this time or later, in seconds, see :class:`GalleryImage`.
            before: Only images before this time.
            images: Only these images; those that are not there are left out.
            not_images: Not these images.
            score_thr: Only detections with at least this score.
            exact: Compare all detections. This is done anyway if at most 200,000 fulfil the conditions, and as long as
                ``optimize`` has not built an index. The answer by index may lack a detection (recall: docs/gallery.md).

        Returns:
            Q answers.

        Raises:
            UserError: If the dimension is another one, no image has such a camera, or none has a time.
        """
        embeddings = np.asarray(embeddings, dtype=np.float32)
        if self.dim is not None and (embeddings.ndim != 2 or embeddings.shape[1] != self.dim):
            raise UserError(f'embeddings must be (Q, {self.dim}) for gallery {self.uri}, not {embeddings.shape}')
        if topk < 1:
            raise UserError(f'topk must be at least 1, not {topk}')
        where = self._filter(camera, after, before, images, not_images, score_thr)
        place = None if images is None else {name: number for number, name in enumerate(images)}
        exact = exact or self._engine.is_exact(where)
        found: list[Hits] = []
        for start in range(0, len(embeddings), PIECE):
            piece = embeddings[start : start + PIECE]
            answers = self._engine.nearest(piece, topk + MARGIN[0], where, exact)
            for query, rows in zip(piece, answers, strict=True):
                found.append(self._rank(query, rows, topk, where, exact, place))
        if any(not len(hits) for hits in found):
            self._explain_nothing(where)
        return found

    def _filter(
        self,
        camera: str | Collection[str] | None = None,
        after: float | None = None,
        before: float | None = None,
        images: Collection[str] | None = None,
        not_images: Collection[str] | None = None,
        score_thr: float | None = None,
    ) -> Filter:
        if images is not None:
            # A condition on few names is fast: those to take, or those to leave out.
            known = self._engine.stamps(None).keys()
            others = known - set(images) | known & set(not_images or ())
            images, not_images = (None, others) if 2 * len(others) <= len(known) else (known - others, None)
        for name, seconds in (('after', after), ('before', before)):
            if seconds is not None and not np.isfinite(seconds):
                raise UserError(f'{name} must be a number of seconds, not {seconds}')
        camera = [camera] if isinstance(camera, str) else camera
        ordered = [None if names is None else sorted(names) for names in (camera, images, not_images)]
        return Filter(ordered[0], after, before, ordered[1], ordered[2], score_thr)

    def _rank(self, query: np.ndarray, rows: Rows, topk: int, where: Filter, exact: bool, place: dict | None) -> Hits:
        """Order rows by similarity, equal ones by the rule of :meth:`search`."""
        limit = topk + MARGIN[0]
        # Rows as similar as the last of the answer may be missing, unless the engine gives them all.
        may_lack = exact and not self._engine.gives_ties
        while True:
            # Unlike a BLAS product, einsum gives equal rows equal results, wherever they stand.
            similarities = np.einsum('nd,d->n', rows.detections.embeddings, query) if len(rows) else np.zeros(0)
            similarities = similarities.astype(np.float32)
            if not may_lack or len(rows) < limit or similarities.min() < np.sort(similarities)[-topk] - MARGIN[1]:
                break
            limit *= 4
            (rows,) = self._engine.nearest(query[None], limit, where, exact)
        names = rows.images if place is None else np.array([place[name] for name in rows.images], dtype=np.int64)
        order = np.lexsort((rows.numbers, names)) if len(rows) else np.zeros(0, dtype=np.int64)
        order = order[most_similar(similarities[order], topk)]
        rows = rows[order]
        return Hits(rows.images.tolist(), rows.cameras.tolist(), rows.times, rows.detections, similarities[order])

    def _explain_nothing(self, where: Filter) -> None:
        """Refuse conditions that no image can fulfil."""
        if where.camera is not None and not self._engine.count(Filter(camera=where.camera)):
            known = self.cameras()
            listed = ', '.join(known[:10]) + (', ...' if len(known) > 10 else '')
            has = f'its cameras are {listed}' if known else 'it names no cameras: index with --camera-folders'
            raise UserError(f'gallery {self.uri} has no camera {" or ".join(where.camera)}: {has}')
        has_time = Filter(after=-np.finfo(np.float64).max)
        if (where.after is not None or where.before is not None) and not self._engine.count(has_time):
            raise UserError(f'gallery {self.uri} has no image with a time, so after and before cannot be used')

    def optimize(self) -> None:
        """Join small files, bring new rows into the indexes, and build the index of a gallery that has grown large.

        Searching gets faster, no answer of an exact search changes. Do this after many images were added.
        """
        self._engine.optimize()

    def info(self) -> dict:
        """Engine, model, dimension, numbers of images and detections, highest score threshold, state of the files."""
        stamps = self._engine.stamps(None)
        return dict(
            uri=self.uri,
            engine=self._engine.name,
            model=self.model,
            dim=self.dim,
            dtype=(self._engine.properties or self._wanted)['dtype'],
            images=len(stamps),
            detections=self._engine.count(Filter()),
            score_thr=max((score_thr for _, score_thr in stamps.values()), default=None),
            **self._engine.info(),
        )

    def export(self, path: str | os.PathLike) -> None:
        """Write all images to a file, sorted by name.

        ``.npz``: the interchange format (docs/evaluation.md), with the arrays ``img_stamps`` and ``model``, so that
        :meth:`import_npz` reads it. ``.csv``: a line for each detection, without embeddings. ``.parquet``: all columns,
        by pyarrow, which comes with LanceDB.

        Raises:
            UserError: If the suffix is another one, or pyarrow is needed and not installed.
        """
        suffix = Path(path).suffix
        writers = {'.npz': self._export_npz, '.csv': self._export_csv, '.parquet': self._export_parquet}
        if suffix not in writers:
            raise UserError(f'cannot export to {path}: choose a name that ends with {", ".join(writers)}')
        writers[suffix](path)

    def _sorted_rows(self) -> Rows:
        rows = self._engine.read(Filter())
        return rows[np.lexsort((rows.numbers, rows.images))] if len(rows) else rows

    def _export_npz(self, path: str | os.PathLike) -> None:
        stamps, rows = self._engine.stamps(None), self._sorted_rows()
        names = sorted(stamps)
        counts = dict(zip(*np.unique(rows.images.astype(str), return_counts=True), strict=True))
        embeddings = rows.detections.embeddings.reshape(len(rows), self.dim)
        write_npz(
            path,
            img_names=np.array(names, dtype=str),
            num_dets=np.array([counts.get(name, 0) for name in names], dtype=np.int64),
            bboxes=np.column_stack([rows.detections.boxes, rows.detections.scores]),
            embeddings=embeddings,
            query_embeddings=embeddings[:0],
            img_stamps=np.array([stamps[name][0] for name in names], dtype=str),
            model=np.array(self.model),
            score_thr=np.array(max((score_thr for _, score_thr in stamps.values()), default=self.score_thr)),
        )

    def _export_csv(self, path: str | os.PathLike) -> None:
        rows = self._sorted_rows()
        with open(path, 'w', newline='') as file:
            writer = csv.writer(file)
            writer.writerow(['image', 'number', 'camera', 'time', 'x1', 'y1', 'x2', 'y2', 'score'])
            times = ['' if np.isnan(seconds) else seconds for seconds in rows.times.tolist()]
            columns = rows.images, rows.numbers, rows.cameras, times, *rows.detections.boxes.T, rows.detections.scores
            writer.writerows(zip(*columns, strict=True))

    def _export_parquet(self, path: str | os.PathLike) -> None:
        if not isinstance(self._engine, LanceEngine):
            raise UserError(f'gallery {self.uri} was made without LanceDB: export it to .npz or .csv')
        import pyarrow.parquet as pq

        pq.write_table(self._engine.to_arrow().sort_by([('image', 'ascending'), ('number', 'ascending')]), path)

    def import_npz(self, path: str | os.PathLike) -> int:
        """Add the images of an npz gallery: of an earlier release, or of :meth:`export`.

        Returns:
            Number of images.

        Raises:
            UserError: If the file is damaged, of another kind or of another model.
        """
        arrays = read_npz_gallery(path)
        if str(arrays['model']) != self.model:
            raise UserError(f'{path} was made by another model than gallery {self.uri}: index the images again')
        # Files of earlier releases do not name the threshold: it is the model's own.
        thr, before = float(arrays.get('score_thr', self.score_thr)), self.score_thr
        offsets = run_offsets(arrays['num_dets'])
        boxes, embeddings = arrays['bboxes'], arrays['embeddings'].astype(np.float32, copy=False)
        people = Detections(boxes[:, :4].astype(np.float32), boxes[:, 4].astype(np.float32), embeddings)
        names, stamps = arrays['img_names'].tolist(), arrays['img_stamps'].tolist()
        self.score_thr = thr
        try:
            for start in range(0, len(names), 10_000):
                self.add(
                    [
                        GalleryImage(names[i], stamps[i], people[offsets[i] : offsets[i + 1]])
                        for i in range(start, min(start + 10_000, len(names)))
                    ]
                )
        finally:
            self.score_thr = before
        return len(names)


class Writer:
    """Collects images, and adds them to a gallery when there are many or some time has passed; at the end the rest.

    Used as a context manager; also after an exception what was collected is added.

    Args:
        gallery: Where to.
        detections: So many are a batch.
        seconds: So long after the last batch the next one is added with whatever there is.
        on_commit: Called with the names of the images of each batch, when they are in the gallery.
    """

    def __init__(
        self,
        gallery: Gallery,
        detections: int = 10_000,
        seconds: float = 30,
        on_commit: Callable[[list[str]], None] = lambda names: None,
    ) -> None:
        self.gallery, self.detections, self.seconds, self.on_commit = gallery, detections, seconds, on_commit
        self._images: list[GalleryImage] = []
        self._rows, self._start = 0, time.monotonic()

    def add(self, image: GalleryImage) -> None:
        """Collect an image."""
        self._images.append(image)
        self._rows += max(len(image.detections), 1)
        if self._rows >= self.detections or time.monotonic() - self._start >= self.seconds:
            self.flush()

    def flush(self) -> None:
        """Add what was collected."""
        if self._images:
            self.gallery.add(self._images)
            self.on_commit([image.name for image in self._images])
        self._images, self._rows, self._start = [], 0, time.monotonic()

    def __enter__(self) -> 'Writer':
        return self

    def __exit__(self, *exception: object) -> None:
        self.flush()


def local_path(uri: str) -> str:
    """An absolute path of a folder; an address such as ``s3://...`` as it is."""
    return uri if '://' in uri else os.path.abspath(os.path.expanduser(uri))


def is_gallery(uri: str | os.PathLike) -> bool:
    """Whether this is an address such as ``s3://bucket/gallery``, or a folder that holds a gallery."""
    path = local_path(os.fspath(uri))
    return '://' in path or is_numpy_folder(path) or is_lance_folder(path)


def make_engine(uri: str | None, engine: str | None) -> LanceEngine | MilvusEngine | NumpyEngine:
    """The engine that made a gallery, or the wanted one."""
    if uri is None:
        return NumpyEngine(None)
    if uri.startswith('milvus://'):
        return MilvusEngine(uri)
    if '://' in uri:
        return LanceEngine(uri)
    if os.path.exists(uri) and not os.path.isdir(uri):
        raise UserError(f'gallery {uri} is a file: give a folder; tools/gallery.py import reads an npz gallery')
    if is_numpy_folder(uri):
        return NumpyEngine(uri)
    if engine == 'numpy' or (
        engine is None and importlib.util.find_spec('lancedb') is None and not is_lance_folder(uri)
    ):
        return NumpyEngine(uri)
    return LanceEngine(uri)


def read_npz_gallery(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an npz gallery.

    Raises:
        UserError: If the file is absent, damaged or something else.
    """
    try:
        arrays = read_npz(path)
    except FileNotFoundError:
        raise UserError(f'there is no npz gallery {path}') from None
    except DamagedNpzError:
        raise UserError(f'the npz gallery {path} is damaged: put a copy back, or index its images again') from None
    expected = dict(img_names='U', img_stamps='U', model='U', num_dets='i', bboxes='f', embeddings='f')
    fits = all(key in arrays and arrays[key].dtype.kind == kind for key, kind in expected.items())
    if fits:
        names, counts, num = arrays['img_names'], arrays['num_dets'], len(arrays['bboxes'])
        fits = (
            names.ndim == 1
            and names.shape == arrays['img_stamps'].shape == counts.shape
            and len(set(names.tolist())) == len(names)
            and (counts >= 0).all()
            and counts.sum() == num
            and arrays['bboxes'].shape == (num, 5)
            and arrays['embeddings'].ndim == 2
            and len(arrays['embeddings']) == num
        )
    if not fits:
        raise UserError(f'{path} is no npz gallery, or a damaged one: choose another file')
    return arrays
