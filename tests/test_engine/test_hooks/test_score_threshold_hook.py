"""Thresholds of metrics and pictures against that of the model."""

from types import SimpleNamespace

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.visualization import Visualizer

from mmps_kd.engine.hooks import PersonSearchVisualizationHook, ScoreThresholdHook
from mmps_kd.errors import UserError
from mmps_kd.evaluation import QueryGuidedSearchMetric, SearchMetric
from mmps_kd.evaluation.metrics import PersonDetectionMetric


def check(model, *metrics, hooks=()):
    """Run the hook's three checks, which agree."""
    evaluator = SimpleNamespace(metrics=metrics)
    runner = SimpleNamespace(model=model, val_loop=1, val_evaluator=evaluator, test_evaluator=evaluator, hooks=hooks)
    messages = []
    for point in ('before_train', 'before_val', 'before_test'):
        try:
            getattr(ScoreThresholdHook(), point)(runner)
        except UserError as error:
            messages.append(str(error))
    assert len(messages) in (0, 3)
    return messages[0] if messages else None


@pytest.mark.parametrize(
    ('metric', 'key'),
    [
        (SearchMetric(score_thr=0.25), 'SearchMetric.score_thr'),
        (SearchMetric(det_score_thr=0.01), 'SearchMetric.det_score_thr'),
        (QueryGuidedSearchMetric(score_thr=0.25), 'QueryGuidedSearchMetric.score_thr'),
        (PersonDetectionMetric(score_thr=0.25), 'PersonDetectionMetric.score_thr'),
    ],
)
def test_a_metric_below_the_model(build_model, model_cfg, metric, key):
    message = check(build_model(), SearchMetric(), metric)
    assert message.startswith(f"{key}: the model's own score_thr of 0.5 drops detections below it")
    model_cfg.test_cfg.rcnn.score_thr = 0.01
    assert check(build_model(), SearchMetric(), metric) is None
    assert metric.model_score_thr == 0.01


def test_a_model_above_the_default(build_model, model_cfg):
    model_cfg.test_cfg.rcnn.score_thr = 0.7
    assert 'model.test_cfg.rcnn.score_thr=0.5, or ask for 0.7 or more' in check(build_model(), SearchMetric())


def test_true_boxes_are_all_kept(build_model, model_cfg):
    model_cfg.test_cfg.true_boxes = True
    metric = SearchMetric(score_thr=0.0)
    assert check(build_model(), metric) is None
    assert metric.model_score_thr == 0


def test_other_detectors(repo_root):
    cfg = Config.fromfile(repo_root / 'configs/detector/detector_r50_20e_cuhk-sysu.py')
    assert check(MODELS.build(cfg.model), PersonDetectionMetric(score_thr=0.25)).startswith('PersonDetectionMetric')
    one_stage = SimpleNamespace(test_cfg=dict(score_thr=0.05))
    assert check(one_stage, PersonDetectionMetric(score_thr=0.01)).endswith('or ask for 0.05 or more')
    assert check(one_stage, PersonDetectionMetric(score_thr=0.05)) is None


def test_pictures_below_the_model(build_model):
    Visualizer.get_instance('visualizer')
    assert check(build_model(), hooks=[PersonSearchVisualizationHook(draw=True)]) is None
    assert check(build_model(), hooks=[PersonSearchVisualizationHook(score_thr=0.1)]) is None
    message = check(build_model(), hooks=[PersonSearchVisualizationHook(draw=True, score_thr=0.1)])
    assert message.startswith('PersonSearchVisualizationHook.score_thr: ')
