"""The teacher's table in the student's loss: frozen, thawed, projected; and the whole model that trains on it."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import HOOKS, MODELS
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper

from mmps_kd.engine.hooks.lut_hook import LUTHook
from mmps_kd.errors import UserError
from mmps_kd.models.distillers import LookUpTable, LUTDistiller, identities_sha256, save_lut
from mmps_kd.models.distillers.lut import project_pca
from mmps_kd.models.losses import OIMLoss


def random_unit(n, dim, seed=0):
    return F.normalize(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def table_of(rows, identities=None):
    identities = tuple(range(len(rows))) if identities is None else identities
    return LookUpTable(rows, 'CUHK-SYSU', identities_sha256(identities), 'memory', 't.py', 'ab')


@pytest.fixture
def lut_file(tmp_path):
    path = tmp_path / 'lut.safetensors'
    save_lut(path, table_of(random_unit(6, 16)))
    return str(path)


def attached(lut_file, oim_loss=None, **kwargs):
    distiller = MODELS.build(dict(type='LUTDistiller', lut_file=lut_file, **kwargs))
    distiller.attach(OIMLoss(6, 16, queue_size=4) if oim_loss is None else oim_loss)
    return distiller


def test_the_loss_holds_the_rows_and_keeps_them_bit_for_bit(lut_file):
    loss = attached(lut_file).oim_loss
    x = random_unit(5, 16, seed=1)
    for _ in range(3):
        loss(x, torch.tensor([0, 0, 3, -1, -1]))
    assert torch.equal(loss.lut, random_unit(6, 16))
    # The queue goes on as in plain OIM: two embeddings a step into four slots, three times.
    assert torch.equal(loss.queue, x[[3, 4, 3, 4]])
    assert loss.queue_head == 2


def test_loss_value_is_that_of_the_fixed_targets(lut_file):
    loss = attached(lut_file, use_queue=False).oim_loss
    x, pids = random_unit(4, 16, seed=1), torch.tensor([2, 5, -1, 0])
    expected = F.cross_entropy((x @ random_unit(6, 16).t() * 30)[[0, 1, 3]], pids[[0, 1, 3]]).item()
    for _ in range(2):
        assert loss(x, pids).item() == pytest.approx(expected, rel=1e-5)


def test_checkpoint_keys_are_those_of_the_plain_loss(lut_file):
    for use_queue in (True, False):
        assert list(attached(lut_file, use_queue=use_queue).oim_loss.state_dict()) == list(OIMLoss(6, 16).state_dict())


@pytest.mark.parametrize(
    ('thaw_epoch', 'updated'), [(None, [False] * 4), (0, [True] * 4), (2, [False, False, True, True])]
)
def test_thawing(lut_file, thaw_epoch, updated):
    distiller = attached(lut_file, thaw_epoch=thaw_epoch)
    found = [distiller.oim_loss.update_lut]
    for epoch in (1, 2, 3):
        distiller.set_epoch(epoch)
        found.append(distiller.oim_loss.update_lut)
    assert found == updated


def test_a_thawed_table_is_updated_as_in_plain_oim(lut_file):
    distiller, plain = attached(lut_file, thaw_epoch=1), OIMLoss(6, 16, queue_size=4)
    plain.lut.copy_(random_unit(6, 16))
    distiller.set_epoch(1)
    for loss in (distiller.oim_loss, plain):
        loss(random_unit(3, 16, seed=2), torch.tensor([1, 1, 4]))
    assert torch.equal(distiller.oim_loss.lut, plain.lut)
    assert not torch.equal(plain.lut, random_unit(6, 16))


@pytest.mark.parametrize(
    ('num_identities', 'dim', 'message'),
    [
        (7, 16, 'has 6 identities, the OIM table 7 rows: set num_identities=6'),
        (6, 8, 'size 16, the student embeds in 8'),
    ],
)
def test_loss_of_another_size(lut_file, num_identities, dim, message):
    with pytest.raises(UserError, match=message):
        attached(lut_file, OIMLoss(num_identities, dim))


@pytest.mark.parametrize('projection', [dict(type='random'), dict(), dict(type='pca', dim=3), 'pca'])
def test_unknown_projection(lut_file, projection):
    with pytest.raises(UserError, match='projection must be None or'):
        LUTDistiller(lut_file, projection=projection)


def test_projected_table_by_config(lut_file):
    loss = attached(lut_file, OIMLoss(6, 4), projection=dict(type='pca')).oim_loss
    assert torch.equal(loss.lut, project_pca(table_of(random_unit(6, 16)), 4).rows)


def test_projection_by_hand():
    rows = torch.tensor([[-0.6, 0.0, 0.8], [-1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [-0.6, 0.0, -0.8]])
    # Axes of decreasing weight: x (2.72), z (1.28), y (0); each is taken in its positive direction.
    two = project_pca(table_of(rows), 2).rows
    assert two.numpy() == pytest.approx(rows[:, [0, 2]].numpy(), abs=1e-6)
    assert project_pca(table_of(rows), 1).rows.flatten().tolist() == pytest.approx([-1, -1, -1, -1])


@pytest.mark.parametrize('dim', [6, 12, 16, 24])
def test_inner_products_stay_where_the_dimension_suffices(dim):
    rows = random_unit(6, 16)
    projected = project_pca(table_of(rows), dim).rows
    assert projected.shape == (6, dim)
    assert projected.dtype == torch.float32
    assert torch.allclose(projected @ projected.t(), rows @ rows.t(), atol=1e-5)


def test_row_that_vanishes_in_the_projection_is_named():
    rows = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    with pytest.raises(UserError, match='row 4 vanishes in the projection to 2'):
        project_pca(table_of(rows), 2)


class Runner:
    """As much of a runner as the hook looks at."""

    def __init__(self, model, metainfo=None, iters_per_epoch=10):
        self.model, self.iter = model, 0
        self.train_dataloader = _Loader(iters_per_epoch, SimpleNamespace(metainfo=metainfo))


class _Loader:
    def __init__(self, length, dataset):
        self.length, self.dataset = length, dataset

    def __len__(self):
        return self.length


def test_hook_checks_the_training_set(lut_file):
    model = SimpleNamespace(lut_distiller=attached(lut_file))
    hook = HOOKS.build(dict(type='LUTHook'))
    hook.before_train(Runner(model, dict(dataset_name='CUHK-SYSU', identities=tuple(range(6)))))
    for metainfo, message in [
        (dict(dataset_name='PRW', identities=tuple(range(6))), 'training set is PRW'),
        (dict(dataset_name='CUHK-SYSU', identities=tuple(range(1, 7))), 'other identities'),
    ]:
        with pytest.raises(UserError, match=message):
            hook.before_train(Runner(model, metainfo))


@pytest.mark.parametrize(('iteration', 'seed'), [(0, 0), (30, 9)])
def test_loaded_weights_give_way_to_the_teacher_but_a_resumed_run_keeps_its_table(lut_file, iteration, seed, caplog):
    MMLogger.get_instance(f'table{iteration}').addHandler(caplog.handler)
    distiller, other = attached(lut_file), OIMLoss(6, 16, queue_size=4)
    other.lut.copy_(random_unit(6, 16, seed=9))
    distiller.oim_loss.load_state_dict(other.state_dict())
    runner = Runner(
        SimpleNamespace(lut_distiller=distiller), dict(dataset_name='CUHK-SYSU', identities=tuple(range(6)))
    )
    runner.iter = iteration
    LUTHook().before_train(runner)
    assert torch.equal(distiller.oim_loss.lut, random_unit(6, 16, seed=seed))
    assert (f'which is not {lut_file}' in caplog.text) == (iteration > 0)


def test_a_table_that_started_afresh_is_filled_in_a_resumed_run(lut_file):
    distiller = attached(lut_file)
    distiller.oim_loss.reset()
    runner = Runner(
        SimpleNamespace(lut_distiller=distiller), dict(dataset_name='CUHK-SYSU', identities=tuple(range(6)))
    )
    runner.iter = 30
    LUTHook().before_train(runner)
    assert torch.equal(distiller.oim_loss.lut, distiller.table.rows)


def test_hook_derives_the_epoch_from_the_iteration(lut_file):
    distiller = attached(lut_file, thaw_epoch=2)
    runner, hook = Runner(SimpleNamespace(lut_distiller=distiller)), LUTHook()
    for iteration, updated in [(0, False), (19, False), (20, True), (35, True)]:
        runner.iter = iteration
        hook.before_train_iter(runner, 0)
        assert distiller.oim_loss.update_lut == updated


def test_hook_leaves_models_without_a_table_alone(build_model):
    model = build_model()
    before = copy.deepcopy(model.state_dict())
    LUTHook().before_train(Runner(model))
    LUTHook().before_train_iter(Runner(model), 0)
    assert model.roi_head.reid_head.loss_oim.update_lut
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_student_trains_towards_the_fixed_table(build_model, make_batch, lut_file):
    student = build_model()
    distiller = attached(lut_file, student.roi_head.reid_head.loss_oim)
    optim = OptimWrapper(torch.optim.SGD(student.parameters(), lr=0.01))
    boxes = [[10, 10, 40, 80], [60, 10, 90, 80]]
    losses = []
    for _ in range(8):
        torch.manual_seed(0)
        batch = make_batch([(boxes, [0, 1]), (boxes, [4, -1])])
        losses.append(student.train_step(batch, optim)['loss_oim'].item())
    assert losses[-1] < losses[0]
    assert torch.equal(student.roi_head.reid_head.loss_oim.lut, distiller.table.rows)
    assert list(student.state_dict()) == list(build_model().state_dict())
