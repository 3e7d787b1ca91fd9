"""tools/deployment/export.py as a user runs it."""

import re
import runpy
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from mmps_kd.apis.init_model import init_model, load_config

DISTILLED = """
_base_ = '{config}'
model = dict(
    type='PersonSearchDistiller',
    teacher=dict(config='absent.py', checkpoint='absent.pth'),
    distillation=[dict(at='backbone.0', loss=dict(type='FeatureImitationLoss'))],
)
"""


@pytest.fixture
def export(repo_root, monkeypatch):
    """Run the tool; gives its exit code."""

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['export.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(repo_root / 'tools/deployment/export.py'), run_name='__main__')
        return stop.value.code

    return run


@pytest.mark.slow
def test_a_distilled_student_without_its_teacher(export, search_files, tmp_path, capsys):
    config, checkpoint = search_files
    (tmp_path / 'kd.py').write_text(DISTILLED.format(config=config))
    trained = torch.load(checkpoint)
    trained['state_dict']['distillation.0.adapter.weight'] = torch.ones(1)
    torch.save(trained, tmp_path / 'kd.pth')
    out = tmp_path / 'new' / 'student.pt2'

    assert export(tmp_path / 'kd.py', tmp_path / 'kd.pth', out) == 0
    assert f'{out}: ' in capsys.readouterr().out
    weights = torch.export.load(out).state_dict
    student = init_model(load_config(config), checkpoint, 'cpu').state_dict()
    assert 'model.backbone.conv1.weight' in weights
    for name, weight in weights.items():
        assert torch.equal(weight, student[name.removeprefix('model.')])


@pytest.mark.slow
def test_onnx(export, search_files, tmp_path):
    assert export(*search_files, tmp_path / 'a.onnx', '--cfg-options', 'model.test_cfg.rcnn.max_per_img=2') == 0
    session = onnxruntime.InferenceSession(tmp_path / 'a.onnx')
    found = session.run(None, dict(image=np.zeros((90, 120, 3), dtype=np.uint8)))
    assert [output.name for output in session.get_outputs()] == ['boxes', 'scores', 'embeddings']
    assert [len(value) for value in found] == [2, 2, 2]


@pytest.mark.slow
@pytest.mark.parametrize('task', ['detect', 'embed'])
def test_the_task_of_each_format(export, search_files, tmp_path, task):
    files = [tmp_path / name for name in ('a.onnx', 'a.pt2')]
    assert [export(*search_files, file, '--task', task) for file in files] == [0, 0]
    session = onnxruntime.InferenceSession(files[0])
    assert session.get_modelmeta().custom_metadata_map == dict(task=task)
    extra = dict(task='')
    program = torch.export.load(files[1], extra_files=extra).module()
    assert extra['task'] == task
    given = dict(image=np.zeros((90, 120, 3), dtype=np.uint8))
    if task == 'embed':
        given['boxes'] = np.float32([[10, 20, 40, 80]])
    assert [value.name for value in session.get_inputs()] == list(given)
    embeddings = session.run(['embeddings'], given)[0]
    found = program(*map(torch.from_numpy, given.values()))
    np.testing.assert_allclose(embeddings, found if task == 'embed' else found[2], atol=1e-4)


@pytest.mark.parametrize(
    ('config', 'checkpoint', 'out', 'message'),
    [
        (None, None, 'student.pth', r'must end in \.onnx or \.pt2, not student\.pth'),
        ('demo/qeeps_r18-quarter_mini.py', None, 'a.onnx', 'is a query-guided model'),
        ('detector/detector_r50_20e_cuhk-sysu.py', None, 'a.onnx', 'has no re-identification head'),
        (None, 'absent.pth', 'a.onnx', 'absent.pth'),
    ],
)
def test_bad_input_is_one_line(export, repo_root, search_files, tmp_path, config, checkpoint, out, message):
    config = repo_root / 'configs' / config if config else search_files[0]
    code = export(config, checkpoint or search_files[1], tmp_path / out)
    assert '\n' not in code
    assert re.search(message, code)
    assert not (tmp_path / out).exists()
