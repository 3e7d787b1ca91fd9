"""PRW as it is downloaded."""

from mmdet.registry import DATASETS

from mmps_kd.structures import EvaluationSet

from .annotations import Annotations
from .annotations.prw import read_prw
from .base_person_search import BasePersonSearchDataset
from .protocols.prw import prw_evaluation


@DATASETS.register_module()
class PRWDataset(BasePersonSearchDataset):
    """PRW (Zheng et al., CVPR 2017): 11,816 frames of six cameras, 932 identities.

    ``data_root`` is the folder that holds ``frames``, ``annotations``, ``frame_train.mat``, ``frame_test.mat`` and
    ``query_info.txt``. The training frames hold 483 labelled identities, though papers say 482.

    Args:
        query_info: Query list, relative to ``data_root`` or absolute.
        cross_camera: Leave the frames of the query's own camera out of its gallery.
        on_absent_query: What to do with queries whose person is nowhere in their gallery: 'error', or 'skip' to leave
            them out; a warning counts them.
        data_prefix: The image folder.
        **kwargs: As for :class:`BasePersonSearchDataset`.
    """

    METAINFO = dict(dataset_name='PRW', **BasePersonSearchDataset.METAINFO)

    def __init__(
        self,
        query_info: str = 'query_info.txt',
        cross_camera: bool = False,
        on_absent_query: str = 'error',
        data_prefix: dict | None = None,
        **kwargs,
    ) -> None:
        self.query_info = query_info
        self.cross_camera = cross_camera
        self.on_absent_query = on_absent_query
        super().__init__(data_prefix=data_prefix or dict(img='frames'), **kwargs)

    def load_train(self) -> tuple[Annotations, None]:
        """People of the training frames."""
        return read_prw(self.root, 'train'), None

    def load_test(self) -> tuple[Annotations, EvaluationSet]:
        """People of the test frames, and the protocol."""
        people = read_prw(self.root, 'test')
        query_info = self.root / self.query_info
        return people, prw_evaluation(people, query_info, self.cross_camera, self.on_absent_query)
