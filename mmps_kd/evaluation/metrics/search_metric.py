"""Search mAP, top-k and detection figures for MMEngine's evaluator."""

from collections.abc import Sequence

import numpy as np
from mmdet.registry import METRICS

from ..functional import (
    CBGM,
    RankedBoxes,
    SearchProtocol,
    SearchResults,
    evaluate_detection,
    evaluate_search,
    rank_gallery,
    save_results,
)
from .base_search_metric import BaseSearchMetric
from .person_detection_metric import DETECTION_FIGURES
from .tables import print_table, search_figures, search_header, table_row


@METRICS.register_module()
class SearchMetric(BaseSearchMetric):
    """Evaluate person search on the protocols that the dataset brings along.

    The test dataset's ``metainfo['evaluation']`` holds the protocols and the annotated people; each sample carries
    ``pred_instances`` (``bboxes`` in original pixels, ``scores``, ``embeddings``) and, where a query lies in the
    image, ``pred_queries`` (``query_ids``, ``embeddings``). All protocols are scored from the same forward passes.

    Figures, as fractions: ``mAP``, ``top1``, ... of the main (first) protocol; ``<protocol>/mAP``, ... of each where
    there are several; ``det_ap``, ``det_recall``, ``det_recall_labelled`` where the annotations are at hand.

    Args:
        det_score_thr: The same for the detection figures; ``score_thr`` if None.
        cbgm: Settings of :class:`CBGM` to re-rank by context bipartite graph matching; None for none.
        weight_by_score: Multiply each similarity by the detection score (confidence-weighted similarity).
        **kwargs: As for :class:`BaseSearchMetric`; ``out_file`` is for ``tools/eval_results.py``.
    """

    def __init__(
        self, det_score_thr: float | None = None, cbgm: dict | None = None, weight_by_score: bool = False, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.det_score_thr = self.score_thr if det_score_thr is None else det_score_thr
        self.cbgm = None if cbgm is None else CBGM(**cbgm)
        self.weight_by_score = weight_by_score

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep what evaluation needs of each image, as NumPy arrays."""
        for sample in data_samples:
            pred = sample['pred_instances']
            queries = sample.get('pred_queries')
            self.results.append(
                dict(
                    img_name=sample['img_name'],
                    boxes=np.column_stack([pred['bboxes'].cpu().numpy(), pred['scores'].cpu().numpy()]),
                    embeddings=pred['embeddings'].float().cpu().numpy(),
                    query_ids=np.zeros(0, int) if queries is None else queries['query_ids'].cpu().numpy(),
                    query_embeddings=None if queries is None else queries['embeddings'].float().cpu().numpy(),
                )
            )

    def collate(self, results: list[dict]) -> SearchResults:
        """See :func:`collate_results`."""
        return collate_results(results, self.evaluation.main)

    def save(self, path: str) -> None:
        """Write detections and embeddings."""
        save_results(path, self.last_results)

    def rank(self, query: int, topk: int) -> RankedBoxes:
        """Rank the boxes that the last evaluation found for a query of the main protocol."""
        return rank_gallery(self.last_results, self.evaluation.main, query, score_thr=self.score_thr, topk=topk)

    @property
    def figure_names(self) -> list[str]:
        """Those of the main protocol, of each protocol where there are several, and of detection."""
        search, protocols = ['mAP', *(f'top{k}' for k in self.topk)], self.evaluation.protocols
        each = [f'{name}/{key}' for name in protocols for key in search] if len(protocols) > 1 else []
        return search + each + ([] if self.evaluation.ground_truth is None else list(DETECTION_FIGURES))

    def score(self) -> dict[str, float]:
        """Score the search under each protocol, and detection where the annotations are at hand."""
        figures, rows = {}, []
        for name, protocol in self.evaluation.protocols.items():
            scores = evaluate_search(
                self.last_results,
                protocol,
                score_thr=self.score_thr,
                topk=self.topk,
                cbgm=self.cbgm,
                weight_by_score=self.weight_by_score,
            )
            search = search_figures(scores)
            rows.append(table_row(name, search))
            if not figures:
                figures.update(search)
            if len(self.evaluation.protocols) > 1:
                figures.update({f'{name}/{key}': value for key, value in search.items()})
        print_table([search_header(self.topk), *rows])
        if self.evaluation.ground_truth is not None:
            det = evaluate_detection(self.last_results, self.evaluation.ground_truth, score_thr=self.det_score_thr)
            detection = dict(zip(DETECTION_FIGURES, (det.ap, det.recall, det.recall_labelled), strict=True))
            print_table([['detection (%)', 'AP', 'recall', 'recall labelled'], table_row('all people', detection)])
            figures.update(detection)
        return figures


def collate_results(results: list[dict], protocol: SearchProtocol) -> SearchResults:
    """Join per-image predictions into flat arrays; queries are put in the protocol's order.

    Args:
        results: One dict an image: ``img_name``, ``boxes`` (n, 5), ``embeddings`` (n, D), ``query_ids`` (q,) and
            ``query_embeddings`` (q, D) or None.
        protocol: Where the queries' images and boxes come from.
    """
    queries = [res for res in results if len(res['query_ids'])]
    order = np.argsort(np.concatenate([res['query_ids'] for res in queries]), kind='stable')
    return SearchResults(
        image_names=np.array([res['img_name'] for res in results]),
        num_dets=np.array([len(res['boxes']) for res in results], dtype=np.int64),
        boxes=np.concatenate([res['boxes'] for res in results]).astype(np.float64),
        embeddings=np.concatenate([res['embeddings'] for res in results]),
        query_embeddings=np.concatenate([res['query_embeddings'] for res in queries])[order],
        query_images=protocol.query_images,
        query_boxes=protocol.query_boxes,
    )
