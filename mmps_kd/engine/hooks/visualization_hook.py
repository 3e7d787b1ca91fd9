"""Pictures of detections and rankings while testing."""

from pathlib import Path

import numpy as np
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mmps_kd.datasets.image_files import decode_scene
from mmps_kd.evaluation.functional import RankedBoxes, SearchProtocol
from mmps_kd.evaluation.metrics import BaseSearchMetric
from mmps_kd.visualization import RankingPicture, draw_ranking


@HOOKS.register_module()
class PersonSearchVisualizationHook(DetVisualizationHook):
    """mmdet's pictures of detections, and after testing the ranked strips of some queries.

    Args:
        num_queries: Queries that are drawn, spread evenly over the main protocol.
        topk: People shown for each.
        **kwargs: As for mmdet's ``DetVisualizationHook``; ``draw`` and ``test_out_dir`` hold for both.
    """

    def __init__(self, num_queries: int = 8, topk: int = 10, **kwargs) -> None:
        super().__init__(**kwargs)
        self.num_queries = num_queries
        self.topk = topk

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draw rankings into ``<test_out_dir>/rankings``."""
        if not self.draw or self.test_out_dir is None or not is_main_process():
            return
        dataset = runner.test_dataloader.dataset
        protocol = dataset.metainfo['evaluation'].main
        metric = next(m for m in runner.test_evaluator.metrics if isinstance(m, BaseSearchMetric))
        out_dir = Path(runner.work_dir, runner.timestamp, self.test_out_dir, 'rankings')
        out_dir.mkdir(parents=True, exist_ok=True)
        queries = np.unique(np.linspace(0, protocol.num_queries - 1, self.num_queries).round().astype(int)).tolist()
        for query in queries:
            ranked = metric.rank(query, self.topk)
            picture = _picture(Path(dataset.data_prefix['img']), protocol, query, ranked)
            picture.save(out_dir / f'query_{query:04d}.png')
        runner.logger.info(f'rankings of {len(queries)} queries are drawn in {out_dir}')


def _picture(img_root: Path, protocol: SearchProtocol, query: int, ranked: RankedBoxes):
    def read(name: str) -> np.ndarray:
        return decode_scene(img_root / name)[..., ::-1]

    rows = zip(ranked.image_names, ranked.boxes, ranked.similarities, ranked.is_match, strict=True)
    title = (
        f'query {query} in {protocol.query_images[query]}: '
        f'{int(ranked.is_match.sum())} of {ranked.num_truths} found among the {len(ranked.boxes)} most similar'
    )
    return draw_ranking(
        read(protocol.query_images[query]),
        protocol.query_boxes[query],
        title,
        [RankingPicture(read(name), box, float(sim), bool(match), str(name)) for name, box, sim, match in rows],
    )
