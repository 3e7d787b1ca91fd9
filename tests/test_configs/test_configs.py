"""Every config in configs/ is built and makes one training step and one prediction."""

import functools
import re
import tempfile
from pathlib import Path

import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmps_kd.models import QEEPS
from mmps_kd.models.detectors import PersonSearchDistiller
from mmps_kd.models.distillers import LookUpTable, identities_sha256, save_lut

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(p for p in ROOT.glob('configs/*/*.py') if p.parent.name != '_base_')
PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[20, 10, 50, 90]], [0])]
PAIRS = [([20, 10, 50, 90], pids[0], boxes, pids) for boxes, pids in PEOPLE]
PROPOSALS = [[12, 10, 42, 90], [58, 18, 88, 90], [22, 14, 54, 90], [0, 0, 30, 40], [90, 10, 120, 90], [40, 50, 70, 95]]


def without_pretrained_weights(cfg):
    """Weights that would be downloaded are left out, all else stays."""
    if isinstance(cfg, dict):
        if isinstance(cfg.get('init_cfg'), dict) and cfg['init_cfg'].get('type') == 'Pretrained':
            cfg['init_cfg'] = None
        for value in cfg.values():
            without_pretrained_weights(value)
    return cfg


@pytest.fixture(scope='session')
def write_teacher():
    """Write the weights of an untrained teacher, once for each teacher config."""
    with tempfile.TemporaryDirectory() as folder:

        @functools.cache
        def write(config):
            torch.manual_seed(1)
            state = MODELS.build(Config.fromfile(config).model).state_dict()
            checkpoint = f'{folder}/{Path(config).stem}.pth'
            torch.save(dict(state_dict=state, meta={}), checkpoint)
            return dict(config=config, checkpoint=checkpoint)

        yield write


def with_teachers(cfg, write_teacher, folder):
    """Write what a distillation config reads: an untrained teacher, a table of random rows."""
    if 'teacher' in cfg.model:
        cfg.model.teacher = write_teacher(str(ROOT / cfg.model.teacher.config))
    if 'lut' in cfg.model:
        size = cfg.model.roi_head.reid_head.loss_oim.num_identities
        dim = cfg.model.roi_head.reid_head.feat_channels
        generator = torch.Generator().manual_seed(2)
        rows = torch.nn.functional.normalize(torch.randn(size, dim, generator=generator), dim=1)
        cfg.model.lut.lut_file = str(folder / 'lut.safetensors')
        save_lut(cfg.model.lut.lut_file, LookUpTable(rows, 'any', identities_sha256(range(size)), 'memory', 't', ''))
    return cfg


def fix_proposals(rpn_head, patch):
    """Exchange the proposals: an untrained RPN's scores are so close that rounding decides which RoIs are sampled."""
    propose = rpn_head.predict_by_feat

    def fixed(*args, **kwargs):
        boxes = torch.tensor(PROPOSALS, dtype=torch.float32)
        scores, labels = torch.ones(len(boxes)), torch.zeros(len(boxes), dtype=torch.long)
        return [InstanceData(bboxes=boxes.clone(), scores=scores, labels=labels) for _ in propose(*args, **kwargs)]

    patch.setattr(rpn_head, 'predict_by_feat', fixed)


# The quick suite steps one config of each kind; the slow one the others, which differ in data set or teacher alone.
QUICK = {
    'seqnet_r18-fpn_20e_cuhk-sysu',
    'qeeps_r50_20e_cuhk-sysu',
    'detector_r50_20e_cuhk-sysu',
    'oim_r50_20e_cuhk-sysu',
}
QUICK |= {'det-lut_detector-r50_oim-r50_oim_r18_20e_cuhk-sysu', 'lut_seqnet-r50_seqnet_r18_20e_cuhk-sysu'}
QUICK |= {'det-lut_detector-r101_qeeps-r50_qeeps_r50_20e_cuhk-sysu'}
STEPPED = [
    path if path.stem in QUICK or path.parent.name == 'demo' else pytest.param(path, marks=pytest.mark.slow)
    for path in CONFIGS
]


@pytest.mark.parametrize('path', STEPPED, ids=lambda p: str(p.relative_to(ROOT / 'configs')))
def test_one_step(path, make_batch, make_pairs, write_teacher, tmp_path, monkeypatch, golden_losses):
    cfg = with_teachers(Config.fromfile(path), write_teacher, tmp_path)
    # For speed; nothing else is changed.
    cfg.model.train_cfg.rcnn.sampler.num = 8
    cfg.model.test_cfg.rpn.max_per_img = 8
    torch.manual_seed(0)
    model = MODELS.build(without_pretrained_weights(cfg.model))
    model.init_weights()
    # As the runner does: only then batch norms that are to stay frozen are.
    model.train()
    batch = make_pairs(PAIRS) if isinstance(model, QEEPS) else make_batch(PEOPLE)
    data = model.data_preprocessor(batch, training=True)
    with monkeypatch.context() as patch:
        fix_proposals(model.rpn_head, patch)
        losses = model(**data, mode='loss')
    total, logged = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    if isinstance(model, PersonSearchDistiller):
        values = {name: value.item() for name, value in logged.items() if '/loss' in name}
        golden_losses.check(path.relative_to(ROOT).as_posix(), values)
    if path.parent.name == 'detector':
        return

    model.eval()
    batch = make_batch([([], [])])
    query = InstanceData(bboxes=torch.tensor([[10.0, 8, 40, 88]]), query_ids=torch.tensor([0]))
    batch['data_samples'][0].query_instances = query
    with torch.no_grad():
        (sample,) = model(**model.data_preprocessor(batch), mode='predict')
    assert sample.pred_queries.embeddings.shape == (1, model.roi_head.reid_head.loss_oim.lut.shape[1])


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: str(p.relative_to(ROOT / 'configs')))
def test_parts_outside_the_model_exist(path):
    cfg = Config.fromfile(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert DATASETS.get(loader.dataset.type) is not None
    train = cfg.train_dataloader.dataset
    for part in train.get('datasets', [train.get('dataset', train)]):
        assert DATASETS.get(part.type) is not None
        assert part.split == 'train'
    assert cfg.test_dataloader.dataset.split == 'test'
    assert cfg.test_dataloader.dataset.test_mode


def test_golden_losses_are_of_configs_that_exist(golden_losses):
    assert [config for config in golden_losses.values if not (ROOT / config).is_file()] == []


@pytest.mark.parametrize(
    'path',
    [path for path in CONFIGS if 'oim_mobilenetv2' in path.name and path.parent.name != 'real'],
    ids=lambda p: p.name,
)
def test_the_guide_to_new_backbones_shows_the_configs(path):
    shown = ''.join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith('#'))
    assert f'```python\n{shown}```' in (ROOT / 'docs/new_backbone.md').read_text()


@pytest.mark.parametrize('folder', ['oim', 'seqnet', 'qeeps', 'detector', 'kd'])
def test_the_readme_of_a_folder_lists_its_configs(folder):
    root = ROOT / 'configs' / folder
    linked = re.findall(r'^\| \[([^\]]+)\]\(\1\.py\)', (root / 'README.md').read_text(), re.MULTILINE)
    assert sorted(linked) == sorted(path.stem for path in root.glob('*.py'))


def test_the_readme_gives_a_student_another_recipe(tmp_path):
    kd = ROOT / 'configs/kd'
    (snippet,) = re.findall(r'```python\n(.+?)```', (kd / 'README.md').read_text(), re.DOTALL)
    (tmp_path / 'kd').mkdir()
    (tmp_path / '_base_').symlink_to(ROOT / 'configs/_base_')
    (tmp_path / 'kd/pkd_half.py').write_text(snippet.replace("'ddps", f"'{kd}/ddps"))
    student = Config.fromfile(kd / 'ddps_seqnet-r50-fpn_seqnet_r18-half-fpn_20e_cuhk-sysu.py').model
    recipe = Config.fromfile(kd / 'pkd_seqnet-r50-fpn_seqnet_r18-fpn_20e_cuhk-sysu.py').model.distillation
    assert Config.fromfile(tmp_path / 'kd/pkd_half.py').model == {**student, 'distillation': recipe}
