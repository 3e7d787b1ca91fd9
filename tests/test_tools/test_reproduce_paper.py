"""The chain that reproduces the paper, against a stand-in for ``python`` that writes down how it was called."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config, DictAction

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'tools/reproduce_paper.sh'
STUDENTS = [
    'oim_r18',
    'det_detector-r50_oim_r18',
    'lut_qeeps-r50_oim_r18',
    'det-lut_detector-r50_qeeps-r50_oim_r18',
    'oim_r50',
    'det_detector-r101_oim_r50',
    'lut_qeeps-r50_oim_r50',
    'det-lut_detector-r101_qeeps-r50_oim_r50',
    'det_detector-r101_qeeps_r50',
    'lut_qeeps-r50_qeeps_r50',
    'det-lut_detector-r101_qeeps-r50_qeeps_r50',
]
TEACHERS = ['detector_r50', 'detector_r101', 'qeeps_r50']
SCHEDULES = {'CUHK-SYSU': '20e_cuhk-sysu', 'PRW': '18e_prw'}

# Writes down how it was called, and does what the chain relies on; BREAK names a model whose training fails.
STAND_IN = f"""#!{sys.executable} -S
import json, os, pathlib, sys
words = sys.argv[1:]
place, tool = next((i, os.path.basename(w)) for i, w in enumerate(words) if w.endswith('.py'))
with open(os.environ['RECORD'], 'a') as record:
    record.write(json.dumps([tool, words[:place], words[place + 1 :]]) + '\\n')
if tool in ('train.py', 'test.py'):
    folder = pathlib.Path(words[words.index('--work-dir') + 1])
    if tool == 'train.py':
        folder.mkdir(parents=True, exist_ok=True)
        if folder.name == os.environ.get('BREAK'):
            sys.exit(3)
        (folder / 'epoch_7.pth').touch()
        (folder / 'last_checkpoint').write_text(str(folder / 'epoch_7.pth'))
    else:
        (folder / 'time').mkdir(parents=True, exist_ok=True)
        (folder / 'time/time.json').write_text('{{}}')
elif tool == 'extract_lut.py':
    pathlib.Path(words[words.index('--out') + 1]).touch()
"""


def names(kind, schedule):
    return [f'{name}_{schedule}' for name in kind]


def model_of(call):
    """Name of the config that a step was about."""
    return Path(call[2][0]).stem


@pytest.fixture
def chain(tmp_path):
    """Run the script with the stand-in; gives the steps of this run as (tool, words before it, words after it)."""
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'bin/python').write_text(STAND_IN)
    (tmp_path / 'bin/python').chmod(0o755)
    for dataset in SCHEDULES:
        (tmp_path / 'data' / dataset).mkdir(parents=True)
    record = tmp_path / 'record'

    def chain(*arguments, code=0, **variables):
        record.write_text('')
        path = f'{tmp_path / "bin"}{os.pathsep}{os.environ["PATH"]}'
        environment = dict(PATH=path, RECORD=str(record), WORK_DIR=str(tmp_path / 'work'))
        command = [str(SCRIPT), str(tmp_path / 'data'), *arguments]
        done = subprocess.run(command, env={**environment, **variables}, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return [json.loads(line) for line in record.read_text().splitlines()]

    return chain


def test_steps_and_their_order(chain):
    expected = []
    for schedule in SCHEDULES.values():
        teachers, students = names(TEACHERS, schedule), names(STUDENTS, schedule)
        expected += [('train.py', name) for name in teachers]
        expected += [('extract_lut.py', teachers[-1])]
        expected += [('train.py', name) for name in students]
        expected += [('test.py', name) for name in students + teachers]
    *steps, (tool, _, words) = chain()
    assert [(step[0], model_of(step)) for step in steps] == expected
    assert tool == 'paper_table.py'
    rows = [name for schedule in SCHEDULES.values() for name in names(TEACHERS + STUDENTS, schedule)]
    assert words[1:] == rows


def test_what_is_done_is_skipped(chain, tmp_path):
    chain()
    assert [tool for tool, *_ in chain()] == ['paper_table.py']

    folder = tmp_path / 'work/oim_r18_18e_prw'
    (folder / 'figures.json').unlink()
    step, _ = chain()
    assert (step[0], model_of(step)) == ('test.py', folder.name)
    shutil.rmtree(folder)
    *steps, _ = chain()
    assert [(step[0], model_of(step)) for step in steps] == [('train.py', folder.name), ('test.py', folder.name)]


def test_an_interrupted_training_goes_on(chain, tmp_path):
    name = 'oim_r50_20e_cuhk-sysu'
    assert model_of(chain(BREAK=name, code=3)[-1]) == name
    assert not (tmp_path / 'work' / name / 'final.pth').exists()
    again = chain()
    assert (again[0][0], model_of(again[0])) == ('train.py', name)
    assert '--resume' in again[0][2]
    assert (tmp_path / 'work' / name / 'final.pth').resolve().name == 'epoch_7.pth'


def test_a_data_set_that_is_not_there_is_left_out_but_for_its_rows(chain, tmp_path):
    (tmp_path / 'data/PRW').rmdir()
    *steps, (_, _, words) = chain()
    assert {model_of(step).rpartition('_')[2] for step in steps} == {'cuhk-sysu'}
    assert set(names(STUDENTS, '18e_prw')) < set(words)


def test_several_gpus(chain):
    steps = {(tool, model_of([tool, before, words])): before for tool, before, words in chain('2')[:-1]}
    for (tool, _), before in steps.items():
        launched = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
        assert before == ([] if tool == 'extract_lut.py' else launched)


def config_of(words):
    """The step's config as its tool reads it, overrides merged."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    options, _ = parser.parse_known_args(words)
    cfg = Config.fromfile(words[0])
    cfg.merge_from_dict(options.cfg_options)
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize(('size', 'scale'), [('600', (1000, 600)), ('900', (1500, 900))])
def test_overrides_reach_every_config(chain, tmp_path, size, scale):
    work, trained, tables, told = tmp_path / 'work', set(), set(), {}
    for tool, _, words in chain(SIZE=size, CFG_OPTIONS='randomness.seed=5 optim_wrapper.optimizer.lr=0.5')[:-1]:
        overrides = words[words.index('--cfg-options') :]
        assert told.setdefault(words[0], overrides) == overrides  # in every step the same
        if tool == 'test.py':
            continue
        cfg = config_of(words)
        assert (cfg.randomness.seed, cfg.optim_wrapper.optimizer.lr) == (5, 0.5)
        dataset = 'CUHK-SYSU' if 'cuhk' in words[0] else 'PRW'
        train = cfg.train_dataloader.dataset
        for part in (train.get('dataset', train), cfg.val_dataloader.dataset, cfg.test_dataloader.dataset):
            assert part.type == f'{dataset.replace("-", "")}Dataset'
            assert Path(part.data_root) == tmp_path / 'data' / dataset
            assert [step.scale for step in part.pipeline if step.type == 'Resize'] == [scale]
        if 'teacher' in cfg.model:
            assert Path(cfg.model.teacher.config).is_file()
            assert cfg.model.teacher.checkpoint in trained
            assert Path(cfg.model.teacher.config).stem == Path(cfg.model.teacher.checkpoint).parent.name
        if 'lut' in cfg.model:
            assert cfg.model.lut.lut_file in tables
            assert Path(cfg.model.lut.lut_file).parent.name == f'qeeps_r50_{SCHEDULES[dataset]}'
        if tool == 'train.py':
            trained.add(str(work / Path(words[0]).stem / 'final.pth'))
        if tool == 'extract_lut.py':
            tables.add(words[words.index('--out') + 1])


def test_prw_mini_where_its_queries_are_at_hand(chain, tmp_path):
    (tmp_path / 'data/PRW/prwmini_query_info.txt').touch()
    tests = [step for step in chain()[:-1] if step[0] == 'test.py']
    steps = [step for step in tests if any('prwmini' in word for word in step[2])]
    guided = [name for name in STUDENTS + TEACHERS if name.endswith('qeeps_r50')]
    assert sorted(map(model_of, steps)) == sorted(names(guided, '18e_prw'))
    for step in steps:
        assert config_of(step[2]).test_dataloader.dataset.query_info == 'prwmini_query_info.txt'


@pytest.mark.parametrize(
    ('arguments', 'variables', 'message'),
    [
        ([], {}, 'usage: '),
        (['data', '2', 'more'], {}, 'usage: '),
        (['nowhere'], {}, 'error: nowhere has neither CUHK-SYSU nor PRW'),
        (['.'], {'SIZE': '700'}, 'error: SIZE is 600 or 900'),
    ],
)
def test_errors_are_one_line(tmp_path, arguments, variables, message):
    environment = {**os.environ, **variables}
    command = [str(SCRIPT), *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count('\n') == 1
