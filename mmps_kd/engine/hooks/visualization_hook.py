"""Pictures of detections, rankings and distillation while validating and testing."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from PIL import Image

from mmps_kd.datasets.base_person_search import BasePersonSearchDataset
from mmps_kd.evaluation.metrics import BaseSearchMetric

from .distillation_picture import picture_distillation
from .ranking_picture import picture_ranking, read_scene
from .unwrap import unwrapped_distiller


@HOOKS.register_module()
class PersonSearchVisualizationHook(DetVisualizationHook):
    """mmdet's pictures of detections, the ranked strips of some queries, and the student beside its teacher.

    Off by default, as in mmdet. With ``draw``, which ``tools/test.py --show-dir`` sets:

    - testing draws every image, and the rankings after it, into ``<work dir>/<timestamp>/<test_out_dir>`` or, without
      that, to the visualizer's backends;
    - validation hands to the backends an image every ``interval`` iterations, the rankings, and for a
      :class:`PersonSearchDistiller` with a detector teacher the first image as both see it.

    In a distributed run the main process draws what it sees itself, and the rankings.

    Args:
        num_queries: Queries that are drawn, spread evenly over the main protocol.
        topk: People shown for each.
        **kwargs: As for mmdet's ``DetVisualizationHook``, without ``backend_args``: images are read from disk, as
            training reads them. A ``score_thr`` below the model's own is refused.
    """

    def __init__(self, num_queries: int = 8, topk: int = 10, **kwargs) -> None:
        super().__init__(**kwargs)
        self.asked_score_thr: float | None = kwargs.get('score_thr')
        self.num_queries = num_queries
        self.topk = topk

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[DetDataSample]
    ) -> None:
        """Draw the first image of the batch at the interval, and what its teacher makes of the very first."""
        if not self.draw or not is_main_process():
            return
        step = runner.iter + batch_idx
        if step % self.interval == 0:
            self._draw_sample('val_img', outputs[0], step)
        distiller = unwrapped_distiller(runner)
        if batch_idx == 0 and distiller is not None and distiller.teacher is not None:
            scene = read_scene(outputs[0].img_path)
            picture = picture_distillation(distiller, scene, data_batch, outputs[0], self.score_thr)
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
        """Draw rankings into ``<test_out_dir>/rankings``, or to the backends."""
        if not self.draw or not is_main_process():
            return
        for query, picture in self._rankings(runner.test_evaluator, runner.test_dataloader.dataset):
            if self.test_out_dir is None:
                runner.visualizer.add_image(f'test_ranking_{query:04d}', np.asarray(picture))
            else:
                picture.save(self._out_dir(runner, 'rankings') / f'query_{query:04d}.png')
        if self.test_out_dir is not None:
            runner.logger.info(f'pictures are in {self._out_dir(runner)}')

    def _out_dir(self, runner: Runner, folder: str = '') -> Path:
        path = Path(runner.work_dir, runner.timestamp, self.test_out_dir, folder)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _draw_sample(self, name: str, sample: DetDataSample, step: int, out_file: str | None = None) -> None:
        self._visualizer.add_datasample(
            sample.img_name if self.show else name,
            read_scene(sample.img_path),
            data_sample=sample,
            show=self.show,
            wait_time=self.wait_time,
            pred_score_thr=self.score_thr,
            out_file=out_file,
            step=step,
        )

    def _rankings(self, evaluator: Evaluator, dataset: BasePersonSearchDataset) -> Iterator[tuple[int, Image.Image]]:
        """Some queries and their strips; none where search is not evaluated."""
        metric = next((metric for metric in evaluator.metrics if isinstance(metric, BaseSearchMetric)), None)
        if metric is None:
            return
        protocol = dataset.metainfo['evaluation'].main
        queries = np.linspace(0, protocol.num_queries - 1, self.num_queries).round().astype(int)
        for query in np.unique(queries).tolist():
            yield query, picture_ranking(Path(dataset.data_prefix['img']), protocol, query, metric, self.topk)
