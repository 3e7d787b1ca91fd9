"""Milvus as the engine of a gallery; no other module imports pymilvus."""

import hashlib
import json
import logging
import os
import random
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.fileio import keep_log_files

from .rows import Detections, Filter, GalleryImage, Rows

EXACT_ROWS = 200_000
"""Of at most so many rows all are compared."""
PARTITIONS, PROBES = 1024, 64
"""Partitions of the index, and how many of them a query visits that need not be exact."""
PIECE = 1000
"""Names in a condition, and rows in a request."""
LIMIT = 16_384
"""Milvus gives no more rows in an answer."""
ABANDONED = 3600
"""Seconds after which rows that no image refers to are taken for those of a writer that was killed."""
ATTEMPTS = 10
FIELDS = ['image', 'version', 'number', 'camera', 'time', 'box', 'score', 'embedding']


class MilvusEngine:
    """Two collections of a Milvus server: ``NAME`` has a row for each detection, ``NAME_images`` one for each image.

    Milvus has no transaction over several rows. So each call of :meth:`add` writes its detections under a new version
    first, then the rows of the images, which name that version, and deletes the detections of the version before.
    Readers take only detections of the version that their image names: they see each image as it was before or as it is
    after, and nothing of a writer that was killed in between. A batch of images is no transaction: they change one by
    one. A search whose answer holds other versions is repeated, since an image may have changed meanwhile.

    Embeddings have the precision of the gallery, but take four bytes a number.

    Args:
        uri: ``milvus://HOST:PORT/NAME``. The variable ``MILVUS_TOKEN`` of the environment is handed to the server.

    Raises:
        UserError: If pymilvus is not installed, the address has another form, or no server answers.
    """

    name = 'milvus'
    gives_ties = False

    def __init__(self, uri: str) -> None:
        try:
            with keep_log_files():
                import pymilvus
        except ImportError:
            raise UserError(f"gallery {uri} needs pymilvus: pip install 'mmps_kd[milvus]'") from None
        parts = re.fullmatch(r'milvus://([^/]+:\d+)/([A-Za-z_]\w*)', uri)
        if parts is None:
            raise UserError(f'{uri} is no address of a gallery in Milvus: write milvus://HOST:PORT/NAME')
        logging.getLogger('pymilvus').setLevel(logging.CRITICAL)  # it logs what it raises
        self.uri, self._pymilvus = uri, pymilvus
        self._detections, self._images = parts[2], f'{parts[2]}_images'
        self.properties: dict[str, str] | None = None
        with self._errors('opened'):
            token = os.environ.get('MILVUS_TOKEN', '')
            # pymilvus asks every 10 seconds whether the server is alive; gRPC's servers hang up on who asks so often.
            options = {'grpc.keepalive_time_ms': 300_000}
            self._client = pymilvus.MilvusClient(f'http://{parts[1]}', token=token, timeout=10, grpc_options=options)
            self._open()

    def _open(self) -> None:
        # The collection of detections is made last: when it is there, both are.
        if self._client.has_collection(self._detections):
            stored = self._client.describe_collection(self._detections)['properties']
            self.properties = {key[5:]: value for key, value in stored.items() if key.startswith('mmps.')}

    def create(self, properties: dict[str, str]) -> None:
        """Make the collections, unless another process has made them."""
        kinds = self._pymilvus.DataType
        text = dict(datatype=kinds.VARCHAR, max_length=65_535)
        images = [
            dict(field_name='key', is_primary=True, **text),
            dict(field_name='image', **text),
            dict(field_name='stamp', **text),
            dict(field_name='camera', **text),
            dict(field_name='time', datatype=kinds.DOUBLE, nullable=True),
            dict(field_name='score_thr', datatype=kinds.DOUBLE),
            dict(field_name='version', datatype=kinds.INT64),
            dict(field_name='detections', datatype=kinds.INT64),
            dict(field_name='embedding', datatype=kinds.FLOAT_VECTOR, dim=2),  # no collection goes without a vector
        ]
        detections = [
            dict(field_name='key', is_primary=True, **text),
            dict(field_name='image', **text),
            dict(field_name='version', datatype=kinds.INT64),
            dict(field_name='number', datatype=kinds.INT64),
            dict(field_name='camera', **text),
            dict(field_name='time', datatype=kinds.DOUBLE, nullable=True),
            dict(field_name='box', datatype=kinds.ARRAY, element_type=kinds.FLOAT, max_capacity=4),
            dict(field_name='score', datatype=kinds.FLOAT),
            dict(field_name='embedding', datatype=kinds.FLOAT_VECTOR, dim=int(properties['dim'])),
        ]
        partitioned = dict(index_type='IVF_FLAT', params=dict(nlist=PARTITIONS))
        with self._errors('created'):
            self._make(self._images, images, dict(index_type='FLAT'), {})
            stored = {f'mmps.{key}': value for key, value in properties.items()}
            self._make(self._detections, detections, partitioned, stored)
            self._open()

    def _make(self, name: str, fields: list[dict], index: dict, properties: dict[str, str]) -> None:
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        for field in fields:
            schema.add_field(**field)
        indexes = self._client.prepare_index_params()
        indexes.add_index('embedding', metric_type='IP', **index)
        options = dict(schema=schema, index_params=indexes, consistency_level='Strong', properties=properties)
        try:
            self._client.create_collection(name, **options)
        except self._pymilvus.MilvusException:  # another process was faster
            if not self._client.has_collection(name):
                raise

    def stamps(self, images: Sequence[str] | None) -> dict[str, tuple[str, float]]:
        """Stamp and score threshold of the images that are there; None: of all."""
        found = self._image_rows(Filter(images=images), ['stamp', 'score_thr'])
        return {row['image']: (row['stamp'], row['score_thr']) for row in found}

    def images(self, where: Filter) -> list[str]:
        """The names of the images that fulfil the conditions, except for that on scores."""
        return [row['image'] for row in self._image_rows(where, [])]

    def cameras(self) -> set[str]:
        """The cameras of all images, empty where one is not known."""
        return {row['camera'] for row in self._image_rows(Filter(), ['camera'])}

    def add(self, images: Sequence[GalleryImage], score_thr: float) -> None:
        """Add or replace images, each as a whole."""
        # Unlike those of all other calls, also on other machines; optimize reads the age from it.
        version = time.time_ns() // 1000 * 1000 + random.SystemRandom().randrange(1000)
        rows = [
            dict(
                key=f'{_key(image.name)}-{version}-{number}',
                image=image.name,
                version=version,
                number=number,
                camera=image.camera,
                time=image.time,
                box=box,
                score=score,
                embedding=embedding,
            )
            for image in images
            for number, (box, score, embedding) in enumerate(
                zip(
                    image.detections.boxes.tolist(),
                    image.detections.scores.tolist(),
                    image.detections.embeddings.astype(self.properties['dtype']).astype(np.float32),
                    strict=True,
                )
            )
        ]
        heads = [
            dict(
                key=_key(image.name),
                image=image.name,
                stamp=image.stamp,
                camera=image.camera,
                time=image.time,
                score_thr=score_thr,
                version=version,
                detections=len(image.detections),
                embedding=[0.0, 0.0],
            )
            for image in images
        ]
        with self._errors('written'):
            before = self._versions([image.name for image in images])
            for start in range(0, len(rows), PIECE):
                self._client.insert(self._detections, rows[start : start + PIECE])
            for start in range(0, len(heads), PIECE):
                self._client.upsert(self._images, heads[start : start + PIECE])
            self._delete_detections(before)

    def remove(self, images: Sequence[str]) -> None:
        """Delete images, each as a whole."""
        with self._errors('written'):
            before = self._versions(images)
            for names in _pieces(images):
                self._client.delete(self._images, filter=_where(Filter(images=names)))
            self._delete_detections(before)

    def _delete_detections(self, versions: dict[str, int]) -> None:
        """Delete the detections of these images of these versions, and of no other."""
        for names in _pieces(list(versions)):
            old = sorted({versions[name] for name in names})
            self._client.delete(self._detections, filter=_where(Filter(images=names), f'version in {old}'))

    def count(self, where: Filter) -> int:
        """How many detections fulfil the conditions."""
        if where.score_thr is not None:
            return len(self._current(where, ['image', 'version', 'score']))
        return sum(row['detections'] for row in self._image_rows(where, ['detections']))

    def nearest(self, queries: np.ndarray, limit: int, where: Filter, exact: bool) -> list[Rows]:
        """For each query the ``limit`` rows of largest dot product, in any order.

        Args:
            queries: (Q, D) float32.
            limit: Rows for each; above 16,384 so many.
            where: Conditions.
            exact: Visit all partitions of the index.
        """
        if self.properties is None or not len(queries):
            return [self._to_rows([])] * len(queries)
        asked = limit
        with self._errors('searched'):
            for attempt in range(ATTEMPTS):
                answers = self._client.search(
                    self._detections,
                    list(queries),
                    limit=min(asked, LIMIT),
                    filter=_where(where),
                    output_fields=FIELDS,
                    search_params=dict(metric_type='IP', params=dict(nprobe=PARTITIONS if exact else PROBES)),
                )
                found = [[hit['entity'] for hit in hits] for hits in answers]
                versions = self._versions(sorted({row['image'] for rows in found for row in rows}))
                kept = [[row for row in rows if row['version'] == versions.get(row['image'])] for rows in found]
                # Rows of another version may be those of a writer that was killed: ask for more, so that enough remain.
                lacks = any(
                    len(rows) < limit and len(all_rows) >= min(asked, LIMIT)
                    for rows, all_rows in zip(kept, found, strict=True)
                )
                if kept == found or asked >= LIMIT or (attempt >= 2 and not lacks):
                    break
                asked = 2 * asked if lacks else asked
        return [self._to_rows(rows[:limit]) for rows in kept]

    def read(self, where: Filter) -> Rows:
        """The detections that fulfil the conditions."""
        return self._to_rows(self._current(where, FIELDS))

    def _current(self, where: Filter, fields: list[str]) -> list[dict]:
        """Rows of the detections that fulfil the conditions, of the versions that the images name."""
        for _ in range(ATTEMPTS):
            heads = {row['image']: row for row in self._image_rows(where, ['version', 'detections'])}
            rows = [
                row
                for row in self._query(self._detections, replace(where, score_thr=None), fields)
                if row['image'] in heads and row['version'] == heads[row['image']]['version']
            ]
            if len(rows) == sum(head['detections'] for head in heads.values()):
                least = -np.inf if where.score_thr is None else np.float32(where.score_thr)
                return [row for row in rows if np.float32(row['score']) >= least]
            time.sleep(0.1)  # an image was replaced between the two queries
        raise UserError(f'gallery {self.uri} cannot be read: its images change all the time; try again')

    def optimize(self) -> None:
        """Delete what killed writers left, and have the server join its segments."""
        if self.properties is None:
            return
        with self._errors('written'):
            current = self._versions(None)
            oldest = time.time_ns() - ABANDONED * 10**9
            left = [
                row['key']
                for row in self._query(self._detections, Filter(), ['key', 'image', 'version'], f'version < {oldest}')
                if row['version'] != current.get(row['image'])
            ]
            for keys in _pieces(left):
                self._client.delete(self._detections, ids=keys)
            for collection in (self._detections, self._images):
                self._client.compact(collection)

    def is_exact(self, where: Filter) -> bool:
        """Whether to compare all rows: those that fulfil the conditions are few."""
        if self.properties is None:
            return True
        with self._errors('searched'):
            fields = ['count(*)']
            return self._client.query(self._detections, _where(where), fields)[0]['count(*)'] <= EXACT_ROWS

    def info(self) -> dict:
        """Index of the collection."""
        return dict(index='IVF_FLAT')

    def _versions(self, images: Sequence[str] | None) -> dict[str, int]:
        """The version of each of these images that are there; None: of all."""
        return {row['image']: row['version'] for row in self._image_rows(Filter(images=images), ['version'])}

    def _image_rows(self, where: Filter, fields: list[str]) -> list[dict]:
        """Rows of the images that fulfil the conditions, except for that on scores."""
        return self._query(self._images, replace(where, score_thr=None), ['image', *fields])

    def _query(self, collection: str, where: Filter, fields: list[str], also: str = '') -> list[dict]:
        if self.properties is None:
            return []
        found = []
        with self._errors('read'):
            for names in [None] if where.images is None else _pieces(where.images):
                condition = _where(replace(where, images=names), also)
                pages = self._client.query_iterator(collection, PIECE, filter=condition, output_fields=fields)
                while page := pages.next():
                    found += page
                pages.close()
        return found

    def _to_rows(self, rows: list[dict]) -> Rows:
        def array(name: str, kind: type, width: int | None = None) -> np.ndarray:
            shape = (len(rows), width) if width else len(rows)
            return np.array([row[name] for row in rows], dtype=kind).reshape(shape)

        dim = int(self.properties['dim']) if self.properties else 0
        embeddings = array('embedding', np.float32, dim) if rows else np.zeros((0, dim), np.float32)
        return Rows(
            images=array('image', object),
            numbers=array('number', np.int64),
            cameras=array('camera', object),
            times=array('time', np.float64),
            detections=Detections(array('box', np.float32, 4), array('score', np.float32), embeddings),
        )

    @contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        """Make one line of what pymilvus raises."""
        try:
            yield
        except self._pymilvus.MilvusException as error:
            reason = ' '.join(str(error.message).split())[:300]
            if 'connect' in reason.lower() or 'unavailable' in reason.lower():
                reason = 'no Milvus server answers there'
            raise UserError(f'gallery {self.uri} cannot be {done}: {reason}') from error


def _key(name: str) -> str:
    """A primary key for a name: pymilvus pages through rows by conditions on it, in which it does not quote."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _pieces(values: Sequence) -> list[list]:
    """Lists of at most ``PIECE`` values."""
    return [list(values[start : start + PIECE]) for start in range(0, len(values), PIECE)]


def _where(where: Filter, also: str = '') -> str:
    """The conditions as an expression of Milvus; empty if there is none. All text is quoted here, and nowhere else."""
    parts = [also] if also else []
    for column, names in (('camera', where.camera), ('image', where.images)):
        if names is not None:
            parts.append(f'{column} in {json.dumps(list(names), ensure_ascii=False)}')
    if where.not_images:
        parts.append(f'image not in {json.dumps(list(where.not_images), ensure_ascii=False)}')
    if where.after is not None:
        parts.append(f'time >= {float(where.after)!r}')
    if where.before is not None:
        parts.append(f'time < {float(where.before)!r}')
    if where.score_thr is not None:
        # The scores are in single precision: 0.7 must include a score of float32(0.7).
        parts.append(f'score >= {float(np.float32(where.score_thr))!r}')
    return ' and '.join(parts)
