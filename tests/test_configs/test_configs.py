"""Every config in configs/ is built and makes one training step and one prediction."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmps_kd.models.distillers import LookUpTable, identities_sha256, save_lut

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(p for p in ROOT.glob('configs/*/*.py') if p.parent.name != '_base_')
PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[20, 10, 50, 90]], [0])]


def without_pretrained_weights(cfg):
    """Weights that would be downloaded are left out, all else stays."""
    if isinstance(cfg, dict):
        if isinstance(cfg.get('init_cfg'), dict) and cfg['init_cfg'].get('type') == 'Pretrained':
            cfg['init_cfg'] = None
        for value in cfg.values():
            without_pretrained_weights(value)
    return cfg


def with_teachers(cfg, folder):
    """Write what a distillation config reads: the weights of an untrained teacher, a table of random rows."""
    if 'teacher' in cfg.model:
        teacher = Config.fromfile(ROOT / cfg.model.teacher.config).model
        torch.manual_seed(1)
        state = MODELS.build(teacher).state_dict()
        cfg.model.teacher = dict(config=str(ROOT / cfg.model.teacher.config), checkpoint=str(folder / 'teacher.pth'))
        torch.save(dict(state_dict=state, meta={}), folder / 'teacher.pth')
    if 'lut' in cfg.model:
        size = cfg.model.roi_head.reid_head.loss_oim.num_identities
        dim = cfg.model.roi_head.reid_head.feat_channels
        generator = torch.Generator().manual_seed(2)
        rows = torch.nn.functional.normalize(torch.randn(size, dim, generator=generator), dim=1)
        cfg.model.lut.lut_file = str(folder / 'lut.safetensors')
        save_lut(cfg.model.lut.lut_file, LookUpTable(rows, 'any', identities_sha256(range(size)), 'memory', 't', ''))
    return cfg


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: str(p.relative_to(ROOT / 'configs')))
def test_one_step(path, make_batch, tmp_path):
    cfg = with_teachers(Config.fromfile(path), tmp_path)
    cfg.model.train_cfg.rcnn.sampler.num = 8  # for speed; nothing else is changed
    torch.manual_seed(0)
    model = MODELS.build(without_pretrained_weights(cfg.model))
    model.init_weights()
    data = model.data_preprocessor(make_batch(PEOPLE), training=True)
    losses = model(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    if path.parent.name == 'detector':
        return

    model.eval()
    batch = make_batch([([], [])])
    query = InstanceData(bboxes=torch.tensor([[10.0, 8, 40, 88]]), query_ids=torch.tensor([0]))
    batch['data_samples'][0].query_instances = query
    with torch.no_grad():
        (sample,) = model(**model.data_preprocessor(batch), mode='predict')
    assert sample.pred_queries.embeddings.shape == (1, model.roi_head.reid_head.fc.out_features)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: str(p.relative_to(ROOT / 'configs')))
def test_parts_outside_the_model_exist(path):
    cfg = Config.fromfile(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert DATASETS.get(loader.dataset.type) is not None
    assert cfg.train_dataloader.dataset.split == 'train'
    assert cfg.test_dataloader.dataset.split == 'test'
    assert cfg.test_dataloader.dataset.test_mode
