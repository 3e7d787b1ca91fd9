"""Measuring changes nothing, tells the truth, and warns of losses that do nothing; on one process and on two."""

import copy
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmps_kd.engine import DistillationDiagnosticsHook
from mmps_kd.models.distillers import Diagnostics, LookUpTable, identities_sha256, save_lut
from mmps_kd.models.distillers.terms import RoIClsTerm

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[20, 10, 50, 90]], [0])]
TERMS = [
    dict(at='backbone.0', adapter='conv3x3_relu', loss=dict(type='FeatureImitationLoss')),
    dict(at='rpn.cls', loss=dict(type='LogitDistillationLoss')),
    dict(at='roi.bbox', loss=dict(type='BoundedRegressionLoss', loss_weight=1e-9)),
    dict(at='roi.cls', loss=dict(type='LogitDistillationLoss', loss_weight=0.0)),
    dict(at='roi.embedding', loss=dict(type='IDFeatureLoss')),
]
STUDENT = ['loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_oim']
NAMES = [term['at'] for term in TERMS]
LOGGED = {
    *(f'diagnostics/grad_student/{name}' for name in STUDENT),
    *(f'diagnostics/{kind}_distill/loss_{name}' for kind in ('grad', 'share') for name in NAMES),
    *(f'diagnostics/gap_{name}' for name in (*NAMES, 'lut')),
}


@pytest.fixture
def distilled_cfg(model_cfg, build_model, tmp_path):
    """Config of a student that learns from a detector and a table."""
    Config(dict(model=model_cfg)).dump(tmp_path / 'teacher.py')
    torch.save(dict(state_dict=build_model(seed=7).state_dict(), meta={}), tmp_path / 'teacher.pth')
    rows = torch.nn.functional.normalize(torch.randn(6, 16, generator=torch.Generator().manual_seed(3)), dim=1)
    table = LookUpTable(rows, 'CUHK-SYSU', identities_sha256(range(6)), 'memory', 'teacher.py', '0' * 64)
    save_lut(tmp_path / 'lut.safetensors', table)
    return dict(
        copy.deepcopy(model_cfg),
        type='PersonSearchDistiller',
        teacher=dict(config=str(tmp_path / 'teacher.py'), checkpoint=str(tmp_path / 'teacher.pth')),
        distillation=TERMS,
        lut=dict(type='LUTDistiller', lut_file=str(tmp_path / 'lut.safetensors')),
    )


def train(model_cfg, batches, work_dir, hooks=(), launcher='none'):
    """Train on given batches, one an iteration; each rank of a distributed run has its own."""
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(model_cfg))
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=DataLoader(batches, collate_fn=lambda batch: copy.deepcopy(batch[0])),
        train_cfg=dict(by_epoch=False, max_iters=len(batches)),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1), checkpoint=None),
        custom_hooks=list(hooks),
        visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
        experiment_name=f'{Path(work_dir).parent.name}_{Path(work_dir).name}',
        log_level='WARNING',
        launcher=launcher,
        cfg=dict(model_wrapper_cfg=dict(device_ids=None, broadcast_buffers=False)),
    )
    torch.manual_seed(100 + get_rank())
    runner.train()
    return runner


def scalars(work_dir):
    """What was written for the pictures of a run, diagnostics alone."""
    (file,) = Path(work_dir).glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line for line in lines if any(key.startswith('diagnostics/') for key in line)]


def state_of(runner):
    """All that training leaves behind: weights, running statistics, table, queue, momentum, random stream."""
    momentum = runner.optim_wrapper.optimizer.state_dict()['state']
    return {
        **runner.model.state_dict(),
        **{f'momentum {index}': value['momentum_buffer'] for index, value in momentum.items()},
        'random': torch.get_rng_state(),
    }


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_training_is_the_same_bit_for_bit(distilled_cfg, make_batch, tmp_path):
    batches = [make_batch(PEOPLE, seed=seed) for seed in range(5)]
    without = train(distilled_cfg, batches, tmp_path / 'without')
    measured = train(distilled_cfg, batches, tmp_path / 'with', [DistillationDiagnosticsHook(interval=2)])
    assert_same(state_of(without), state_of(measured))
    assert measured.model.diagnostics is None

    lines = scalars(tmp_path / 'with')
    assert [(line['iter'], line['step']) for line in lines] == [(2, 2), (4, 4)]
    assert all(set(line) == LOGGED | {'iter', 'step'} for line in lines)
    hub = measured.message_hub
    assert all(hub.get_scalar(key).data[0].tolist() == [line[key] for line in lines] for key in LOGGED)
    assert scalars(tmp_path / 'without') == []


def test_shares_are_parts_of_the_summed_norms(distilled_cfg, make_batch, tmp_path):
    train(distilled_cfg, [make_batch(PEOPLE)], tmp_path / 'run', [DistillationDiagnosticsHook(interval=1)])
    (line,) = scalars(tmp_path / 'run')
    total = sum(value for key, value in line.items() if key.startswith('diagnostics/grad_'))
    for name in NAMES:
        norm, share = (line[f'diagnostics/{kind}_distill/loss_{name}'] for kind in ('grad', 'share'))
        assert share == pytest.approx(norm / total, rel=1e-5)
    assert line['diagnostics/share_distill/loss_roi.cls'] == 0
    assert line['diagnostics/share_distill/loss_backbone.0'] > 0


def test_inert_losses_are_warned_about_once(distilled_cfg, make_batch, tmp_path, monkeypatch):
    messages = []
    monkeypatch.setattr('mmengine.logging.MMLogger.warning', lambda _, text, *args: messages.append(text))
    batches = [make_batch(PEOPLE, seed=seed) for seed in range(5)]
    hook = DistillationDiagnosticsHook(interval=1, window=3, inert_share=1e-9)
    train(distilled_cfg, batches, tmp_path / 'run', [hook])
    (message,) = [text for text in messages if 'inert' in text]
    assert message.startswith('distill/loss_roi.bbox is inert: its share of the gradients')
    assert 'raise its loss_weight' in message


@pytest.mark.parametrize(
    ('norms', 'warns'),
    [
        ([0.5, 0.5], False),  # the window is not full
        ([0.5, 0.5, 0.5], True),
        ([0.5, 2.0, 0.5], False),  # one measurement is above
        ([2.0, 0.5, 0.5, 0.5], True),
        ([0.5, float('inf'), 0.5], False),  # an overflow is no measurement
        ([0.5, float('inf'), 0.5, 0.5], True),
    ],
)
def test_window(build_model, request, norms, warns):
    messages, hook = [], DistillationDiagnosticsHook(window=3, inert_share=0.01)
    model = build_model(type='PersonSearchDistiller')
    model.names, model.distillation = ['cls'], torch.nn.ModuleList([RoIClsTerm(dict(type='LogitDistillationLoss'))])
    logger = SimpleNamespace(info=lambda _: None, warning=messages.append)
    hub = MessageHub(request.node.name)
    visualizer = SimpleNamespace(add_scalars=lambda *_, **__: None)
    runner = SimpleNamespace(model=model, iter=0, logger=logger, message_hub=hub, visualizer=visualizer)
    for norm in norms:
        grads = {'distill/loss_cls': torch.tensor(norm), 'student/loss_cls': torch.tensor(99.0)}
        model.diagnostics = Diagnostics(grad_norms=grads)
        hook.after_train_iter(runner, 0)
    assert len(messages) == warns


def test_a_batch_without_people_has_nothing_to_compare(distilled_cfg, make_batch, tmp_path):
    batch = make_batch([([], []), ([], [])])
    train(distilled_cfg, [batch], tmp_path / 'run', [DistillationDiagnosticsHook(interval=1)])
    (line,) = scalars(tmp_path / 'run')
    nothing = {'diagnostics/gap_roi.bbox', 'diagnostics/gap_roi.embedding', 'diagnostics/gap_lut'}
    assert set(line) == (LOGGED - nothing) | {'iter', 'step'}
    assert line['diagnostics/grad_student/loss_oim'] == 0


def test_a_frozen_backbone_still_has_gaps(distilled_cfg, make_batch, tmp_path):
    distilled_cfg['backbone'].frozen_stages = distilled_cfg['backbone'].num_stages
    distilled_cfg['distillation'] = TERMS[1:]
    hook = DistillationDiagnosticsHook(interval=1, window=1)
    runner = train(distilled_cfg, [make_batch(PEOPLE)], tmp_path / 'run', [hook])
    assert not any(p.requires_grad for p in runner.model.backbone.parameters())
    (line,) = scalars(tmp_path / 'run')
    assert set(line) == {f'diagnostics/gap_{name}' for name in (*NAMES[1:], 'lut')} | {'iter', 'step'}


def test_a_plain_student_has_none(model_cfg, make_batch, tmp_path):
    train(model_cfg, [make_batch(PEOPLE)], tmp_path / 'run', [DistillationDiagnosticsHook(interval=1)])
    assert scalars(tmp_path / 'run') == []


def test_the_loss_scale_of_mixed_precision_is_used(build_model):
    model = build_model(type='PersonSearchDistiller')
    scaler = SimpleNamespace(get_scale=lambda: 1024.0)
    runner = SimpleNamespace(model=model, iter=499, optim_wrapper=SimpleNamespace(loss_scaler=scaler))
    DistillationDiagnosticsHook(interval=500).before_train_iter(runner, 499)
    assert model.diagnostics == Diagnostics(loss_scale=1024.0)


@pytest.mark.slow
def test_two_processes(distilled_cfg, make_batch, tmp_path):
    batches = [[make_batch([people], seed=seed) for seed in range(3)] for people in PEOPLE]
    torch.save(dict(cfg=Config(distilled_cfg), batches=batches), tmp_path / 'task.pth')
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    command = [sys.executable, __file__, str(tmp_path)]
    processes = [subprocess.Popen([*command, rank], env={**env, 'LOCAL_RANK': rank}) for rank in '01']
    assert [process.wait(timeout=200) for process in processes] == [0, 0]
    ranks = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    for rank in ranks:
        assert_same(rank['without'], rank['with'])
        assert rank['diagnostics'] == LOGGED
    lines = scalars(tmp_path / 'with')  # of the main rank alone
    assert [line['iter'] for line in lines] == [1, 2, 3]


def work(folder, rank):
    """One rank's part of :func:`test_two_processes`."""
    init_default_scope('mmdet')
    torch.set_num_threads(1)
    logging.getLogger('mmengine').setLevel(logging.WARNING)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/group', rank=rank, world_size=2)
    task = torch.load(folder / 'task.pth', weights_only=False)
    results = {}
    for name, hooks in (('without', []), ('with', [DistillationDiagnosticsHook(interval=1)])):
        runner = train(task['cfg']._cfg_dict, task['batches'][rank], folder / name, hooks, launcher='pytorch')
        results[name] = state_of(runner)
    results['diagnostics'] = {key for key in runner.message_hub.log_scalars if key.startswith('diagnostics/')}
    torch.save(results, folder / f'{rank}.pth')
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    work(Path(sys.argv[1]), int(sys.argv[2]))
