"""Search mAP, top-k and detection figures for MMEngine's evaluator."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from terminaltables import AsciiTable

from mmps_kd.errors import UserError
from mmps_kd.structures import EvaluationSet, PairResults, RankedBoxes, SearchProtocol, SearchResults, SearchScores

from ..functional import CBGM, evaluate_detection, evaluate_search, rank_gallery, save_results

DETECTION_FIGURES = ('det_ap', 'det_recall', 'det_recall_labelled')


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
        last_scores: Its figures under the main protocol.
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
    last_scores: SearchScores | None = None
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

    @property
    @abstractmethod
    def figure_names(self) -> list[str]:
        """Names of the figures that :meth:`score` gives."""

    @abstractmethod
    def score(self) -> dict[str, float]:
        """Figures of the last results, printed as tables too."""

    @abstractmethod
    def rank(self, query: int, topk: int) -> RankedBoxes:
        """Rank the boxes that the last evaluation found for a query of the main protocol."""


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
        rerank: Re-rank so many of the most similar boxes of each query by their k-reciprocal neighbours; None for none.
        **kwargs: As for :class:`BaseSearchMetric`; ``out_file`` is for ``tools/eval_results.py``.
    """

    def __init__(
        self,
        det_score_thr: float | None = None,
        cbgm: dict | None = None,
        weight_by_score: bool = False,
        rerank: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.det_score_thr = self.score_thr if det_score_thr is None else det_score_thr
        self.cbgm = None if cbgm is None else CBGM(**cbgm)
        self.weight_by_score = weight_by_score
        self.rerank = rerank

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
                rerank=self.rerank,
            )
            search = search_figures(scores)
            rows.append(table_row(name, search))
            if not figures:
                self.last_scores = scores
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


def search_figures(scores: SearchScores) -> dict[str, float]:
    """``mAP``, ``top1``, ... as fractions."""
    return dict(mAP=scores.mAP, **{f'top{k}': share for k, share in scores.topk.items()})


def search_header(topk: Sequence[int]) -> list[str]:
    """First line of a table of search figures."""
    return ['search (%)', 'mAP', *(f'top-{k}' for k in topk)]


def table_row(name: str, figures: Mapping[str, float]) -> list[str]:
    """A line of figures, given as fractions."""
    return [name, *(f'{100 * value:.2f}' for value in figures.values())]


def print_table(rows: list[list[str]]) -> None:
    """Write a table to the log."""
    print_log('\n' + AsciiTable(rows).table, logger='current')
