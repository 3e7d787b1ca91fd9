"""LanceDB as the engine of a gallery; no other module imports lancedb."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta

import numpy as np

from mmps_kd.errors import UserError
from mmps_kd.fileio import locked

from .rows import COLUMNS, DISK_FULL, READ_ONLY, Detections, Filter, GalleryImage, Rows

TABLE = 'detections'
EXACT_ROWS = 200_000
"""Above so many rows ``optimize`` builds an index for approximate search."""
PROBES, REFINE = 128, 5
"""Partitions of the index that a query visits; exact similarities are computed of so many candidates a wanted row."""
KEEP_VERSIONS = timedelta(hours=1)
"""A reader may go on so long with the files that ``optimize`` has replaced."""
RETRIES = dict(client_max_retries='3', client_retry_timeout='20', connect_timeout='5s')
"""A server that cannot be reached is reported after seconds, not after minutes."""


class LanceEngine:
    """One LanceDB table, a row for each detection.

    Each call sees the newest version of the table, as a whole. In a folder, writers take turns by a file lock. In an
    object store, where there are no locks, a merge that meets another writer's is repeated by LanceDB; ``key`` is
    declared as primary key so that this includes images that both add for the first time.

    Args:
        uri: Folder, or address such as ``s3://bucket/gallery``.

    Raises:
        UserError: If lancedb is not installed or the address cannot be reached.
    """

    name = 'lancedb'
    gives_ties = False

    def __init__(self, uri: str) -> None:
        try:
            import lancedb
        except ImportError:
            raise UserError(f"gallery {uri} needs lancedb: pip install 'mmps_kd[gallery]'") from None
        self.uri = uri
        self.is_folder = '://' not in uri
        self._lancedb = lancedb
        self._table = None
        if self.is_folder and not is_lance_folder(uri):
            return
        with self._errors('opened'):
            self._open()

    def _open(self) -> None:
        options = None if self.is_folder else RETRIES
        always = timedelta(0)
        self._db = self._lancedb.connect(self.uri, read_consistency_interval=always, storage_options=options)
        if TABLE in self._db.list_tables().tables:
            self._table = self._db.open_table(TABLE)

    @property
    def properties(self) -> dict[str, str] | None:
        """``model``, ``dim`` and ``dtype``; None before anything was added."""
        if self._table is None:
            return None
        metadata = self._table.schema.metadata or {}
        return {key.decode(): value.decode() for key, value in metadata.items()}

    def create(self, properties: dict[str, str]) -> None:
        """Make the table, unless another process has made it."""
        import pyarrow as pa

        key = pa.field('key', pa.string(), False, metadata={'lance-schema:unenforced-primary-key': 'true'})
        number = dict(float16=pa.float16(), float32=pa.float32())[properties['dtype']]
        columns = dict(
            image=pa.string(),
            number=pa.int32(),
            stamp=pa.string(),
            camera=pa.string(),
            time=pa.float64(),
            score_thr=pa.float64(),
            box=pa.list_(pa.float32(), 4),
            score=pa.float32(),
            embedding=pa.list_(number, int(properties['dim'])),
        )
        fields = [key, *(pa.field(name, columns[name]) for name in COLUMNS)]
        with self._errors('created'):
            if self.is_folder:
                os.makedirs(self.uri, exist_ok=True)
            with self._lock():
                self._open()
                if self._table is None:
                    try:
                        self._table = self._db.create_table(TABLE, schema=pa.schema(fields, metadata=properties))
                    except (OSError, RuntimeError, ValueError):  # in an object store another process was faster
                        self._open()
                        if self._table is None:
                            raise

    def stamps(self, images: Sequence[str] | None) -> dict[str, tuple[str, float]]:
        """Stamp and score threshold of the images that are there; None: of all."""
        if self._table is None:
            return {}
        where = None if images is None else Filter(images=images)
        found = self._read(where, ['image', 'stamp', 'score_thr'], 'number = 0')
        values = zip(found['stamp'].to_pylist(), found['score_thr'].to_pylist(), strict=True)
        return dict(zip(found['image'].to_pylist(), values, strict=True))

    def images(self, where: Filter) -> list[str]:
        """The names of the images that fulfil the conditions, except for that on scores."""
        if self._table is None:
            return []
        return self._read(replace(where, score_thr=None), ['image'], 'number = 0')['image'].to_pylist()

    def cameras(self) -> set[str]:
        """The cameras of all images, empty where one is not known."""
        if self._table is None:
            return set()
        return set(self._read(None, ['camera'], 'number = 0')['camera'].unique().to_pylist())

    def add(self, images: Sequence[GalleryImage], score_thr: float) -> None:
        """Add or replace images in one transaction."""
        table = to_table(images, score_thr, self._table.schema)
        where = _where(Filter(images=[image.name for image in images]))
        with self._errors('written'), self._lock():
            if self.is_folder and not self._table.count_rows(where):
                self._table.add(table, on_bad_vectors='null')  # all are new, and nobody else writes
                return
            merge = self._table.merge_insert('key').when_matched_update_all().when_not_matched_insert_all()
            # The rows that an image had beyond those it has now. Merging by the index (the default) does not notice
            # rows of the same key that another process inserts meanwhile.
            merge = merge.when_not_matched_by_source_delete(where).use_index(False)
            merge.execute(table, on_bad_vectors='null', timeout=timedelta(minutes=10))

    def remove(self, images: Sequence[str]) -> None:
        """Delete images in one transaction."""
        with self._errors('written'), self._lock():
            self._table.delete(_where(Filter(images=images)))

    def count(self, where: Filter) -> int:
        """How many detections fulfil the conditions."""
        with self._errors('read'):
            return 0 if self._table is None else self._table.count_rows(_where(where, 'score IS NOT NULL'))

    def nearest(self, queries: np.ndarray, limit: int, where: Filter, exact: bool) -> list[Rows]:
        """For each query the ``limit`` rows of largest dot product, in any order.

        Args:
            queries: (Q, D) float32.
            limit: Rows for each.
            where: Conditions.
            exact: Compare all rows; otherwise by index.
        """
        if self._table is None:
            return [to_rows(None)] * len(queries)
        with self._errors('searched'):
            search = self._table.search(queries if len(queries) > 1 else queries[0], vector_column_name='embedding')
            search = search.limit(limit).select([*COLUMNS, '_distance'])
            # Rows of images without detections have no embedding and are never found.
            condition = _where(where)
            search = search.where(condition, prefilter=True) if condition else search
            if exact:
                search = search.distance_type('dot').bypass_vector_index()
            else:  # the same order for vectors of unit length
                search = search.distance_type('cosine').nprobes(PROBES).refine_factor(REFINE)
            found = search.to_arrow()
        if len(queries) == 1:
            return [to_rows(found)]
        owners = found['query_index'].to_numpy()
        return [to_rows(found.filter(owners == number)) for number in range(len(queries))]

    def read(self, where: Filter) -> Rows:
        """The detections that fulfil the conditions."""
        return to_rows(None if self._table is None else self._read(where, list(COLUMNS), 'score IS NOT NULL'))

    def to_arrow(self) -> object:
        """All rows as a ``pyarrow.Table``."""
        return self._read(None, list(COLUMNS))

    def _read(self, where: Filter | None, columns: list[str], also: str | None = None) -> object:
        with self._errors('read'):
            search = self._table.search().select(columns)
            condition = _where(where or Filter(), also)
            return (search.where(condition) if condition else search).to_arrow()

    def optimize(self) -> None:
        """Join small files, bring new rows into the indexes; build the vector index if there are many rows."""
        from lancedb.index import BTree, IvfRq

        if self._table is None:
            return
        with self._errors('written'), self._lock():
            self._compact()
            if self._index_on('image') is None:  # for `missing`, replacing and removing
                self._table.create_index('image', config=BTree())
            rows = self._table.count_rows('score IS NOT NULL')
            if rows > EXACT_ROWS and self._index_on('embedding') is None:
                # num_bits=1 with exact similarities of the candidates: docs/gallery.md has the measurements.
                # By 'dot' recall@10 was 0.97, by 'cosine' 1.00.
                self._table.create_index('embedding', config=IvfRq(distance_type='cosine', num_bits=1))

    def _compact(self) -> None:
        """Join files; in an object store other writers may get in between."""
        for left in reversed(range(10)):
            try:
                return self._table.optimize(cleanup_older_than=KEEP_VERSIONS)
            except RuntimeError as error:
                if 'Retryable commit conflict' not in str(error) or not left:
                    raise

    def is_exact(self, where: Filter) -> bool:
        """Whether to compare all rows: there is no index, or the conditions leave so few that it would miss some."""
        if self._table is None or self._index_on('embedding') is None:
            return True
        return replace(where, not_images=None) != Filter() and self.count(where) <= EXACT_ROWS

    def _index_on(self, column: str) -> str | None:
        return next((index.name for index in self._table.list_indices() if index.columns == [column]), None)

    def info(self) -> dict:
        """State of the table: its version, files, index."""
        if self._table is None:
            return dict(index=None)
        with self._errors('read'):
            stats, index = self._table.stats(), self._index_on('embedding')
            left = self._table.index_stats(index).num_unindexed_rows if index else None
            return dict(
                version=self._table.version,
                files=stats['fragment_stats']['num_fragments'],
                bytes=stats['total_bytes'],
                index=index and 'IVF_RQ',
                rows_not_in_index=left,
            )

    def _lock(self) -> AbstractContextManager:
        return locked(os.path.join(self.uri, 'write.lock')) if self.is_folder else nullcontext()

    @contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        """Make one line of what LanceDB raises."""
        try:
            yield
        except UserError:
            raise
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0].partition(', /')[0][:300]
            if 'os error 28' in str(error) or 'No space left' in str(error):
                reason = DISK_FULL
            elif 'os error 13' in str(error) or 'os error 30' in str(error) or isinstance(error, PermissionError):
                reason = READ_ONLY
            elif server := re.search(r'RetryError.*?uri: Some\((\w+://[^/)]+)', str(error), re.DOTALL):
                reason = f'{server[1]} does not answer'
            raise UserError(f'gallery {self.uri} cannot be {done}: {reason}') from error


def is_lance_folder(folder: str) -> bool:
    """Whether a folder holds a gallery of this engine."""
    return os.path.isdir(os.path.join(folder, f'{TABLE}.lance'))


def _where(where: Filter, also: str | None = None) -> str | None:
    """The conditions as LanceDB's SQL; None if there is none. All text is quoted here, and nowhere else."""

    def within(column: str, names: Sequence[str]) -> str:
        quoted = ', '.join("'" + name.replace("'", "''") + "'" for name in names)
        return f'{column} IN ({quoted})' if names else 'false'

    parts = [also] if also else []
    if where.camera is not None:
        parts.append(within('camera', where.camera))
    if where.images is not None:
        parts.append(within('image', where.images))
    if where.not_images:
        parts.append(f'NOT ({within("image", where.not_images)})')
    if where.after is not None:
        parts.append(f'`time` >= {float(where.after)!r}')
    if where.before is not None:
        parts.append(f'`time` < {float(where.before)!r}')
    if where.score_thr is not None:
        # The scores are in single precision: 0.7 must include a score of float32(0.7).
        parts.append(f'score >= CAST({float(where.score_thr)!r} AS FLOAT)')
    return ' AND '.join(parts) if parts else None


def to_table(images: Sequence[GalleryImage], score_thr: float, schema: object) -> object:
    """A ``pyarrow.Table`` with the columns of ``schema``: a row for each detection, one for an image without any."""
    import pyarrow as pa

    counts = np.array([len(image.detections) for image in images])
    rows = np.repeat(np.arange(len(images)), np.maximum(counts, 1))
    numbers = np.concatenate([np.arange(max(count, 1)) for count in counts])
    empty = counts[rows] == 0
    type_of = {field.name: field.type for field in schema}

    def of_image(column: str, attribute: str) -> object:
        values = pa.array([getattr(image, attribute) for image in images], type_of[column])
        return values.take(pa.array(rows))

    def of_detection(column: str, attribute: str, width: int | None) -> object:
        parts = [getattr(image.detections, attribute) for image in images if len(image.detections)]
        values = np.zeros((len(rows), width) if width else len(rows), dtype=np.float32)
        if parts:
            values[~empty] = np.concatenate(parts)
        if width is None:
            return pa.array(values, type_of[column], mask=empty)
        kind = type_of[column].value_type
        flat = pa.array(values.astype(kind.to_pandas_dtype()).ravel(), kind)
        return pa.FixedSizeListArray.from_arrays(flat, width, mask=pa.array(empty))

    columns = dict(
        key=[f'{images[row].name}#{number}' for row, number in zip(rows.tolist(), numbers.tolist(), strict=True)],
        image=of_image('image', 'name'),
        number=pa.array(numbers, type_of['number']),
        stamp=of_image('stamp', 'stamp'),
        camera=of_image('camera', 'camera'),
        time=of_image('time', 'time'),
        score_thr=pa.array(np.full(len(rows), score_thr), type_of['score_thr']),
        box=of_detection('box', 'boxes', 4),
        score=of_detection('score', 'scores', None),
        embedding=of_detection('embedding', 'embeddings', type_of['embedding'].list_size),
    )
    return pa.table({field.name: columns[field.name] for field in schema}, schema=schema)


def to_rows(table: object | None) -> Rows:
    """The detections of a ``pyarrow.Table``; None stands for an empty one."""
    if table is None:
        nobody = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 0), np.float32))
        return Rows(*(np.empty(0, kind) for kind in (object, np.int64, object, np.float64)), nobody)

    def vectors(column: str) -> np.ndarray:
        width = table.schema.field(column).type.list_size
        return table[column].combine_chunks().flatten().to_numpy().astype(np.float32).reshape(len(table), width)

    return Rows(
        images=np.array(table['image'].to_pylist(), dtype=object),
        numbers=table['number'].to_numpy().astype(np.int64),
        cameras=np.array(table['camera'].to_pylist(), dtype=object),
        times=np.array(table['time'].to_pylist(), dtype=np.float64),
        detections=Detections(vectors('box'), table['score'].to_numpy().astype(np.float32), vectors('embedding')),
    )
