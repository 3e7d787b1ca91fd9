"""Every tool on a config that uses what mmdet allows: pure Python, lists of evaluators, wrapped data, changed hooks."""

import inspect
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import mmdet.registry
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import Registry, init_default_scope
from mmengine.runner import Runner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).resolve().parents[2]
REGISTRIES = [part for part in vars(mmdet.registry).values() if isinstance(part, Registry) and part.scope == 'mmdet']


def as_python(value, imports: set[str]) -> str:
    """Source of a config value, with registered types as the classes that they name."""
    if isinstance(value, dict):
        parts = []
        for key, part in value.items():
            found = next((c for r in REGISTRIES if inspect.isclass(c := r.get(part))), None) if key == 'type' else None
            if found is not None and found.__name__ == part:
                imports.add(f'from {found.__module__} import {part}')
                parts.append(f'{key!r}: {part}')
            else:
                parts.append(f'{key!r}: {as_python(part, imports)}')
        return f'{{{", ".join(parts)}}}'
    if isinstance(value, list | tuple):
        return f'{type(value).__name__}([{", ".join(as_python(part, imports) for part in value)}])'
    return repr(value)


def write_pure_python(cfg: dict, path: Path) -> None:
    """A config in MMEngine's pure-Python style, whose model is read from another file beside it."""
    for file, keys in ((path.with_name('parts_model.py'), ['model']), (path, sorted(set(cfg) - {'model'}))):
        imports = set()
        body = [f'{key} = {as_python(cfg[key], imports)}' for key in keys]
        if 'model' not in keys:
            body.insert(0, 'with read_base():\n    from .parts_model import *')
            imports.add('from mmengine.config import read_base')
        file.write_text('\n'.join([*sorted(imports), '', *body, '']))


@pytest.fixture(scope='module')
def files(
    search_files: tuple[Path, Path], tiny_cuhk_sysu: Path, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """The config, the same in text, weights, and a folder for what the tools write."""
    init_default_scope('mmdet')  # other packages have a Resize too
    folder = tmp_path_factory.mktemp('pure_python')
    config, checkpoint = search_files
    cfg = Config.fromfile(config).to_dict()
    for key in ('norm_cfg', 'pretrained', 'scale', 'train_pipeline', 'test_pipeline', 'data_root', 'dataset_type'):
        del cfg[key]
    del cfg['model']['_scope_'], cfg['default_scope'], cfg['custom_imports'], cfg['default_hooks']['visualization']
    train = cfg['train_dataloader']
    train['dataset'].update(data_root=f'{tiny_cuhk_sysu}/')
    train.update(
        num_workers=0,
        persistent_workers=False,
        batch_sampler=dict(type='AspectRatioBatchSampler'),
        dataset=dict(type='RepeatDataset', times=2, dataset=train['dataset']),
    )
    metrics = [dict(type='PersonDetectionMetric'), dict(type='SearchMetric', score_thr=0.0, prefix='found')]
    cfg.update(val_evaluator=metrics, test_evaluator=metrics, val_dataloader=cfg['test_dataloader'])
    cfg['default_hooks']['checkpoint'].update(save_best='found/det_ap')
    cfg['default_hooks']['logger'] = dict(type='LoggerHook', interval=1)
    cfg['visualizer']['vis_backends'] = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
    cfg['custom_hooks'].append(dict(type='EMAHook'))
    cfg['custom_hooks'].append(dict(type='EarlyStoppingHook', monitor='found/mAP', min_delta=2, patience=1))
    cfg['train_cfg'].update(max_epochs=3, val_interval=1)
    write_pure_python(cfg, folder / 'pure.py')
    images = tiny_cuhk_sysu / 'Image/SSM'
    return SimpleNamespace(config=folder / 'pure.py', checkpoint=checkpoint, images=images, folder=folder)


def run(monkeypatch: pytest.MonkeyPatch, tool: str, *arguments: object) -> None:
    """Run a tool in this process to its end."""
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
    # Collecting the environment's versions and formatting the config take longer than the test.
    monkeypatch.setattr(Runner, '_log_env', lambda *_: None)
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))
    monkeypatch.syspath_prepend(str((ROOT / 'tools' / tool).parent))
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
    assert stopped.value.code in (0, None), stopped.value.code


def commands(files: SimpleNamespace) -> Iterator[tuple[str, list, str]]:
    """Tool, arguments, and a file that it writes."""
    model, out = [files.config, files.checkpoint], files.folder
    query = sorted(files.images.iterdir())[0]
    yield 'test.py', [*model, '--work-dir', out / 'test', '--out', out / 'results.npz'], 'results.npz'
    search = ['--query', query, '--box', 1, 1, 60, 90, '--gallery', files.images, '--score-thr', 0]
    yield 'search.py', [*model, *search, '--out', out / 'search'], 'search/results.json'
    yield 'extract_lut.py', [*model, '--source', 'boxes', '--out', out / 'lut.safetensors'], 'lut.safetensors'
    yield 'analysis_tools/benchmark.py', [*model, files.images, '--num-images', 1, '--num-warmup', 0], ''
    yield 'analysis_tools/get_flops.py', [files.config, '--shape', 120, 160], ''
    yield 'analysis_tools/browse_dataset.py', [files.config, '--num-images', 2, '--out', out / 'browse'], 'browse'
    yield 'dataset_tools/export_crops.py', [files.config, out / 'crops'], 'crops/index.csv'


TOOLS = ['test.py', 'search.py', 'extract_lut.py']
TOOLS += [f'analysis_tools/{name}.py' for name in ('benchmark', 'get_flops', 'browse_dataset')]


@pytest.mark.parametrize('tool', [*TOOLS, 'dataset_tools/export_crops.py'])
def test_tools_take_the_config(monkeypatch, files, tool):
    ((_, arguments, written),) = [command for command in commands(files) if command[0] == tool]
    run(monkeypatch, tool, *arguments)
    assert (files.folder / written).exists()


@pytest.mark.slow
@pytest.mark.parametrize('suffix', ['.onnx', '.pt2'])
def test_it_is_exported(monkeypatch, files, suffix):
    out = files.folder / f'model{suffix}'
    run(monkeypatch, 'deployment/export.py', files.config, files.checkpoint, out)
    assert out.stat().st_size > 10_000


@pytest.mark.slow
def test_it_is_trained_resumed_and_what_that_writes_is_read(monkeypatch, files, tmp_path):
    """Training stops early, keeps the best, goes on; the tools that read work dirs and checkpoints follow."""

    def call(tool: str, *arguments: object) -> str:
        command = [sys.executable, str(ROOT / 'tools' / tool), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    work = tmp_path / 'work'
    output = call('train.py', files.config, '--work-dir', work)
    assert not (work / 'epoch_3.pth').exists()  # stopped after the second validation
    assert 'did not improve' in output
    assert len(list(work.glob('best_found_det_ap_epoch_*.pth'))) == 1
    (events,) = work.glob('*/vis_data/events.out.tfevents.*')
    curves = EventAccumulator(str(events)).Reload()
    assert [event.step for event in curves.Scalars('found/mAP')] == [1, 2]
    shutil.rmtree(tmp_path / 'again', ignore_errors=True)
    output = call('train.py', files.config, '--work-dir', tmp_path / 'again', '--resume', work / 'epoch_1.pth')
    assert 'the epoch begins again' not in output
    assert 'in the config: the value of the checkpoint' not in output
    last = work / 'epoch_2.pth'
    call('extract_lut.py', files.config, last, '--out', tmp_path / 'memory.safetensors')
    call('analysis_tools/publish_student.py', last, tmp_path / 'student.pth')
    call('analysis_tools/analyze_logs.py', work, '--keys', 'loss_oim', 'found/mAP', '--out', tmp_path / 'curves.png')
    call('analysis_tools/plot_lut.py', tmp_path / 'memory.safetensors', last, '--out', tmp_path / 'lut.png')
    call('test.py', files.config, last, '--work-dir', tmp_path, '--out', tmp_path / 'found.npz')
    queries = tmp_path / 'queries.csv'
    data = files.images.parents[1]
    call('eval_results.py', 'cuhk-sysu', tmp_path / 'found.npz', '--data-root', data, '--per-query', queries)
    for plot in ('plot_precision_recall', 'plot_ap_histogram'):
        call(f'analysis_tools/{plot}.py', queries, '--out', tmp_path / f'{plot}.png')
        assert (tmp_path / f'{plot}.png').stat().st_size > 1000
    assert np.load(tmp_path / 'found.npz')['num_dets'].sum() > 0


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--show-dir', 'show'], 'default_hooks.visualization'),
        (['--out', 'a.npz', '--cfg-options', 'test_evaluator=None'], '--out needs a test_evaluator'),
        (['--cfg-options', 'test_dataloader=None'], 'no test_dataloader'),
    ],
)
def test_what_a_test_needs_is_said(monkeypatch, files, arguments, message):
    monkeypatch.setattr(sys, 'argv', ['test.py', str(files.config), str(files.checkpoint), *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / 'tools/test.py'), run_name='__main__')
    assert message in stopped.value.code
