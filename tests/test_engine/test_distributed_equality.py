"""Two processes with half of a batch each train as one process with all of it."""

import json
from pathlib import Path

import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config

from mmps_kd.models.utils.checkpoint_io import read_checkpoint

ITERATIONS = 20

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def half_empty_data(run_configs, tmp_path_factory):
    """Of three training images one has its people, one has nobody, and nobody is known in one."""
    dataset = DATASETS.build(
        Config.fromfile(run_configs['plain'], import_custom_modules=False).train_dataloader.dataset
    )
    people, _ = dataset.load_train()
    images = [dict(id=index, file_name=str(name)) for index, name in enumerate(people.image_names)]
    annotations = []
    for index, (image, (x1, y1, x2, y2), pid) in enumerate(
        zip(people.image_of_box.tolist(), people.boxes.tolist(), people.pids.tolist(), strict=True)
    ):
        if image % 3 != 1:
            known = {} if image % 3 == 2 else dict(person_id=pid)
            annotations.append(dict(id=index, image_id=image, bbox=[x1, y1, x2 - x1, y2 - y1], **known))
    file = tmp_path_factory.mktemp('half_empty') / 'train.json'
    file.write_text(json.dumps(dict(images=images, annotations=annotations)))
    return dict(type='CustomPersonSearchDataset', ann_file=str(file), data_prefix=dataset.data_prefix)


@pytest.fixture(scope='module', params=['plain', 'detector'])
def two_runs(request, run_configs, half_empty_data, runs, tmp_path_factory):
    """Work dirs of a run on one and of a run on two processes, and what was trained."""
    folder = tmp_path_factory.mktemp('equality')
    cfg = Config.fromfile(run_configs[request.param], import_custom_modules=False)
    train = cfg.train_dataloader
    train.dataset.update(half_empty_data, filter_cfg=dict(filter_empty_gt=False))
    train.dataset.pipeline[2].update(keep_ratio=False)
    for stage in (cfg.model.train_cfg.rpn, cfg.model.train_cfg.rcnn):
        stage.sampler.update(type='FirstSampler')
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.01, momentum=0.9)
    cfg.param_scheduler = []
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=ITERATIONS, val_interval=10 * ITERATIONS)
    cfg.custom_imports.imports.append('equality_parts')
    cfg.custom_hooks += [dict(type='FreezeNorms'), dict(type='RecordLosses')]
    work_dirs = []
    for ranks in (1, 2):
        train.batch_size = 4 // ranks
        train.batch_sampler = dict(type='RankMajorBatches', drop_last=False) if ranks == 1 else None
        cfg.dump(folder / f'{ranks}.py')
        runs.configs[f'equality{ranks}'] = folder / f'{ranks}.py'
        done = runs.train(f'equality{ranks}', folder / f'work{ranks}', ranks=ranks)
        assert done.code == 0, done.output
        work_dirs.append(folder / f'work{ranks}')
    return work_dirs


def read_losses(work_dir: Path) -> list[list[dict]]:
    """Losses by rank and iteration."""
    files = sorted(work_dir.glob('losses*.jsonl'))
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def test_the_losses_are_equal(two_runs):
    (one,), two = map(read_losses, two_runs)
    assert len(one) == ITERATIONS
    for step, (single, *ranks) in enumerate(zip(one, *two, strict=True)):
        for name in single:
            if 'loss' in name:
                mean = sum(rank[name] for rank in ranks) / 2
                assert mean == pytest.approx(single[name], rel=1e-5, abs=1e-8), (step, name)
        assert sum(rank['people'] for rank in ranks) == single['people']


def test_ranks_without_people_and_without_identities_were_among_them(two_runs):
    first, second = read_losses(two_runs[1])
    assert any(a['people'] != b['people'] for a, b in zip(first, second, strict=True))
    assert any(rank['people'] == 0 for rank in first + second)
    assert any(rank['people'] and not rank['labelled'] for rank in first + second)


def test_the_state_is_equal(two_runs):
    one, two = (read_checkpoint((folder / 'last_checkpoint').read_text())['state_dict'] for folder in two_runs)
    assert one.keys() == two.keys()
    heads = [name for name in one if name.endswith('queue_head')]
    assert heads and all(torch.equal(one[name], two[name]) for name in heads)
    # Compared with what training changed: a rounding may send a gradient to the other of two equal pixels of a max
    # pooling, which alone moves a weight of the first convolution by more than 1e-6.
    start = read_checkpoint(two_runs[0] / 'start0.pth')['state_dict']
    for name in one:
        change = (one[name].double() - start[name].double()).norm()
        assert (two[name].double() - one[name].double()).norm() <= 1e-3 * change, f'{name} differs'
