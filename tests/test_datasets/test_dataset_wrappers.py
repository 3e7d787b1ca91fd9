"""Several data sets in one training set: no two people share a number, and the tools take it as one data set."""

import csv
import json
import logging
import random
import runpy
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets.samplers import AspectRatioBatchSampler
from mmdet.registry import DATASETS, MODELS
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from mmps_kd.apis.init_model import load_config
from mmps_kd.datasets import ConcatPersonSearchDataset, CustomPersonSearchDataset, ResumableSampler, check_wrappers
from mmps_kd.datasets.dataset_wrappers import check_data_sets
from mmps_kd.engine import IdentityCheckHook
from mmps_kd.errors import UserError
from mmps_kd.evaluation.metrics import PersonDetectionMetric, SearchMetric
from mmps_kd.models.distillers import check_lut, load_lut
from mmps_kd.models.losses import OIMLoss

# Person ids of each image of a site; None: unlabelled. The sites number different people alike.
NORTH = [[4, 7, None], [7], [4, 9]]
SOUTH = [[7, 4], [None, 7], [4]]
LOAD = [dict(type='LoadScene'), dict(type='LoadPersonSearchAnnotations')]
FLIP = [dict(type='RandomFlip', prob=0.5)]
PACK = [dict(type='PackPersonSearchInputs')]
OTHER = dict(type='CocoDataset', ann_file='x.json', lazy_init=True)


def write_site(root, people, size=(80, 60)):
    """A grey image for each list of people, who stand beside each other."""
    (root / 'images').mkdir(parents=True)
    images, annotations = [], []
    for image, pids in enumerate(people):
        name = f'{root.name}{image}.png'
        cv2.imwrite(str(root / 'images' / name), np.full((size[1], size[0], 3), 40 + 50 * image, np.uint8))
        images.append(dict(id=image, file_name=name, width=size[0], height=size[1]))
        for place, pid in enumerate(pids):
            person = dict(id=len(annotations), image_id=image, bbox=[5 + 20 * place, 10, 10, 30])
            annotations.append(person | ({} if pid is None else dict(person_id=pid)))
    (root / 'train.json').write_text(json.dumps(dict(images=images, annotations=annotations)))


@pytest.fixture
def sites(tmp_path, monkeypatch):
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    write_site(tmp_path / 'north', NORTH)
    write_site(tmp_path / 'south', SOUTH, size=(60, 80))
    return tmp_path


def site(root, name, pipeline=(*LOAD, *PACK), **more):
    cfg = dict(type='CustomPersonSearchDataset', data_root=str(root / name), ann_file='train.json', dataset_name=name)
    return {**cfg, 'pipeline': list(pipeline), **more}


def concat(*parts, kind='ConcatPersonSearchDataset', **more):
    return dict(type=kind, datasets=list(parts), **more)


def pids_of(dataset):
    return [[person['pid'] for person in dataset.get_data_info(i)['instances']] for i in range(len(dataset))]


def run_hook(dataset, rows):
    loader, logger = SimpleNamespace(dataset=dataset), logging.getLogger('identities')
    IdentityCheckHook().before_train(SimpleNamespace(train_dataloader=loader, model=OIMLoss(rows), logger=logger))


@pytest.mark.parametrize('serialize', [True, False])
def test_identities_are_numbered_through(sites, serialize):
    parts = [site(sites, name, serialize_data=serialize) for name in ('north', 'south')]
    dataset = DATASETS.build(concat(*parts))
    expected = [[0, 1, -1], [1], [0, 2], [4, 3], [-1, 4], [3]]
    assert pids_of(dataset) == expected
    assert pids_of(dataset) == expected  # asking changes nothing
    assert [dataset[i]['data_samples'].gt_instances.pids.tolist() for i in range(6)] == expected
    assert dataset.metainfo['identities'] == ('north/4', 'north/7', 'north/9', 'south/4', 'south/7')
    assert dataset.metainfo['num_identities'] == 5
    assert dataset.metainfo['dataset_name'] == 'north+south'
    assert dataset.metainfo['classes'] == ('person',)
    run_hook(dataset, 5)
    with pytest.raises(UserError, match='training set has 5 identities.* has 4 rows: set num_identities=5'):
        run_hook(dataset, 4)


def test_lazy_init_reads_nothing_until_it_is_needed(sites):
    parts = [site(sites, name, lazy_init=True) for name in ('north', 'south')]
    dataset = DATASETS.build(concat(*parts, lazy_init=True))
    assert dataset.metainfo['dataset_name'] == 'north+south'
    assert 'identities' not in dataset.metainfo
    assert len(dataset) == 6
    assert dataset.metainfo['num_identities'] == 5
    assert pids_of(dataset)[3] == [4, 3]


def test_a_data_set_that_is_given_stays_as_it_is(sites):
    south = DATASETS.build(site(sites, 'south'))
    dataset = ConcatPersonSearchDataset([site(sites, 'north'), south])
    assert pids_of(dataset)[3:] == [[4, 3], [-1, 4], [3]]
    assert pids_of(south) == [[1, 0], [-1, 1], [0]]


def test_subsets_and_repeated_parts(sites):
    south = dict(type='RepeatDataset', times=2, dataset=site(sites, 'south', indices=[2, 0]))
    dataset = DATASETS.build(concat(site(sites, 'north', indices=1), south))
    assert pids_of(dataset) == [[0, 1, -1], [3], [4, 3], [3], [4, 3]]
    assert dataset.metainfo['num_identities'] == 5
    run_hook(dataset, 5)


def test_a_part_with_nobody_known(sites):
    write_site(sites / 'crowd', [[None, None]])
    dataset = DATASETS.build(concat(site(sites, 'crowd'), site(sites, 'south')))
    assert pids_of(dataset) == [[-1, -1], [1, 0], [-1, 1], [0]]
    assert dataset.metainfo['identities'] == ('south/4', 'south/7')


def test_official_layouts_together(cuhk_root, prw_root):
    parts = [
        dict(type=kind, data_root=str(root), pipeline=[])
        for kind, root in (('CUHKSYSUDataset', cuhk_root), ('PRWDataset', prw_root))
    ]
    dataset = DATASETS.build(concat(*parts))
    assert dataset.metainfo['dataset_name'] == 'CUHK-SYSU+PRW'
    assert dataset.metainfo['identities'] == ('CUHK-SYSU/p7', 'CUHK-SYSU/p2', 'PRW/5', 'PRW/932')
    assert pids_of(dataset)[-2:] == [[3, -1], [2, 3]]


def test_batches_by_aspect_ratio(sites):
    dataset = DATASETS.build(concat(site(sites, 'north'), site(sites, 'south')))
    batches = list(AspectRatioBatchSampler(ResumableSampler(dataset, seed=0), batch_size=3))
    assert sorted(map(sorted, batches)) == [[0, 1, 2], [3, 4, 5]]


class Draw:
    """A pipeline's step that writes down what it draws."""

    def __call__(self, results):
        return results['img_name'], random.random(), np.random.random(), torch.rand(()).item()


def drawn(dataset, epoch=0, workers=0):
    sampler = ResumableSampler(dataset, seed=3)
    sampler.set_epoch(epoch)
    loader = DataLoader(dataset, sampler=sampler, num_workers=workers, collate_fn=lambda samples: samples[0])
    return dict(zip(map(int, sampler), loader, strict=True))


@pytest.mark.parametrize('repeat', [False, True])
def test_every_sample_has_draws_of_its_own(sites, repeat):
    parts = [site(sites, name, pipeline=[Draw()]) for name in ('north', 'south')]
    cfg = concat(*parts)
    dataset = DATASETS.build(dict(type='RepeatDataset', times=2, dataset=cfg) if repeat else cfg)
    first = drawn(dataset)
    assert drawn(dataset) == first
    assert drawn(dataset, workers=1) == first
    values = [value for epoch in (first, drawn(dataset, epoch=1)) for _, *draws in epoch.values() for value in draws]
    assert len(set(values)) == len(values) == 2 * 3 * len(dataset)
    names = [name for name, *_ in (first[i] for i in range(len(dataset)))]
    assert names == [f'{name}{i}.png' for name in ('north', 'south') for i in range(3)] * (1 + repeat)


def test_a_repeated_data_set_draws_anew(sites):
    dataset = DATASETS.build(dict(type='RepeatDataset', times=3, dataset=site(sites, 'north', pipeline=[Draw()])))
    samples = drawn(dataset)
    assert drawn(dataset) == samples
    assert len({draw for _, draw, *_ in samples.values()}) == 9
    run_hook(dataset, 3)


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        ([], 'datasets is empty'),
        (['north', dict(dataset_name='north')], r"datasets\[1\] is named 'north', as datasets\[0\]: .*dataset_name"),
        (['north', dict(dataset_name='again', data_root='north')], 'north0.png is in two parts, north and again'),
        (['north', dict(split='test')], r"datasets\[1\] has split='test': only training sets"),
        (['north', dict(metainfo=dict(classes=('car',)))], r"datasets\[1\] has the classes \('car',\)"),
        (['north', OTHER], r'datasets\[1\] is a CocoDataset'),
        (['north', concat('south')], r'datasets\[1\] is a ConcatPersonSearchDataset'),
    ],
)
def test_parts_that_do_not_go_together(sites, parts, message):

    cfgs = []
    for part in parts:
        if isinstance(part, str):
            cfgs.append(site(sites, part))
        elif part is OTHER:
            cfgs.append(part)
        elif 'datasets' in part:
            cfgs.append(concat(site(sites, part['datasets'][0])))
        else:
            cfg = site(sites, 'south') | part
            cfg['data_root'] = str(sites / part.get('data_root', 'south'))
            cfgs.append(cfg)
    with pytest.raises(UserError, match=message):
        DATASETS.build(concat(*cfgs))


def test_a_key_of_metainfo_that_one_part_has(sites):
    extra = dict(metainfo=dict(year=2019))
    for parts in (
        [site(sites, 'north') | extra, site(sites, 'south')],
        [site(sites, 'north'), site(sites, 'south') | extra],
    ):
        assert DATASETS.build(concat(*parts)).metainfo['dataset_name'] == 'north+south'


def test_a_link_to_the_same_images_is_seen(sites):
    (sites / 'copy').symlink_to(sites / 'north')
    with pytest.raises(UserError, match='north0.png is in two parts, north and copy'):
        DATASETS.build(concat(site(sites, 'north'), site(sites, 'copy')))


@pytest.mark.parametrize('kind', ['ConcatDataset', 'mmengine.ConcatDataset'])
@pytest.mark.parametrize('times', [0, 2])
def test_mmdets_concatenation_is_refused(sites, kind, times):
    # Both sites have the same ids and, by default, the same name.
    cfg = concat(*(site(sites, name, dataset_name=None) for name in ('south', 'west')), kind=kind)
    write_site(sites / 'west', SOUTH)
    if times:
        cfg = dict(type='RepeatDataset', times=times, dataset=cfg)
    with pytest.raises(UserError, match=r"ConcatDataset .*: use type='ConcatPersonSearchDataset'"):
        check_wrappers(cfg)
    with pytest.raises(UserError, match=r"ConcatDataset .*: use type='ConcatPersonSearchDataset'"):
        run_hook(DATASETS.build(cfg), 9)


def test_mixed_images_are_refused(sites):
    cfg = dict(type='MultiImageMixDataset', dataset=site(sites, 'north', LOAD), pipeline=[dict(type='MixUp'), *PACK])
    with pytest.raises(UserError, match='MultiImageMixDataset mixes images.*take it out'):
        run_hook(DATASETS.build(cfg), 9)


def test_wrappers_of_other_data_are_left_alone(sites):
    assert not check_wrappers(concat(OTHER, OTHER, kind='ConcatDataset'))
    assert not check_wrappers(None)
    assert check_wrappers(concat(site(sites, 'north'), site(sites, 'south')))


def test_a_table_needs_identities(sites):
    test = DATASETS.build(site(sites, 'north', split='test'))
    with pytest.raises(UserError, match="CustomPersonSearchDataset, has no identities .*split='train'"):
        run_hook(test, 9)


@pytest.mark.parametrize('metric', [SearchMetric, PersonDetectionMetric])
def test_test_sets_together_have_no_protocol(sites, metric):
    for cfg in (
        concat(*(site(sites, name, split='test') for name in ('north', 'south')), kind='ConcatDataset'),
        site(sites, 'north'),
    ):
        with pytest.raises(UserError, match=f"{metric.__name__}: the test set has no protocol.*split='test'"):
            metric().dataset_meta = DATASETS.build(cfg).metainfo


def test_pairs_of_a_concatenation(sites):
    cfg = dict(type='QueryGalleryPairDataset', dataset=concat(site(sites, 'north'), site(sites, 'south')))
    pairs = DATASETS.build(cfg)
    assert pairs.metainfo['num_identities'] == 5
    found = set()
    np.random.seed(0)
    for index in list(range(len(pairs))) * 20:
        query, gallery = (pairs[index]['data_samples'][key] for key in ('query', 'gallery'))
        found.add((query.img_name, gallery.img_name, query.query_instances.pids.item()))
    both_ways = [('north0', 'north2', 0), ('north0', 'north1', 1), ('south0', 'south2', 3), ('south0', 'south1', 4)]
    expected = {(f'{a}.png', f'{b}.png', pid) for x, y, pid in both_ways for a, b in ((x, y), (y, x))}
    assert found == expected
    cfg['dataset']['datasets'][1] = dict(type='RepeatDataset', times=2, dataset=site(sites, 'south'))
    with pytest.raises(UserError, match='ConcatPersonSearchDataset without RepeatDataset in it'):
        DATASETS.build(cfg)


@pytest.fixture
def write_config(sites):
    """Write a config; gives its path."""

    def write(train, name='joint', test=None, model=None):
        path = sites / f'{name}.py'
        test = dict(num_workers=0, dataset=test or dict(pipeline=[*LOAD, *PACK]))
        path.write_text(
            f"default_scope = 'mmdet'\nmodel = {model}\ntrain_dataloader = {dict(dataset=train)}\n"
            f'test_dataloader = {test}\n'
        )
        return path

    return write


@pytest.fixture
def five(model_cfg):
    """The small model with rows for five identities."""
    model_cfg.roi_head.reid_head.loss_oim.num_identities = 5
    return model_cfg


@pytest.fixture
def run_tool(repo_root, monkeypatch):
    """Run a tool; gives its exit code or its error."""

    def run(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(repo_root / 'tools' / tool), run_name='__main__')
        return stopped.value.code

    return run


@pytest.fixture
def both(sites):
    return [site(sites, name, [*LOAD, *FLIP, *PACK]) for name in ('north', 'south')]


def check(table, dataset):
    check_lut(table, dataset.metainfo['dataset_name'], dataset.metainfo['identities'], table.dim)


@pytest.mark.slow
def test_tables_from_every_source(sites, both, write_config, run_tool, five):
    repeated = [both[0], dict(type='RepeatDataset', times=3, dataset=both[1])]
    config = write_config(concat(*repeated), model=five)
    dataset = DATASETS.build(concat(*both))
    torch.manual_seed(0)
    state = MODELS.build(five).state_dict()
    state['roi_head.reid_head.loss_oim.lut'] = torch.eye(5, 16)
    torch.save(dict(state_dict=state, meta=dict(dataset_meta=dataset.metainfo)), sites / 'teacher.pth')
    np.savez(sites / 'f.npz', features=torch.eye(5, 16).flip(0).numpy(), pids=dataset.metainfo['identities'][::-1])

    for source, more in (
        ('memory', [sites / 'teacher.pth']),
        ('boxes', [sites / 'teacher.pth']),
        ('features', ['--features', sites / 'f.npz']),
    ):
        out = sites / f'{source}.safetensors'
        assert run_tool('extract_lut.py', config, *more, '--source', source, '--out', out) == 0
        check(load_lut(out), dataset)
    assert torch.equal(load_lut(sites / 'memory.safetensors').rows, torch.eye(5, 16))
    assert torch.equal(load_lut(sites / 'features.safetensors').rows, torch.eye(5, 16))

    # Another order, one part alone, and one part under another name.
    table = load_lut(sites / 'boxes.safetensors')
    other = concat(both[0], {**both[1], 'dataset_name': 'east'})
    for cfg in (concat(*both[::-1]), both[0], concat(both[0]), other):
        with pytest.raises(UserError, match='is a table for north'):
            check(table, DATASETS.build(cfg))


@pytest.mark.slow
def test_box_means_do_not_depend_on_parts_and_pairs(sites, both, write_config, run_tool, five):
    """A part's rows are those of a table for that part alone."""
    torch.manual_seed(0)
    torch.save(dict(state_dict=MODELS.build(five).state_dict(), meta={}), sites / 'teacher.pth')
    pairs = dict(type='QueryGalleryPairDataset', dataset=concat(*both))
    rows = {}
    for name, cfg in dict(joint=concat(*both), alone=both[1], pairs=pairs).items():
        config = write_config(cfg, name, model=five)
        out = sites / f'{name}.safetensors'
        assert run_tool('extract_lut.py', config, sites / 'teacher.pth', '--source', 'boxes', '--out', out) == 0
        rows[name] = load_lut(out).rows
    assert torch.allclose(rows['joint'][3:], rows['alone'], atol=1e-6)
    assert torch.equal(rows['pairs'], rows['joint'])


def test_crops_and_pictures(sites, both, write_config, run_tool):
    config = write_config(concat(*both))
    assert run_tool('dataset_tools/export_crops.py', config, sites / 'crops') == 0
    with open(sites / 'crops/index.csv', newline='') as file:
        rows = [(row['identity'], row['image']) for row in csv.DictReader(file)]
    assert rows[:3] == [('north/4', 'north0.png'), ('north/7', 'north0.png'), ('north/7', 'north1.png')]
    assert rows[-1] == ('south/4', 'south2.png')
    assert (sites / 'crops/south/4/south2_0.jpg').is_file()
    assert run_tool('analysis_tools/browse_dataset.py', config, '--out', sites / 'seen', '--num-images', '6') == 0
    names = [f'{i:05d}_{name}{i % 3}.png' for i, name in enumerate(['north'] * 3 + ['south'] * 3)]
    assert sorted(path.name for path in (sites / 'seen').iterdir()) == names


@pytest.mark.parametrize('kind', ['ConcatDataset', 'mmengine.ConcatDataset'])
def test_tools_refuse_mmdets_concatenation(both, write_config, run_tool, sites, kind):
    config = write_config(concat(*both, kind=kind))
    for tool, more in (
        ('train.py', []),
        ('dataset_tools/export_crops.py', [sites / 'crops']),
        ('analysis_tools/browse_dataset.py', ['--out', sites / 'seen']),
    ):
        error = run_tool(tool, config, *more)
        assert error.startswith('error: ConcatDataset numbers') and "type='ConcatPersonSearchDataset'" in error


def test_test_sets_are_tested_one_by_one(both, write_config, sites):
    tests = concat(*(site(sites, name, split='test') for name in ('north', 'south')))
    config = write_config(concat(*both), test=tests)
    with pytest.raises(UserError, match='ConcatPersonSearchDataset around test sets: .*test each by itself'):
        check_data_sets(load_config(config))


def test_training_steps_write_the_rows_of_both_parts(both, five):
    dataset = DATASETS.build(concat(*both))
    torch.manual_seed(0)
    model = MODELS.build(five)
    model.init_weights()
    model.train()
    for first in range(0, len(dataset), 2):
        batch = pseudo_collate([dataset[first], dataset[first + 1]])
        losses = model(**model.data_preprocessor(batch, True), mode='loss')
        assert torch.isfinite(model.parse_losses(losses)[0])
    written = model.roi_head.reid_head.loss_oim.lut.norm(dim=1)
    assert torch.allclose(written, torch.ones(5), atol=1e-5)


def test_a_custom_readers_name(sites):
    class Reader(CustomPersonSearchDataset):
        METAINFO = dict(classes=('person',), palette=[(1, 2, 3)])

    cfg = site(sites, 'north')
    for key in ('type', 'dataset_name'):
        del cfg[key]
    assert Reader(**cfg).metainfo['dataset_name'] == 'Reader'
    assert Reader(**cfg, dataset_name='mine').metainfo['dataset_name'] == 'mine'
