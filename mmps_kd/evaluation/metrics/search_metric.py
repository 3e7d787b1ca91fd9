"""Search mAP, top-k and detection figures for MMEngine's evaluator."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from mmps_kd.errors import UserError

from ..functional import (
    CBGM,
    EvaluationSet,
    RankedBoxes,
    SearchProtocol,
    SearchResults,
    evaluate_detection,
    evaluate_search,
    rank_gallery,
    save_results,
)
from .tables import print_table, search_figures, search_header, table_row


@METRICS.register_module()
class SearchMetric(BaseMetric):
    """Evaluate person search on the protocols that the dataset brings along.

    The test dataset's ``metainfo['evaluation']`` holds the protocols and the annotated people; each sample carries
    ``pred_instances`` (``bboxes`` in original pixels, ``scores``, ``embeddings``) and, where a query lies in the
    image, ``pred_queries`` (``query_ids``, ``embeddings``). All protocols are scored from the same forward passes.

    Figures, as fractions: ``mAP``, ``top1``, ... of the main (first) protocol; ``<protocol>/mAP``, ... of each where
    there are several; ``det_ap``, ``det_recall``, ``det_recall_labelled`` where the annotations are at hand.

    Args:
        score_thr: Detections below it take no part in the search.
        det_score_thr: The same for the detection figures; ``score_thr`` if None.
        topk: Ranks k of the top-k figures.
        cbgm: ``dict(k1=..., k2=...)`` to re-rank by context bipartite graph matching; None for none.
        weight_by_score: Multiply each similarity by the detection score (confidence-weighted similarity).
        out_file: Write detections and embeddings to this npz file, for ``tools/eval_results.py``.
        collect_device: See ``BaseMetric``.
        prefix: See ``BaseMetric``.
    """

    default_prefix = 'search'

    def __init__(
        self,
        score_thr: float = 0.5,
        det_score_thr: float | None = None,
        topk: Sequence[int] = (1, 5, 10),
        cbgm: dict | None = None,
        weight_by_score: bool = False,
        out_file: str | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if out_file is not None and not out_file.endswith('.npz'):
            raise UserError(f'the results file {out_file} must end in .npz')
        self.score_thr = score_thr
        self.det_score_thr = score_thr if det_score_thr is None else det_score_thr
        self.topk = tuple(topk)
        self.cbgm = None if cbgm is None else CBGM(**cbgm)
        self.weight_by_score = weight_by_score
        self.out_file = out_file
        self.last_results: SearchResults | None = None
        """Detections and embeddings of the last evaluation, on the main process: what pictures are drawn from."""

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

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Score the whole test set.

        Returns:
            Figures by name, fractions in 0..1.
        """
        evaluation: EvaluationSet = self.dataset_meta['evaluation']
        self.last_results = collate_results(results, next(iter(evaluation.protocols.values())))
        if self.out_file is not None:
            Path(self.out_file).parent.mkdir(parents=True, exist_ok=True)
            save_results(self.out_file, self.last_results)
        return self._score(self.last_results, evaluation)

    def rank(self, query: int, topk: int) -> RankedBoxes:
        """Rank the boxes that the last evaluation found for a query of the main protocol."""
        protocol = next(iter(self.dataset_meta['evaluation'].protocols.values()))
        return rank_gallery(self.last_results, protocol, query, score_thr=self.score_thr, topk=topk)

    def _score(self, results: SearchResults, evaluation: EvaluationSet) -> dict[str, float]:
        figures, rows = {}, []
        for name, protocol in evaluation.protocols.items():
            scores = evaluate_search(
                results,
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
            if len(evaluation.protocols) > 1:
                figures.update({f'{name}/{key}': value for key, value in search.items()})
        print_table([search_header(self.topk), *rows])
        if evaluation.ground_truth is not None:
            det = evaluate_detection(results, evaluation.ground_truth, score_thr=self.det_score_thr)
            detection = dict(det_ap=det.ap, det_recall=det.recall, det_recall_labelled=det.recall_labelled)
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
