"""Check before a run that no metric asks for detections that the model drops."""

from mmdet.registry import HOOKS
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmps_kd.evaluation.functional import check_score_thr
from mmps_kd.evaluation.metrics import BaseSearchMetric, PersonDetectionMetric

from ..unwrap import unwrapped_model
from .visualization_hook import PersonSearchVisualizationHook


@HOOKS.register_module()
class ScoreThresholdHook(Hook):
    """Compare the score thresholds of metrics and pictures with that of the model, and hand it to the metrics.

    A model drops detections below ``model.test_cfg.rcnn.score_thr``. A lower threshold after it changes no figure and
    would stand beside it as a wrong label.
    """

    def before_train(self, runner: Runner) -> None:
        """Check validation before hours of training.

        Raises:
            UserError: If a threshold is below the model's; names it.
        """
        if runner.val_loop is not None:
            self._check(runner, runner.val_evaluator)

    def before_val(self, runner: Runner) -> None:
        """Check validation."""
        self._check(runner, runner.val_evaluator)

    def before_test(self, runner: Runner) -> None:
        """Check the test."""
        self._check(runner, runner.test_evaluator)

    def _check(self, runner: Runner, evaluator: Evaluator) -> None:
        model_score_thr = score_threshold(unwrapped_model(runner))
        for metric in evaluator.metrics:
            if isinstance(metric, BaseSearchMetric | PersonDetectionMetric):
                for key in ('score_thr', 'det_score_thr'):
                    if hasattr(metric, key):
                        check_score_thr(model_score_thr, getattr(metric, key), f'{type(metric).__name__}.{key}')
                metric.model_score_thr = model_score_thr
        for hook in runner.hooks:
            if isinstance(hook, PersonSearchVisualizationHook) and hook.draw and hook.asked_score_thr is not None:
                check_score_thr(model_score_thr, hook.asked_score_thr, f'{type(hook).__name__}.score_thr')


def score_threshold(model: nn.Module) -> float | None:
    """Score below which a detector, two-stage or one-stage, drops detections; 0 for none, None if it is not known."""
    if getattr(model, 'test_cfg', None) is None:
        return None
    if model.test_cfg.get('true_boxes', False):
        return 0.0  # annotated boxes take the place of detections, and all are kept
    cfg = model.roi_head.test_cfg if hasattr(model, 'roi_head') else model.test_cfg
    return float(cfg.get('score_thr', 0.0))
