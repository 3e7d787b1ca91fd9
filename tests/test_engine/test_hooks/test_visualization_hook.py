"""When the hook draws what, and where it goes."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from mmps_kd.engine import PersonSearchVisualizationHook


@pytest.fixture
def make_sample(tmp_path):
    """A detected person in an image on disk, by the image's name."""

    def make(name):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((600, 800, 3), 90, np.uint8))
        meta = dict(img_shape=(600, 800), ori_shape=(600, 800), img_path=str(path), img_name=name)
        sample = DetDataSample(metainfo=meta)
        box = dict(bboxes=torch.tensor([[100, 120, 200, 400.0]]))
        sample.gt_instances = InstanceData(pids=torch.tensor([5]), **box)
        sample.pred_instances = InstanceData(scores=torch.tensor([0.9]), **box)
        return sample

    return make


@pytest.fixture
def run(tmp_path):
    """Of a runner what the hook looks at, and where backends write."""
    backends = [dict(type='LocalVisBackend')]
    cfg = dict(type='PersonSearchVisualizer', name=f'hook {tmp_path}', vis_backends=backends, save_dir=str(tmp_path))
    return SimpleNamespace(
        model=torch.nn.Identity(),
        work_dir=str(tmp_path),
        timestamp='now',
        iter=100,
        visualizer=VISUALIZERS.build(cfg),
        logger=SimpleNamespace(info=lambda _: None),
    )


def make_hook(run, **options):
    hook = PersonSearchVisualizationHook(**{'draw': True, **options})
    hook._visualizer = run.visualizer
    return hook


def written(tmp_path):
    return sorted(path.name for path in tmp_path.glob('vis_data/vis_image/*'))


def test_validation_draws_the_first_image_at_the_interval(run, make_sample, tmp_path):
    hook = make_hook(run, interval=3)
    for index in range(6):
        hook.after_val_iter(run, index, {}, [make_sample('a.png'), make_sample('b.png')])
    assert written(tmp_path) == ['val_img_102.png', 'val_img_105.png']


def test_testing_draws_every_image_to_the_backends(run, make_sample, tmp_path):
    hook = make_hook(run)
    hook.after_test_iter(run, 0, {}, [make_sample('a.png'), make_sample('b.png')])
    hook.after_test_iter(run, 1, {}, [make_sample('c.png')])
    assert written(tmp_path) == ['test_img_1.png', 'test_img_2.png', 'test_img_3.png']


def test_images_of_one_name_in_two_folders_stay_two(run, make_sample, tmp_path):
    hook = make_hook(run, test_out_dir='show')
    hook.after_test_iter(run, 0, {}, [make_sample('cam1/a.png'), make_sample('cam2/a.png')])
    files = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / 'now').glob('**/*.png'))
    assert files == ['now/show/cam1/a.png', 'now/show/cam2/a.png']
    assert written(tmp_path) == []


@pytest.mark.parametrize(('draw', 'main'), [(False, True), (True, False)])
def test_nothing_is_drawn_where_it_should_not_be(run, make_sample, tmp_path, monkeypatch, draw, main):
    monkeypatch.setattr('mmps_kd.engine.hooks.visualization_hook.is_main_process', lambda: main)
    hook = make_hook(run, draw=draw, interval=1, test_out_dir='show')
    hook.after_val_iter(run, 0, {}, [make_sample('a.png')])
    hook.after_test_iter(run, 0, {}, [make_sample('a.png')])
    hook.after_val_epoch(run)
    hook.after_test_epoch(run)
    assert written(tmp_path) == []
    assert not (tmp_path / 'now').exists()


def test_a_detector_has_no_rankings(run):
    run.test_evaluator = SimpleNamespace(metrics=[])
    run.test_dataloader = SimpleNamespace(dataset=None)
    hook = make_hook(run, test_out_dir='show')
    hook.after_test_epoch(run)
    assert not (hook._out_dir(run) / 'rankings').exists()


def test_validating_a_distilled_student(run_configs, tmp_path):
    cfg = Config.fromfile(run_configs['detector'], import_custom_modules=False)
    cfg.custom_hooks, cfg.work_dir, cfg.launcher = [], str(tmp_path), 'none'
    cfg.experiment_name = cfg.visualizer.name = f'drawn {tmp_path}'
    cfg.default_hooks.visualization.update(draw=True, interval=10, num_queries=2)
    cfg.model.test_cfg.rcnn.score_thr = 0.0
    cfg.val_evaluator.score_thr = 0.0
    Runner.from_cfg(cfg).val()
    files = {path.name: path for path in tmp_path.glob('*/vis_data/vis_image/*')}
    assert set(files) == {
        'val_distillation_0.png',
        'val_img_0.png',
        'val_img_10.png',
        'val_ranking_0000_0.png',
        'val_ranking_0004_0.png',
    }
    height, width = cv2.imread(str(files['val_img_0.png'])).shape[:2]
    # Teacher, student and heat map stand beside each other, ground truth and detections do.
    assert cv2.imread(str(files['val_distillation_0.png'])).shape == (height, width + (width + 12) // 2, 3)
