"""tools/train.py --distill: the run that configs/kd/ spells out, and a whole one with a re-identification network."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mmps_kd.compat import load_from_file
from mmps_kd.errors import UserError
from mmps_kd.models.distillers import LookUpTable, save_lut

ROOT = Path(__file__).resolve().parents[2]
TEACHER = ['work_dirs/teacher.py', 'work_dirs/teacher.pth']
STUDENT = 'configs/oim/oim_r18_20e_cuhk-sysu.py'


@pytest.fixture
def compose(monkeypatch):
    """The config that the tool would train."""
    monkeypatch.chdir(ROOT)

    def compose(*arguments):
        monkeypatch.setattr(sys, 'argv', ['train.py', *map(str, arguments)])
        tool = runpy.run_path(str(ROOT / 'tools/train.py'))
        return tool['build_config'](tool['parse_args']())

    return compose


def write_table(path, level='identity'):
    rows = torch.eye(256)[:6]
    table = LookUpTable(rows, 'CUHK-SYSU', 'ab', 'memory', 'teacher.py', '', level=level)
    save_lut(path, table)
    return str(path)


@pytest.mark.parametrize(
    ('student', 'spelled_out'),
    [
        (STUDENT, 'configs/kd/det_detector-r50_oim_r18_20e_cuhk-sysu.py'),
        (
            'configs/oim/oim_mobilenetv2-fpn_20e_cuhk-sysu.py',
            'configs/kd/det_detector-r50-fpn_oim_mobilenetv2-fpn_20e_cuhk-sysu.py',
        ),
    ],
)
def test_it_is_the_config_spelled_out(compose, student, spelled_out):
    expected = Config.fromfile(ROOT / spelled_out)
    expected.model.teacher = dict(config=TEACHER[0], checkpoint=TEACHER[1])
    assert compose(student, '--distill', *TEACHER).model.to_dict() == expected.model.to_dict()


def test_with_a_table_of_identities(compose, tmp_path):
    table = write_table(tmp_path / 'lut.safetensors')
    expected = Config.fromfile(ROOT / 'configs/kd/det-lut_detector-r50_oim-r50_oim_r18_20e_cuhk-sysu.py')
    expected.model.teacher = dict(config=TEACHER[0], checkpoint=TEACHER[1])
    expected.model.lut.lut_file = table
    assert compose(STUDENT, '--distill', *TEACHER, '--lut', table).model.to_dict() == expected.model.to_dict()


def test_with_a_table_of_boxes_alone(compose, tmp_path):
    table = write_table(tmp_path / 'lut.safetensors', 'box')
    model = compose(STUDENT, '--lut', table).model
    assert model.type == 'PersonSearchDistiller'
    assert 'teacher' not in model
    assert model.box_lut.lut_file == table
    assert [(term['at'], term['table']) for term in model.distillation] == [('roi.embedding', 'box')]


def test_settings_of_teacher_and_table_are_kept(compose, tmp_path):
    table = write_table(tmp_path / 'lut.safetensors', 'box')
    settings = ['model.teacher.person_class=0', 'model.box_lut.projection.type=pca']
    model = compose(STUDENT, '--distill', *TEACHER, '--lut', table, '--cfg-options', *settings).model
    assert model.teacher == dict(config=TEACHER[0], checkpoint=TEACHER[1], person_class=0)
    assert model.box_lut == dict(lut_file=table, projection=dict(type='pca'))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['configs/kd/det_detector-r50_oim_r18_20e_cuhk-sysu.py', '--distill', *TEACHER], 'is a PersonSearchDistiller'),
        ([STUDENT, '--reid-teacher', 'none.onnx'], 'there is no re-identification network none.onnx'),
        ([STUDENT, '--lut', 'none.safetensors'], 'none.safetensors'),
        (
            [STUDENT, '--reid-teacher', 'README.md', '--launcher', 'pytorch'],
            'python tools/extract_lut.py configs/oim/oim_r18_20e_cuhk-sysu.py --source model --level box --mirror',
        ),
    ],
)
def test_errors(compose, arguments, message):
    with pytest.raises(UserError, match=message):
        compose(*arguments)


def write_network(path):
    """A network that takes crops as OSNet does, one linear layer."""
    onnx = pytest.importorskip('onnx')
    shape = onnx.helper.make_tensor_value_info('crops', onnx.TensorProto.FLOAT, ['N', 3, 256, 128])
    vectors = onnx.helper.make_tensor_value_info('vectors', onnx.TensorProto.FLOAT, ['N', 16])
    weights = onnx.numpy_helper.from_array(
        np.random.default_rng(0).standard_normal((3 * 256 * 128, 16)).astype(np.float32), 'w'
    )
    nodes = [
        onnx.helper.make_node('Flatten', ['crops'], ['flat']),
        onnx.helper.make_node('MatMul', ['flat', 'w'], ['vectors']),
    ]
    graph = onnx.helper.make_graph(nodes, 'net', [shape], [vectors], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 17)], ir_version=9)
    onnx.save(model, path)
    return path


def test_a_whole_run(search_files, tiny_cuhk_sysu, tmp_path):
    config, checkpoint = search_files
    network, work_dir = write_network(tmp_path / 'net.onnx'), tmp_path / 'run'
    command = [ROOT / 'tools/train.py', config, '--work-dir', work_dir, '--distill', config, checkpoint]
    command += ['--reid-teacher', network, '--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=5']
    command += [f'{loader}_dataloader.dataset.data_root={tiny_cuhk_sysu}/' for loader in ('train', 'val', 'test')]
    command += ['train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']

    def run():
        return subprocess.run(
            [sys.executable, *map(str, command)], capture_output=True, text=True, cwd=ROOT, env=dict(os.environ)
        )

    done = run()
    assert done.returncode == 0, done.stderr[-3000:]
    (table,) = work_dir.glob('net_osnet_*.safetensors')
    written = table.stat().st_mtime_ns
    assert 'distill/loss_roi.embedding' in done.stdout + done.stderr
    state = load_from_file(work_dir / 'epoch_1.pth')['state_dict']
    student = MODELS.build(Config.fromfile(config).model)
    missing, unexpected = student.load_state_dict(state, strict=False)
    assert not missing
    assert all(key.startswith('distillation.') for key in unexpected)

    assert run().returncode == 0
    assert table.stat().st_mtime_ns == written
