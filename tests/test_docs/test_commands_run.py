"""The commands of README and documentation, run in order in one folder: narrow models, tiny data, the same names."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mmps_kd.datasets import CUHKSYSUDataset
from mmps_kd.testing.synthetic import write_dataset

sys.path.append(str(Path(__file__).parent))

from commands import PAGES, ROOT, commands, named_files, scripts, split  # noqa: E402

# What a reader has when a page's commands need it and no page's commands make it.
GIVEN = r"""
mkdir -p data && ln -s /where/it/is/CUHK-SYSU data/CUHK-SYSU && ln -s /where/it/is/PRW data/PRW
python tools/dataset_tools/make_synthetic.py data/synthetic/cuhk-sysu-mini --size mini
python tools/train.py configs/demo/oim_r18-narrow_mini.py --work-dir work_dirs/demo/train
python be_sure.py work_dirs/demo/train/epoch_10.pth
python tools/train.py configs/oim/oim_r18_20e_cuhk-sysu.py
python tools/test.py CONFIG CHECKPOINT --out cuhk-sysu.npz
python tools/extract_lut.py CONFIG CHECKPOINT --out teacher.safetensors
cp CHECKPOINT student.pth && cp cuhk-sysu.npz teacher.npz && cp cuhk-sysu.npz student.npz
python tools/train.py configs/detector/detector_r50_20e_cuhk-sysu.py
python tools/train.py configs/oim/oim_r18_18e_prw.py
python tools/test.py configs/oim/oim_r18_18e_prw.py work_dirs/oim_r18_18e_prw/epoch_18.pth --out prw.npz
python tools/train.py configs/qeeps/qeeps_r50_20e_cuhk-sysu.py
python tools/test.py configs/qeeps/qeeps_r50_20e_cuhk-sysu.py work_dirs/qeeps_r50_20e_cuhk-sysu/epoch_20.pth \
    --out pairs.npz
"""
# After so little training no detection has a score of 0.5, and without one there is nobody to search for.
BE_SURE = """
import sys, torch
from mmps_kd.compat import load_from_file
checkpoint = load_from_file(sys.argv[1])
checkpoint['state_dict']['roi_head.bbox_head.fc_cls.bias'][0] += 10
torch.save(checkpoint, sys.argv[1])
"""
# What stands for the reader's own places, for many epochs and for much data.
HERE = {
    r'/where/it/is/': '../downloads/',
    r'/epoch_\d+\.pth\b': '/epoch_1.pth',
    r'--size (mini|hard)\b': '--size tiny',
    # After so little training scores are low, and the narrow configs score at 0.
    r'\brcnn\.score_thr=0\.01\b': 'rcnn.score_thr=0.0',
    r'\bCONFIG\b': 'configs/oim/oim_r18_20e_cuhk-sysu.py',
    r'\b(CHECKPOINT|FILE)\b': 'work_dirs/oim_r18_20e_cuhk-sysu/epoch_1.pth',
    # What was converted.
    r'\bseqnet_r50_cuhk-sysu\.pth': 'work_dirs/seqnet_r50_20e_cuhk-sysu/epoch_1.pth',
    # A name would find the package's own model.
    r"(?<![\w/])oim_r18-narrow_mini(?=[ '])": 'configs/demo/oim_r18-narrow_mini.py',
    r'\bs\d{3}\.jpg': 's1.jpg',
    r'\d{3}(,?) \d{2,3}(,?) \d{3}(,?) \d{3}': r'10\1 10\2 60\3 110',
}
# Who runs the others.
ELSEWHERE = {
    r'make ': '.ci/run',
    r'docker ': 'nobody: it needs a container engine',
    r'pip ': 'tests/test_packaging.py',
    r'pre-commit ': 'nobody: it changes the repository',
    r'source ': 'nobody: the environment is active',
    r'.* --source model ': 'tests/test_tools/test_extract_lut.py',
    r'python tools/dataset_tools/detections2json.py ': 'tests/test_tools/test_detections2json.py',
    r'python tools/(eval_results.py marks|dataset_tools/marks2json.py) ': 'tests/test_tools/test_marks.py',
    r'python tools/dataset_tools/mot2json.py ': 'tests/test_tools/test_mot2json.py',
    r'python tools/model_converters/': 'tests/test_tools/test_convert_seqnet.py',
    r'tools/(dist|slurm)_': 'tests/test_tools/test_distributed.py, tests/test_tools/test_launch_scripts.py',
    r'tools/reproduce_paper.sh ': 'tests/test_tools/test_reproduce_paper_run.py',
    r'python tools/app.py ': 'tests/test_tools/test_app.py',
    r'python benchmarks/': 'nobody: they take long',
    r'benchmarks/gpu.sh ': 'tests/test_benchmarks/test_gpu.py',
    r'python -m pytest ': '.ci/run',
    r'.* model.backbone.init_cfg.checkpoint=': 'nobody: it needs the weights of ImageNet',
}


def test_there_is_a_command_for_each_exception():
    lines = [' '.join(words) + ' ' for page in PAGES for words in commands(page)]
    assert [pattern for pattern in ELSEWHERE if not any(re.match(pattern, line) for line in lines)] == []


@pytest.mark.slow
def test_every_command_and_script_runs(folder, python):
    done = set()
    todo = [('given', split(GIVEN), ())] + [(page, commands(page), scripts(page)) for page in PAGES]
    for page, lines, snippets in todo:
        for line in map(as_here, map(shlex.join, lines)):
            words = shlex.split(line)
            if line not in done and not any(re.match(pattern, line + ' ') for pattern in ELSEWHERE):
                code, output = python(words[1:]) if words[0] == 'python' else run(words, folder)
                assert code == 0, f'{page}: {line}\n{output[-3000:]}'
                done.add(line)
        for snippet in snippets:
            if snippet.startswith('import ray'):
                continue  # nobody runs it: it starts a cluster
            (folder / 'snippet.py').write_text(as_here(snippet))
            code, output = python(['snippet.py'])
            assert code == 0, f'{page}:\n{snippet}\n{output[-3000:]}'


def as_here(text):
    """A command or a script, for the tiny data."""
    for pattern, replacement in HERE.items():
        text = re.sub(pattern, replacement, text)
    return text


def run(words, folder):
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.fixture
def python(folder):
    """Run a Python script in the folder; gives its exit code and its output."""
    command = [sys.executable, str(Path(__file__).with_name('run_commands.py'))]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with subprocess.Popen(
        command, cwd=folder, env={**os.environ, 'OMP_NUM_THREADS': '1'}, text=True, **pipes
    ) as server:

        def python(words):
            print(json.dumps(words), file=server.stdin, flush=True)
            return json.loads(server.stdout.readline())

        yield python
        server.stdin.close()


@pytest.fixture
def folder(tmp_path, tiny_cuhk_sysu, shrink):
    """Where a reader starts: the repository with narrow models, and what was downloaded."""
    for words in [*split(GIVEN), *(words for page in PAGES for words in commands(page))]:
        for config in [*filter(re.compile('configs/').match, words), 'configs/oim/oim_r18_20e_cuhk-sysu.py']:
            if (ROOT / config).exists():
                write_narrow(tmp_path, config, shrink)
    for name, text in named_files('docs/own_data.md').items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / 'be_sure.py').write_text(BE_SURE)
    (tmp_path / 'tools').symlink_to(ROOT / 'tools')
    (tmp_path / 'downloads').mkdir()
    (tmp_path / 'downloads/CUHK-SYSU').symlink_to(tiny_cuhk_sysu)
    prw = tmp_path / 'downloads/PRW'
    write_dataset(prw, 'prw', 'tiny')
    shutil.copy(prw / 'query_info.txt', tmp_path / 'prwmini_query_info.txt')
    write_own_data(tmp_path / 'data/mine', tiny_cuhk_sysu)
    return tmp_path


def write_narrow(folder, config, shrink):
    """Write a narrow model, and its teacher's, under the config's name."""
    if (folder / config).exists():
        return
    cfg = Config.fromfile(ROOT / config)
    shrink(cfg)
    if 'teacher' in cfg.model:
        write_narrow(folder, cfg.model.teacher.config, shrink)
        cfg.model.teacher.checkpoint = as_here(cfg.model.teacher.checkpoint)
    (folder / config).parent.mkdir(parents=True, exist_ok=True)
    cfg.dump(folder / config)


def write_own_data(root, cuhk_sysu):
    """CUHK-SYSU's people, as somebody's own."""
    root.mkdir(parents=True)
    (root / 'images').symlink_to(cuhk_sysu / 'Image/SSM')
    for split_name in ('train', 'test'):
        infos = CUHKSYSUDataset(data_root=str(cuhk_sysu), split=split_name, pipeline=[]).load_data_list()
        people = [(info['img_id'], person) for info in infos for person in info['instances']]
        annotations = [
            dict(id=i, image_id=image, bbox=[x1, y1, x2 - x1, y2 - y1], person_id=person['pid'])
            for i, (image, person) in enumerate(people)
            for x1, y1, x2, y2 in [person['bbox']]
        ]
        images = [dict(id=info['img_id'], file_name=info['img_name']) for info in infos]
        (root / f'{split_name}.json').write_text(json.dumps(dict(images=images, annotations=annotations)))
