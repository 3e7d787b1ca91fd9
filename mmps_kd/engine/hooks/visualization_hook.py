"""Visualization of detections, rankings and distillation in validation and testing."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from PIL import Image

from mmps_kd.datasets.base_person_search import BasePersonSearchDataset
from mmps_kd.datasets.image_files import decode_image
from mmps_kd.evaluation.functional import RankedBoxes, SearchProtocol, mean_precision_at_recall
from mmps_kd.evaluation.metrics import BaseSearchMetric
from mmps_kd.models.detectors import PersonSearchDistiller
from mmps_kd.models.distillers.teacher import DetectorTeacher
from mmps_kd.models.distillers.terms import FeatureTerm
from mmps_kd.visualization import (
    MissedPicture,
    RankingPicture,
    draw_detections,
    draw_ranking,
    in_pixels_of,
    join_panels,
)
from mmps_kd.visualization.distillation import draw_difference, feature_difference, spread_over_image
from mmps_kd.visualization.report import EvaluatedQuery, evaluation_report, write_report

from ..unwrap import unwrapped_distiller

MAX_MISSED = 5
CMC_RANKS = np.arange(1, 51)
_FIGURES = dict(det_ap='detection AP', det_recall='detection recall', det_recall_labelled='recall, labelled')


@HOOKS.register_module()
class PersonSearchVisualizationHook(DetVisualizationHook):
    """Draw detections as mmdet does, the rankings of some queries, and the student beside its teacher.

    Off by default, as in mmdet. With ``draw``, which ``tools/test.py --show-dir`` sets:

    - testing draws every image, and the rankings after it, into ``<work dir>/<timestamp>/<test_out_dir>``, with
      ``report.html`` of the whole evaluation, or, without that, to the visualizer's backends;
    - validation hands to the backends an image every ``interval`` iterations, the rankings, and for a
      :class:`PersonSearchDistiller` with a detector teacher the first image as both see it.

    In a distributed run the main process draws what it sees itself, and the rankings.

    Args:
        num_queries: Queries that are drawn, spread evenly over the main protocol.
        topk: Detections shown for each.
        report_queries: Queries in ``report.html``, those of the lowest AP.
        **kwargs: As for mmdet's ``DetVisualizationHook``, without ``backend_args``: images are read from disk, as
            training reads them. A ``score_thr`` below the model's own is refused.
    """

    def __init__(self, num_queries: int = 8, topk: int = 10, report_queries: int = 20, **kwargs) -> None:
        super().__init__(**kwargs)
        self.asked_score_thr: float | None = kwargs.get('score_thr')
        self.num_queries = num_queries
        self.topk = topk
        self.report_queries = report_queries

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[DetDataSample]
    ) -> None:
        """Draw the first image of the batch at the interval, and the very first beside its teacher."""
        if not self.draw or not is_main_process():
            return
        step = runner.iter + batch_idx
        if step % self.interval == 0:
            self._draw_sample('val_img', outputs[0], step)
        distiller = unwrapped_distiller(runner)
        if batch_idx == 0 and distiller is not None and isinstance(distiller.teacher, DetectorTeacher):
            image = read_image(outputs[0].img_path)
            picture = draw_distillation(distiller, image, data_batch, outputs[0], self.score_thr)
            runner.visualizer.add_image('val_distillation', picture, step)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[DetDataSample]
    ) -> None:
        """Draw every image."""
        if not self.draw or not is_main_process():
            return
        for sample in outputs:
            self._test_index += 1
            file = None if self.test_out_dir is None else str(self._out_dir(runner) / sample.img_name)
            self._draw_sample('test_img', sample, self._test_index, file)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draw rankings to the backends."""
        if self.draw and is_main_process():
            for query, picture in self._rankings(runner.val_evaluator, runner.val_dataloader.dataset):
                runner.visualizer.add_image(f'val_ranking_{query:04d}', np.asarray(picture), runner.iter)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draw rankings into ``<test_out_dir>/rankings``, or to the backends; write ``<test_out_dir>/report.html``."""
        if not self.draw or not is_main_process():
            return
        for query, picture in self._rankings(runner.test_evaluator, runner.test_dataloader.dataset):
            if self.test_out_dir is None:
                runner.visualizer.add_image(f'test_ranking_{query:04d}', np.asarray(picture))
            else:
                picture.save(self._out_dir(runner, 'rankings') / f'query_{query:04d}.png')
        if self.test_out_dir is not None:
            folder, dataset = self._out_dir(runner), runner.test_dataloader.dataset
            metric = _search_metric(runner.test_evaluator)
            if metric is not None:
                title = f'{runner.experiment_name}: {dataset.metainfo["dataset_name"]}'
                html = report_evaluation(folder, title, dataset, metric, metrics, self.report_queries, self.topk)
                write_report(folder / 'report.html', html)
            runner.logger.info(f'pictures are in {folder}')

    def _out_dir(self, runner: Runner, folder: str = '') -> Path:
        path = Path(runner.work_dir, runner.timestamp, self.test_out_dir, folder)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _draw_sample(self, name: str, sample: DetDataSample, step: int, out_file: str | None = None) -> None:
        self._visualizer.add_datasample(
            sample.img_name if self.show else name,
            read_image(sample.img_path),
            data_sample=sample,
            show=self.show,
            wait_time=self.wait_time,
            pred_score_thr=self.score_thr,
            out_file=out_file,
            step=step,
        )

    def _rankings(self, evaluator: Evaluator, dataset: BasePersonSearchDataset) -> Iterator[tuple[int, Image.Image]]:
        """Some queries and their drawn rankings; none where search is not evaluated."""
        metric = _search_metric(evaluator)
        if metric is None:
            return
        protocol = dataset.metainfo['evaluation'].main
        queries = np.linspace(0, protocol.num_queries - 1, self.num_queries).round().astype(int)
        for query in np.unique(queries).tolist():
            yield query, draw_query(Path(dataset.data_prefix['img']), protocol, query, metric, self.topk)


def _search_metric(evaluator: Evaluator) -> BaseSearchMetric | None:
    return next((metric for metric in evaluator.metrics if isinstance(metric, BaseSearchMetric)), None)


@torch.no_grad()
def draw_distillation(
    distiller: PersonSearchDistiller, image: np.ndarray, data_batch: dict, output: DetDataSample, score_thr: float
) -> np.ndarray:
    """Draw what teacher and student detect, and for each feature loss where their features differ.

    Args:
        distiller: With a detector teacher, in eval mode.
        image: (H, W, 3) uint8 RGB, the first image of the batch.
        data_batch: As the data loader gives it.
        output: The student's prediction for the image.
        score_thr: Detections with a lower score are left out.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    first = {key: value[:1] for key, value in data_batch.items()}
    data = distiller.data_preprocessor(first, False)
    inputs, samples = data['inputs'], data['data_samples']
    teacher_feats = distiller.teacher.extract_feat(inputs, samples)
    taught = output.new()
    taught.pred_instances = distiller.teacher.predict(inputs, samples)[0].pred_instances
    panels = []
    for name, sample in (('teacher', in_pixels_of(image, taught)), ('student', in_pixels_of(image, output))):
        found = sample.pred_instances
        panels.append(draw_detections(image, found[found.scores >= score_thr], sample.get('gt_instances'), name))
    student_feats = distiller.extract_feat(inputs)
    for name, term in zip(distiller.names, distiller.distillation, strict=True):
        if isinstance(term, FeatureTerm):
            adapted = term.adapter(student_feats[term.level].float())
            difference = feature_difference(adapted[0], teacher_feats[term.teacher_level][0])
            spread = spread_over_image(difference, inputs.shape[-2:], samples[0].img_shape)
            distance = difference.square().mean().sqrt()
            panels.append(draw_difference(image, spread, f'{name}: difference is {distance:.2f} of the teacher norm'))
    return join_panels(panels)


def draw_query(
    img_root: Path, protocol: SearchProtocol, query: int, metric: BaseSearchMetric, topk: int
) -> Image.Image:
    """Draw a query, the detections most similar to it, and up to five of its true boxes that are not among them.

    Args:
        img_root: Where the images are.
        protocol: The main protocol.
        query: Position in it.
        metric: After evaluation.
        topk: Detections shown.
    """
    ranked = metric.rank(query, topk=sys.maxsize)
    missed = find_missed(ranked, protocol.of_query(query), topk)
    shown = zip(ranked.image_names, ranked.boxes, ranked.similarities, ranked.is_match, range(topk), strict=False)
    return draw_ranking(
        read_image(img_root / protocol.query_images[query]),
        protocol.query_boxes[query],
        _title(protocol.query_images[query], query, ranked, missed, topk),
        [RankingPicture(read_image(img_root / name), box, sim, match, name) for name, box, sim, match, _ in shown],
        [MissedPicture(read_image(img_root / name), box, rank, name) for name, box, rank in missed[:MAX_MISSED]],
    )


def report_evaluation(
    folder: Path,
    title: str,
    dataset: BasePersonSearchDataset,
    metric: BaseSearchMetric,
    figures: dict[str, float],
    num_queries: int,
    topk: int,
) -> str:
    """HTML report of an evaluation under the main protocol: figures, curves, the queries of the lowest AP.

    Args:
        folder: Where the report will be.
        title: What was evaluated.
        dataset: The test set.
        metric: After evaluation.
        figures: What the evaluator gave, fractions by name with the metric's prefix.
        num_queries: Queries shown.
        topk: Detections shown for each.
    """
    root, protocol, scores = Path(dataset.data_prefix['img']), dataset.metainfo['evaluation'].main, metric.last_scores
    queries = []
    for query in np.argsort(scores.ap, kind='stable')[:num_queries].tolist():
        ranked = metric.rank(query, topk=sys.maxsize)
        missed = find_missed(ranked, protocol.of_query(query), topk)[:MAX_MISSED]
        shown = replace(
            ranked,
            image_names=np.array([str(root / name) for name in ranked.image_names[:topk]], dtype=str),
            boxes=ranked.boxes[:topk],
            scores=ranked.scores[:topk],
            similarities=ranked.similarities[:topk],
            is_match=ranked.is_match[:topk],
        )
        queries.append(
            EvaluatedQuery(
                number=query,
                name=str(root / protocol.query_images[query]),
                box=protocol.query_boxes[query],
                ap=float(scores.ap[query]),
                first_hit=int(scores.first_hit[query]),
                ranked=shown,
                missed=[(str(root / name), box, rank) for name, box, rank in missed],
            )
        )
    levels, order = np.linspace(0, 1, 101), np.sort(scores.ap)
    precision = mean_precision_at_recall(scores.hit_precision, scores.hit_offsets, scores.num_truths, levels)
    first = scores.first_hit[:, None]
    curves = [
        ('Precision and recall, mean over the queries', 'recall', 'precision', levels, precision),
        (
            'Queries with a right hit among the first k',
            'k',
            'top-k',
            CMC_RANKS,
            ((first > 0) & (first <= CMC_RANKS)).mean(0),
        ),
        ('AP of each query, the worst first', 'share of the queries', 'AP', np.linspace(0, 1, len(order)), order),
    ]
    named = {
        _FIGURES.get(name, name.replace('top', 'top-')): figures[f'{metric.prefix}/{name}']
        for name in metric.figure_names
    }
    return evaluation_report(
        folder,
        title,
        named,
        curves,
        queries,
        protocol.num_queries,
        lambda wanted: ((name, read_image(name), 1) for name in sorted(wanted)),
    )


def find_missed(ranked: RankedBoxes, single: SearchProtocol, topk: int) -> list[tuple[str, np.ndarray, int | None]]:
    """True boxes that are not among the most similar ones, those ranked best first.

    Args:
        ranked: The ranking of the whole gallery.
        single: Protocol of the one query.
        topk: How many of the ranking count.

    Returns:
        Image name, true box (4,) and rank, counted from 1, None if it was not detected. Of a true image that the
        protocol lists twice the first box alone.
    """
    rank_of = {ranked.image_names[index]: int(index) + 1 for index in np.flatnonzero(ranked.is_match)}
    names = single.gallery_images[single.truth_images]
    missed = [
        (str(names[index]), single.truth_boxes[index], rank_of.get(names[index]))
        for index in np.sort(np.unique(names, return_index=True)[1])
        if rank_of.get(names[index], sys.maxsize) > topk
    ]
    return sorted(missed, key=lambda entry: entry[2] or sys.maxsize)


def _title(image_name: str, query: int, ranked: RankedBoxes, missed: list[tuple], topk: int) -> str:
    undetected = [rank for _, _, rank in missed].count(None)
    further_down = len(missed) - undetected
    found, shown = ranked.is_match[:topk].sum(), min(topk, len(ranked.boxes))
    title = f'query {query} in {image_name}: {found} of {ranked.num_truths} found among the {shown} most similar'
    title += f', {further_down} further down' if further_down else ''
    return title + (f', {undetected} not detected' if undetected else '')


def read_image(path: str | Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB, pixels as stored, as evaluation sees it."""
    return np.ascontiguousarray(decode_image(path)[..., ::-1])
