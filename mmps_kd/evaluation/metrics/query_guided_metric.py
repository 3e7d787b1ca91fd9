"""Search mAP and top-k of query-guided models for MMEngine's evaluator."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from mmps_kd.errors import UserError

from ..functional import (
    EvaluationSet,
    PairResults,
    RankedBoxes,
    SearchProtocol,
    evaluate_pairs,
    rank_pairs,
    save_pairs,
)
from .tables import print_table, search_figures, search_header, table_row


@METRICS.register_module()
class QueryGuidedSearchMetric(BaseMetric):
    """Evaluate a query-guided model on the main protocol that the dataset brings along.

    To be used with :class:`QueryGuidedTestLoop` and :class:`QueryGuidedValLoop`: each sample carries
    ``pair_query_ids`` (n,), the queries that its image was searched for, and ``pred_pairs``, for each of them an
    InstanceData of ``bboxes`` in original pixels, ``scores`` and ``similarities``.

    Figures, as fractions: ``mAP``, ``top1``, ...

    Args:
        score_thr: Detections below it take no part in the search.
        topk: Ranks k of the top-k figures.
        out_file: Write the pairs to this npz file, an array for each field of :class:`PairResults`.
        collect_device: See ``BaseMetric``.
        prefix: See ``BaseMetric``.
    """

    default_prefix = 'search'

    def __init__(
        self,
        score_thr: float = 0.5,
        topk: Sequence[int] = (1, 5, 10),
        out_file: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if out_file is not None and not out_file.endswith('.npz'):
            raise UserError(f'the results file {out_file} must end in .npz')
        self.score_thr = score_thr
        self.topk = tuple(topk)
        self.out_file = out_file
        self.last_results: PairResults | None = None
        """The pairs of the last evaluation, on the main process: what pictures are drawn from."""

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the pairs of each image, as NumPy arrays."""
        for sample in data_samples:
            pairs = sample['pred_pairs']
            boxes = [np.zeros((0, 5), np.float32)]
            boxes += [torch.column_stack([pair.bboxes, pair.scores]).float().cpu().numpy() for pair in pairs]
            # Probabilities may be told apart in double precision alone.
            similarities = [np.zeros(0)] + [pair.similarities.double().cpu().numpy() for pair in pairs]
            self.results.append(
                dict(
                    img_name=sample['img_name'],
                    query_ids=sample['pair_query_ids'].cpu().numpy(),
                    num_dets=np.array([len(pair) for pair in pairs], dtype=np.int64),
                    boxes=np.concatenate(boxes),
                    similarities=np.concatenate(similarities),
                )
            )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Score all pairs.

        Returns:
            Figures by name, fractions in 0..1.
        """
        self.last_results = collate_pairs(results)
        if self.out_file is not None:
            Path(self.out_file).parent.mkdir(parents=True, exist_ok=True)
            save_pairs(self.out_file, self.last_results)
        name, protocol = self._main_protocol()
        figures = search_figures(evaluate_pairs(self.last_results, protocol, score_thr=self.score_thr, topk=self.topk))
        print_table([search_header(self.topk), table_row(name, figures)])
        return figures

    def rank(self, query: int, topk: int) -> RankedBoxes:
        """Rank the boxes that the last evaluation found for a query."""
        _, protocol = self._main_protocol()
        return rank_pairs(self.last_results, protocol, query, score_thr=self.score_thr, topk=topk)

    def _main_protocol(self) -> tuple[str, SearchProtocol]:
        evaluation: EvaluationSet = self.dataset_meta['evaluation']
        return next(iter(evaluation.protocols.items()))


def collate_pairs(results: list[dict]) -> PairResults:
    """Join the pairs of all images; of an image that two processes were given, one answer is kept.

    Args:
        results: One dict an image and block of queries: ``img_name``, ``query_ids`` (n,), ``num_dets`` (n,),
            ``boxes`` (m, 5), ``similarities`` (m,).
    """
    # A distributed sampler repeats images so that all processes have as many.
    different = {(res['img_name'], res['query_ids'].tobytes()): res for res in results}.values()
    joined = {key: np.concatenate([res[key] for res in different]) for key in ('query_ids', 'num_dets', 'similarities')}
    return PairResults(
        image_names=np.repeat([res['img_name'] for res in different], [len(res['query_ids']) for res in different]),
        boxes=np.concatenate([res['boxes'] for res in different]).astype(np.float64),
        **joined,
    )
