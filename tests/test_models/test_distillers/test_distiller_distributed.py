"""Two processes train one distilled student: no unused parameters, no teacher in the wrapper, equal weights."""

import os
import subprocess
import sys

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope

import mmps_kd  # noqa: F401  registers the parts

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[20, 10, 50, 90]], [0])]
EMPTY = [([], []), ([], [])]
UNLABELLED = [([[5, 5, 50, 90]], [-1]), ([], [])]
# What each rank sees in each step: people on both, on one, on none; labelled ones on one.
STEPS = [(PEOPLE, PEOPLE), (PEOPLE, EMPTY), (EMPTY, PEOPLE), (EMPTY, EMPTY), (UNLABELLED, PEOPLE)]
NEAR = dict(adapter='conv3x3_relu', mask='fine_grained', loss=dict(type='FeatureImitationLoss', mode='fine_grained'))
TERMS = [
    dict(at='backbone.0', loss=dict(type='FeatureImitationLoss')),
    dict(at='backbone.0', name='near', **NEAR),
    dict(at='rpn.cls', loss=dict(type='LogitDistillationLoss')),
    dict(at='rpn.bbox', loss=dict(type='BoundedRegressionLoss')),
    dict(at='roi.cls', loss=dict(type='LogitDistillationLoss')),
    dict(at='roi.bbox', loss=dict(type='BoundedRegressionLoss')),
    dict(at='roi.embedding', loss=dict(type='IDFeatureLoss')),
]


def run(folder, rank):
    """Train one of two ranks; returns its state before and after, and what the wrapper averages."""
    model = MODELS.build(Config.fromfile(f'{folder}/student.py').model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrapper = MMDistributedDataParallel(model, broadcast_buffers=False)
    optim_wrapper = OptimWrapper(torch.optim.SGD(wrapper.parameters(), lr=0.01, momentum=0.9))
    torch.manual_seed(rank)
    for batch in torch.load(f'{folder}/batches{rank}.pth', weights_only=False):
        wrapper.train_step(batch, optim_wrapper)
    return dict(
        before=before,
        after=model.state_dict(),
        teacher=model.teacher.model.state_dict(),
        averaged=wrapper._get_ddp_logging_data()['num_parameter_tensors'],
    )


@pytest.fixture
def ranks(model_cfg, teacher, lut, make_batch, tmp_path):
    student = dict(model_cfg, type='PersonSearchDistiller', teacher=teacher, lut=lut, distillation=TERMS)
    Config(dict(model=student)).dump(tmp_path / 'student.py')
    for rank in range(2):
        batches = [make_batch(people[rank], seed=2 * step + rank) for step, people in enumerate(STEPS)]
        torch.save(batches, tmp_path / f'batches{rank}.pth')
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    processes = [subprocess.Popen([sys.executable, __file__, str(tmp_path), str(rank)], env=env) for rank in range(2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    return [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]


@pytest.mark.slow
def test_both_ranks_hold_the_same_student_and_their_teacher_is_left_alone(ranks, build_model, teacher, lut):
    first, second = ranks
    model = build_model(type='PersonSearchDistiller', teacher=teacher, lut=lut, distillation=TERMS)
    parameters = dict(model.named_parameters())
    # Batch norm's statistics are each rank's own; what is averaged or gathered is not.
    shared = {*parameters, *(name for name in model.state_dict() if 'loss_oim' in name)}
    assert all(torch.equal(first['after'][name], second['after'][name]) for name in shared)
    # The last layers to be reached by a gradient have moved: the adaptation layers, and those of the first stage.
    assert all(not torch.equal(first['after'][name], first['before'][name]) for name in parameters)
    assert torch.equal(first['after']['roi_head.reid_head.loss_oim.lut'], model.lut_distiller.table.rows)
    for rank in ranks:
        assert rank['averaged'] == len(parameters)
        teachers = model.teacher.model.state_dict()
        assert all(torch.equal(value, teachers[name]) for name, value in rank['teacher'].items())


if __name__ == '__main__':
    out, this_rank = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    init_default_scope('mmdet')
    torch.distributed.init_process_group('gloo', init_method=f'file://{out}/group', rank=this_rank, world_size=2)
    torch.save(run(out, this_rank), f'{out}/{this_rank}.pth')
    torch.distributed.destroy_process_group()
