"""What the SeqNet configs set."""

from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize('path', sorted(ROOT.glob('configs/seqnet/*.py')), ids=lambda p: p.stem)
def test_published_settings(path):
    cfg = Config.fromfile(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert [step.scale for step in loader.dataset.pipeline if 'Resize' in step.type] == [(1500, 900)]
    assert cfg.val_evaluator.weight_by_score
    assert cfg.test_evaluator == cfg.val_evaluator
    head, test = cfg.model.roi_head, cfg.model.test_cfg.rcnn
    weights = [head.bbox_head.loss_bbox.loss_weight, head.second_bbox_head.loss_bbox.loss_weight]
    assert weights == [10, 1]
    assert head.first_cls_score
    assert (test.score_thr, test.nms.iou_threshold, test.second.nms.iou_threshold) == (0.5, 0.4, 0.5)
    prw = path.stem.endswith('prw')
    assert head.reid_head.loss_oim.num_identities == (483 if prw else 5532)
    assert cfg.train_cfg.max_epochs == (18 if prw else 20)


def test_the_smaller_size_is_as_it_was():
    for name in ('cuhk-sysu', 'prw'):
        cfg = Config.fromfile(ROOT / f'configs/_base_/datasets/{name}.py')
        large = Config.fromfile(ROOT / f'configs/_base_/datasets/{name}_900x1500.py')
        assert cfg.train_dataloader.dataset.pipeline[2].scale == (1000, 600)
        assert large.train_dataloader.dataset.data_root == cfg.train_dataloader.dataset.data_root
        assert large.train_dataloader.dataset.pipeline[3] == cfg.train_dataloader.dataset.pipeline[3]
