"""What the search metrics share."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmengine.evaluator import BaseMetric

from mmps_kd.errors import UserError

from ..functional import EvaluationSet, PairResults, RankedBoxes, SearchResults


class ProtocolMetric(BaseMetric):
    """A metric whose truth is ``metainfo['evaluation']`` of the test set; it is looked for before the test starts."""

    @property
    def dataset_meta(self) -> dict | None:
        """The test set's ``metainfo``."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        # mmdet's ConcatDataset gives a list.
        if not isinstance(dataset_meta, dict) or 'evaluation' not in dataset_meta:
            raise UserError(
                f'{type(self).__name__}: the test set has no protocol: test on one person-search data set with '
                "split='test'; several test sets are tested one by one"
            )
        self._dataset_meta = dataset_meta

    @property
    def evaluation(self) -> EvaluationSet:
        """What the dataset is evaluated on."""
        return self.dataset_meta['evaluation']


class BaseSearchMetric(ProtocolMetric):
    """Collects what a test found, writes it to a file if asked to, and scores it under the dataset's protocols.

    Attributes:
        last_results: What the last evaluation found, on the main process: what pictures are drawn from.
        model_score_thr: Score below which the model drops detections, from :class:`ScoreThresholdHook`; None if it is
            not known. It is written to ``out_file``.

    Args:
        score_thr: Detections below it take no part in the search. Not below the model's own threshold
            (``model.test_cfg.rcnn.score_thr``), which drops detections before they get here.
        topk: Ranks k of the top-k figures.
        out_file: Write what was found to this npz file.
        **kwargs: As for ``BaseMetric``.
    """

    default_prefix = 'search'
    last_results: SearchResults | PairResults | None = None
    model_score_thr: float | None = None

    def __init__(
        self, score_thr: float = 0.5, topk: Sequence[int] = (1, 5, 10), out_file: str | None = None, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        if out_file is not None and not out_file.endswith('.npz'):
            raise UserError(f'the results file {out_file} must end in .npz')
        self.score_thr = score_thr
        self.topk = tuple(topk)
        self.out_file = out_file

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Score the whole test set.

        Returns:
            Figures by name, fractions in 0..1.
        """
        self.last_results = replace(self.collate(results), score_thr=self.model_score_thr)
        if self.out_file is not None:
            Path(self.out_file).parent.mkdir(parents=True, exist_ok=True)
            self.save(self.out_file)
        return self.score()

    @abstractmethod
    def collate(self, results: list[dict]) -> SearchResults | PairResults:
        """Join what was kept of each image."""

    @abstractmethod
    def save(self, path: str) -> None:
        """Write the last results."""

    @abstractmethod
    def score(self) -> dict[str, float]:
        """Figures of the last results, printed as tables too."""

    @abstractmethod
    def rank(self, query: int, topk: int) -> RankedBoxes:
        """Rank the boxes that the last evaluation found for a query of the main protocol."""
