"""Custom data sets."""

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

    For testing, each query is searched in all images but its own. The queries are those of ``query_file``, else
    those that the JSON lists under ``queries``, else one for each identity that appears in at least two images: its
    box of the lowest annotation id. docs/own_data.md shows the format.

    Args:
        ann_file: The JSON, relative to ``data_root`` or absolute.
        query_file: Query list in the form of PRW's ``query_info.txt``, relative to ``data_root`` or absolute.
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
        on_absent_query: str = 'error',
        data_prefix: dict | None = None,
        **kwargs,
    ) -> None:
        self.query_file = query_file
        self.on_absent_query = on_absent_query
        super().__init__(ann_file=ann_file, data_prefix=data_prefix or dict(img='images'), **kwargs)

    def load_train(self) -> tuple[Annotations, None]:
        """Annotations of the JSON."""
        return self._read()[0], None

    def load_test(self) -> tuple[Annotations, EvaluationSet]:
        """Annotations of the JSON, and the protocol ``full``."""
        annotations, ids, listed = self._read()
        source = self.ann_file
        if self.query_file is not None:
            source = self.root / self.query_file
            queries = read_queries(source, Path(self.data_prefix['img']))
        else:
            if listed is None:
                boxes = _first_boxes(annotations, ids)
            else:
                position = {annotation_id: i for i, annotation_id in enumerate(ids.tolist())}
                boxes = np.array([position[annotation_id] for annotation_id in listed], dtype=np.int64)
            images = annotations.image_names[annotations.image_of_box[boxes]]
            queries = images, annotations.boxes[boxes], annotations.pids[boxes]
        if not len(queries[0]):
            why = 'no identity appears in two images; give a query_file' if listed is None else '"queries" is empty'
            more = '' if listed is None else ': list annotation ids, or leave the key out, and queries are chosen'
            raise UserError(f'{source}: no query: {why}{more}')
        protocol = full_gallery_protocol(
            annotations, *queries, source=str(source), on_absent_query=self.on_absent_query
        )
        num_absent = len(queries[0]) - protocol.num_queries
        return annotations, EvaluationSet({'full': protocol}, annotations.ground_truth(), num_absent)

    def _read(self) -> tuple[Annotations, np.ndarray, list[int] | None]:
        # The base class has put data_root before both paths.
        return read_coco_json(Path(self.ann_file), self.metainfo['classes'], Path(self.data_prefix['img']))


def _first_boxes(annotations: Annotations, ids: np.ndarray) -> np.ndarray:
    """Position of the box of lowest annotation id of each identity that appears in at least two images."""
    good = np.flatnonzero((annotations.boxes[:, 2:] > annotations.boxes[:, :2]).all(axis=1))
    by_id = good[np.argsort(ids[good], kind='stable')]
    pids, first = np.unique(annotations.pids[by_id], return_index=True)
    single = annotations.without_empty_boxes().single_image_pids()
    return by_id[first[(pids >= 0) & ~np.isin(pids, single)]]
