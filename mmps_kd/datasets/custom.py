"""Custom data sets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmdet.registry import DATASETS

from mmps_kd.errors import UserError
from mmps_kd.structures import Annotations, EvaluationSet

from .base_person_search import BasePersonSearchDataset
from .custom_json import read_coco_json
from .prw import full_gallery_protocol, read_queries


@DATASETS.register_module()
class CustomPersonSearchDataset(BasePersonSearchDataset):
    """One COCO-style JSON a split, with ``person_id`` in its annotations (below 0 or absent: unlabelled).

    The annotations of the category in ``metainfo['classes']`` are read, by default ``person``.

    For testing, each query is searched in all images but its own, or in the ``gallery`` that it names. The queries are
    those of ``query_file``, else those that the JSON lists under ``queries``, else one for each identity that appears
    in at least two images (with ``cross_camera``: of two cameras): its box of the lowest annotation id.
    docs/own_data.md shows the format.

    Args:
        ann_file: The JSON, relative to ``data_root`` or absolute.
        query_file: Query list in the form of PRW's ``query_info.txt``, relative to ``data_root`` or absolute.
        cross_camera: Leave the images of the query's own camera out of its gallery; every image names its ``camera``.
        on_absent_query: What to do with listed queries whose person is in no other image: 'error', or 'skip' to leave
            them out; a warning counts them.
        data_prefix: The image folder.
        **kwargs: As for :class:`BasePersonSearchDataset`.
    """

    METAINFO = dict(dataset_name='custom', **BasePersonSearchDataset.METAINFO)

    def __init__(
        self,
        ann_file: str,
        query_file: str | None = None,
        cross_camera: bool = False,
        on_absent_query: str = 'error',
        data_prefix: dict | None = None,
        **kwargs,
    ) -> None:
        self.query_file = query_file
        self.cross_camera = cross_camera
        self.on_absent_query = on_absent_query
        super().__init__(ann_file=ann_file, data_prefix=data_prefix or dict(img='images'), **kwargs)

    def load_train(self) -> tuple[Annotations, None]:
        """Annotations of the JSON."""
        return read_coco_json(Path(self.ann_file), self.metainfo['classes'], Path(self.data_prefix['img']))[0], None

    def load_test(self) -> tuple[Annotations, EvaluationSet]:
        """Annotations of the JSON, and the protocol ``full`` or ``cross_camera``."""
        # The base class has put data_root before both paths.
        images = Path(self.data_prefix['img'])
        query_file = None if self.query_file is None else self.root / self.query_file
        return _read_test(
            Path(self.ann_file), query_file, self.cross_camera, self.on_absent_query, self.metainfo['classes'], images
        )


def load_custom_evaluation(
    ann_file: str | Path,
    query_file: str | Path | None = None,
    cross_camera: bool = False,
    on_absent_query: str = 'error',
    classes: Sequence[str] = ('person',),
) -> EvaluationSet:
    """What a custom data set is evaluated on; needs no images. Arguments: :class:`CustomPersonSearchDataset`.

    Raises:
        UserError: If a file is missing or wrong, or a query's person is nowhere in its gallery.
    """
    query_file = None if query_file is None else Path(query_file)
    return _read_test(Path(ann_file), query_file, cross_camera, on_absent_query, classes, None)[1]


def _read_test(
    ann_file: Path,
    query_file: Path | None,
    cross_camera: bool,
    on_absent_query: str,
    classes: Sequence[str],
    image_folder: Path | None,
) -> tuple[Annotations, EvaluationSet]:
    annotations, ids, listed = read_coco_json(ann_file, classes, image_folder)
    source, galleries = ann_file, None
    cameras = _require_cameras(annotations, ann_file) if cross_camera else None
    if query_file is not None:
        source = query_file
        queries = read_queries(source, image_folder)
    else:
        if listed is None:
            boxes = _first_boxes(annotations, ids, cameras)
        else:
            position = {annotation_id: i for i, annotation_id in enumerate(ids.tolist())}
            boxes = np.array([position[annotation_id] for annotation_id in listed], dtype=np.int64)
            galleries = list(listed.values())
        images = annotations.image_names[annotations.image_of_box[boxes]]
        queries = images, annotations.boxes[boxes], annotations.pids[boxes]
    if not len(queries[0]):
        why = '"queries" is empty'
        if listed is None:
            why = f'no identity appears in two {"cameras" if cross_camera else "images"}; give a query_file'
        more = '' if listed is None else ': list annotation ids, or leave the key out, and queries are chosen'
        raise UserError(f'{source}: no query: {why}{more}')
    protocol = full_gallery_protocol(annotations, *queries, str(source), cameras, on_absent_query, galleries)
    num_absent = len(queries[0]) - protocol.num_queries
    name = 'cross_camera' if cross_camera else 'full'
    return annotations, EvaluationSet({name: protocol}, annotations.ground_truth(), num_absent)


def _require_cameras(annotations: Annotations, source: Path) -> np.ndarray:
    """(N,) str, the camera of each image."""
    cameras = annotations.cameras
    without = annotations.image_names if cameras is None else annotations.image_names[cameras == '']
    if len(without):
        raise UserError(
            f'{source}: image {without[0]} has no "camera", which cross_camera needs: name it for each image'
        )
    return cameras


def _first_boxes(annotations: Annotations, ids: np.ndarray, cameras: np.ndarray | None) -> np.ndarray:
    """Position of the box of lowest annotation id of each identity that appears in at least two images or cameras."""
    good = np.flatnonzero((annotations.boxes[:, 2:] > annotations.boxes[:, :2]).all(axis=1) & (annotations.pids >= 0))
    seen_by = annotations.image_names if cameras is None else cameras
    seen_by = np.unique(seen_by, return_inverse=True)[1][annotations.image_of_box]
    pairs = np.unique(np.stack([annotations.pids, seen_by])[:, good], axis=1)
    searched, times = np.unique(pairs[0], return_counts=True)
    by_id = good[np.argsort(ids[good], kind='stable')]
    pids, first = np.unique(annotations.pids[by_id], return_index=True)
    return by_id[first[np.isin(pids, searched[times > 1])]]
