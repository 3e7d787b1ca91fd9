"""The tools as a user runs them, on a tiny data set; and what they say when something is wrong."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmps_kd.compat import load_from_file

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/demo/oim_r18-narrow_mini.py'
SMALL = [
    'model.backbone.base_channels=8',
    'model.backbone.stem_channels=8',
    'model.rpn_head.in_channels=32',
    'model.rpn_head.feat_channels=32',
    'model.roi_head.bbox_roi_extractor.out_channels=32',
    'model.roi_head.bbox_head.in_channels=32',
    'model.roi_head.reid_head.in_channels=32',
    'model.roi_head.reid_head.loss_oim.num_identities=6',
    'train_cfg.max_epochs=1',
]


def options(data_root, *more):
    roots = [f'{loader}_dataloader.dataset.data_root={data_root}/' for loader in ('train', 'val', 'test')]
    workers = [f'{loader}_dataloader.num_workers=0' for loader in ('train', 'val', 'test')]
    workers += [f'{loader}_dataloader.persistent_workers=False' for loader in ('train', 'val', 'test')]
    return ['--cfg-options', *roots, *workers, *SMALL, *more]


def call(tool, *arguments):
    command = [sys.executable, str(ROOT / 'tools' / tool), *map(str, arguments)]
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def read(checkpoint):
    return load_from_file(checkpoint)


@pytest.fixture(scope='module')
def trained(tiny_cuhk_sysu, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('train')
    done = call('train.py', CONFIG, '--work-dir', work_dir, *options(tiny_cuhk_sysu))
    assert done.returncode == 0, done.stderr
    return work_dir


def test_train_writes_a_checkpoint_with_the_oim_state(trained):
    checkpoint = read(trained / 'epoch_1.pth')
    state = checkpoint['state_dict']
    prefix = 'roi_head.reid_head.loss_oim.'
    assert state[prefix + 'lut'].shape == (6, 128)
    assert state[prefix + 'lut'].norm(dim=1).numpy() == pytest.approx(np.ones(6), abs=1e-5)
    assert {prefix + 'queue', prefix + 'queue_head'} <= set(state)
    assert len(checkpoint['meta']['dataset_meta']['identities']) == 6


@pytest.mark.slow
def test_resume_goes_on_where_it_stopped(trained, tiny_cuhk_sysu, tmp_path):
    work_dir = tmp_path / 'resumed'
    shutil.copytree(trained, work_dir)
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_1.pth'))
    arguments = options(tiny_cuhk_sysu, 'train_cfg.max_epochs=2', 'train_cfg.val_interval=5')
    done = call('train.py', CONFIG, '--work-dir', work_dir, '--resume', *arguments)
    assert done.returncode == 0, done.stderr
    assert read(work_dir / 'epoch_2.pth')['meta']['epoch'] == 2


def test_test_prints_figures_writes_results_and_pictures(trained, tiny_cuhk_sysu, tmp_path):
    keep_three = ['model.test_cfg.rcnn.score_thr=0.0', 'model.test_cfg.rcnn.max_per_img=3']
    arguments = options(tiny_cuhk_sysu, *keep_three, 'test_evaluator.score_thr=0.0')
    out = tmp_path / 'results.npz'
    files = ['--work-dir', tmp_path, '--out', out, '--show-dir', 'show']
    done = call('test.py', CONFIG, trained / 'epoch_1.pth', *files, *arguments)
    assert done.returncode == 0, done.stderr
    assert '| gallery_100 |' in done.stdout
    (log,) = tmp_path.glob('*/*.json')
    figures = json.loads(log.read_text())
    assert 0 <= figures['search/mAP'] <= 1
    assert {'search/top1', 'search/top5', 'search/top10', 'search/det_ap', 'search/det_recall'} <= set(figures)
    with np.load(out) as results:
        assert len(results['img_names']) == 12
        assert results['num_dets'].tolist() == [3] * 12
        assert results['embeddings'].shape == (36, 128)
        assert len(results['query_embeddings']) == 5
        assert results['score_thr'] == 0
    rankings = sorted(tmp_path.glob('*/show/rankings/*.png'))
    assert len(rankings) == 5
    assert Image.open(rankings[0]).width > 1000
    assert len(list(tmp_path.glob('*/show/*.jpg'))) == 12
    (report,) = tmp_path.glob('*/show/report.html')
    html = report.read_text()
    assert html.count('<section class="ranking"') == 5
    assert f'<dt>mAP</dt><dd>{100 * figures["search/mAP"]:.1f}<' in html


def run_in_process(monkeypatch, capsys, tool, *arguments):
    """Run a tool without the cost of a new process; returns its exit code and last line on stderr."""
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
    return stopped.value.code


def remove(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ('harm', 'name', 'message'),
    [
        (remove, 'annotation/Images.mat', 'Images.mat'),
        (truncate, 'annotation/test/train_test/Train.mat', 'Train.mat'),
        (truncate, 'annotation/test/train_test/TestG100.mat', 'TestG100.mat'),
        (remove, 'Image/SSM/s1.jpg', 's1.jpg'),
    ],
)
def test_bad_data_set_is_one_line_naming_the_file(monkeypatch, capsys, tiny_cuhk_sysu, tmp_path, harm, name, message):
    root = tmp_path / 'data'
    shutil.copytree(tiny_cuhk_sysu, root)
    harm(root / name)
    code = run_in_process(monkeypatch, capsys, 'train.py', CONFIG, '--work-dir', tmp_path / 'w', *options(root))
    assert code.startswith('error: ')
    assert message in code
    assert '\n' not in code


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['absent.py'], 'absent.py'),
        ([CONFIG, '--resume', 'absent.pth'], 'absent.pth'),
    ],
)
def test_missing_files(monkeypatch, capsys, arguments, message):
    assert message in run_in_process(monkeypatch, capsys, 'train.py', *arguments)


@pytest.mark.parametrize(('gpu', 'wrapper'), [(False, 'BFloat16OptimWrapper'), (True, 'AmpOptimWrapper')])
def test_amp_takes_bfloat16_without_a_gpu(monkeypatch, gpu, wrapper):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    monkeypatch.setattr(sys, 'argv', ['train.py', str(CONFIG), '--amp'])
    train = runpy.run_path(str(ROOT / 'tools/train.py'))
    assert train['build_config'](train['parse_args']()).optim_wrapper.type == wrapper


def test_missing_data_root(monkeypatch, capsys, tmp_path):
    arguments = [CONFIG, '--work-dir', tmp_path / 'w', *options(tmp_path / 'nowhere')]
    assert 'nowhere' in run_in_process(monkeypatch, capsys, 'train.py', *arguments)


def test_more_identities_than_table_rows(monkeypatch, capsys, tiny_cuhk_sysu, tmp_path):
    arguments = options(tiny_cuhk_sysu, 'model.roi_head.reid_head.loss_oim.num_identities=5')
    code = run_in_process(monkeypatch, capsys, 'train.py', CONFIG, '--work-dir', tmp_path, *arguments)
    assert 'num_identities=6' in code


def test_a_metric_below_the_threshold_of_the_model(monkeypatch, capsys, tiny_cuhk_sysu, tmp_path):
    config = tmp_path / 'two_metrics.py'
    metrics = [dict(type='SearchMetric'), dict(type='PersonDetectionMetric', score_thr=0.05)]
    config.write_text(f'_base_ = {str(CONFIG)!r}\nval_evaluator = {metrics!r}\n')
    arguments = [config, '--work-dir', tmp_path / 'w', *options(tiny_cuhk_sysu)]
    code = run_in_process(monkeypatch, capsys, 'train.py', *arguments)
    assert code.startswith("error: PersonDetectionMetric.score_thr: the model's own score_thr of 0.5")
    assert 'model.test_cfg.rcnn.score_thr=0.05' in code
    assert '\n' not in code


def test_checkpoint_of_another_embedding_size(monkeypatch, capsys, trained, tiny_cuhk_sysu, tmp_path):
    arguments = options(tiny_cuhk_sysu, 'model.roi_head.reid_head.feat_channels=64')
    code = run_in_process(
        monkeypatch, capsys, 'test.py', CONFIG, trained / 'epoch_1.pth', '--work-dir', tmp_path, *arguments
    )
    assert 'size 128, the config asks for 64' in code


@pytest.mark.slow
def test_failure_has_exit_code_one_and_no_traceback(tmp_path):
    done = call('test.py', CONFIG, tmp_path / 'absent.pth')
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    assert done.stderr.strip().endswith(f'error: there is no checkpoint {tmp_path}/absent.pth')
