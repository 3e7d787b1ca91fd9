"""Search mAP and top-k of query-guided models for MMEngine's evaluator."""

from collections.abc import Sequence

import numpy as np
import torch
from mmdet.registry import METRICS

from mmps_kd.structures import PairResults, RankedBoxes

from ..functional import evaluate_pairs, rank_pairs, save_pairs
from .search_metric import BaseSearchMetric, print_table, search_figures, search_header, table_row


@METRICS.register_module()
class QueryGuidedSearchMetric(BaseSearchMetric):
    """Evaluate a query-guided model on the main protocol that the dataset brings along.

    To be used with :class:`QueryGuidedTestLoop` and :class:`QueryGuidedValLoop`: each sample carries
    ``pair_query_ids`` (n,), the queries that its image was searched for, and ``pred_pairs``, for each of them an
    InstanceData of ``bboxes`` in original pixels, ``scores`` and ``similarities``.

    Figures, as fractions: ``mAP``, ``top1``, ...

    Args:
        **kwargs: As for :class:`BaseSearchMetric`; ``out_file`` gets an array for each field of :class:`PairResults`.
    """

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

    def collate(self, results: list[dict]) -> PairResults:
        """See :func:`collate_pairs`."""
        return collate_pairs(results)

    def save(self, path: str) -> None:
        """Write the pairs."""
        save_pairs(path, self.last_results)

    @property
    def figure_names(self) -> list[str]:
        """Those of the search."""
        return ['mAP', *(f'top{k}' for k in self.topk)]

    def score(self) -> dict[str, float]:
        """Score all pairs of the main protocol."""
        scores = evaluate_pairs(self.last_results, self.evaluation.main, score_thr=self.score_thr, topk=self.topk)
        self.last_scores = scores
        figures = search_figures(scores)
        print_table([search_header(self.topk), table_row(next(iter(self.evaluation.protocols)), figures)])
        return figures

    def rank(self, query: int, topk: int) -> RankedBoxes:
        """Rank the boxes of a query's pairs."""
        return rank_pairs(self.last_results, self.evaluation.main, query, score_thr=self.score_thr, topk=topk)


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
