"""The order of an epoch, and what its samples draw, however they are loaded."""

import copy
import json
import pickle

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmps_kd.datasets.base_person_search import SampleIndex, seed_by_index
from mmps_kd.datasets.samplers import ResumableSampler


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 40), epoch=st.integers(0, 5), start=st.integers(0, 45), shuffle=st.booleans())
def test_it_is_the_end_of_the_default_order(size, epoch, start, shuffle):
    ours, default = (cls(range(size), shuffle=shuffle, seed=3) for cls in (ResumableSampler, DefaultSampler))
    ours.set_epoch(epoch)
    default.set_epoch(epoch)
    ours.start = start
    indices = list(ours)
    assert indices == list(default)[start:]
    assert {index.key for index in indices} <= {(3, epoch)}
    assert len(ours) == size


@pytest.mark.parametrize('world', [2, 3])
def test_the_ranks_of_one_position_together_read_each_sample_once(monkeypatch, world):
    read = []
    for rank in range(world):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, world))
        sampler = ResumableSampler(range(12), seed=0)
        before = list(sampler)[:2]
        sampler.start = 2
        read += [*before, *sampler]
    assert sorted(read) == list(range(12))


def test_an_index_keeps_its_key_on_the_way_to_another_process():
    index = SampleIndex(5)
    index.key = (1, 2)
    copied = pickle.loads(pickle.dumps(index))
    assert (copied, copied.key) == (5, (1, 2))


class Noise:
    """Samples that are their index and what they draw."""

    def __len__(self):
        return 6

    @seed_by_index
    def __getitem__(self, idx):
        assert type(idx) is int
        return idx, np.random.random(), torch.rand(()).item()


def test_a_sample_draws_by_run_epoch_and_index_alone():
    def drawn(seed, epoch):
        sampler = ResumableSampler(Noise(), seed=seed)
        sampler.set_epoch(epoch)
        return {index: Noise()[index] for index in sampler}

    assert drawn(0, 0) == drawn(0, 0)
    values = [value for seed, epoch in ((0, 0), (0, 1), (1, 0)) for _, value, _ in drawn(seed, epoch).values()]
    assert len(set(values)) == 18


def test_loading_leaves_the_training_streams_alone():
    index = SampleIndex(0)
    index.key = (0, 0)
    state = torch.get_rng_state()
    Noise()[index]
    assert torch.equal(torch.get_rng_state(), state)
    assert Noise()[0][1] != Noise()[0][1]  # a plain index draws from the global streams


def flips(cfg, epochs, **loading):
    """Which images of each epoch are flipped, as the runner loads them."""
    cfg = copy.deepcopy(cfg)
    cfg.train_dataloader.update(loading)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    found = []
    for epoch in epochs:
        loader.sampler.set_epoch(epoch)
        found.append({s.img_id: s.flip for batch in loader for s in batch['data_samples']})
    return found


@pytest.fixture
def train_cfg(repo_root, tiny_cuhk_sysu):
    cfg = Config.fromfile(repo_root / 'configs/demo/oim_r18-quarter_mini.py')
    cfg.train_dataloader.dataset.data_root = f'{tiny_cuhk_sysu}/'
    cfg.train_dataloader.dataset.pipeline[2].scale = (80, 60)
    return cfg


def test_augmentation_does_not_depend_on_how_it_is_loaded(train_cfg):
    alone = flips(train_cfg, range(3), num_workers=0, persistent_workers=False, batch_size=1)
    assert alone[0] != alone[1] != alone[2]
    assert 0 < sum(sum(epoch.values()) for epoch in alone) < sum(len(epoch) for epoch in alone)
    # Workers that live on know the epoch; a later start needs no earlier one.
    assert flips(train_cfg, range(3), num_workers=2, persistent_workers=True, batch_size=3) == alone
    assert flips(train_cfg, [2], num_workers=1, persistent_workers=False, batch_size=4) == alone[2:]


def test_drawn_pairs_do_not_depend_on_who_loads_them(train_cfg):
    pairs = DATASETS.build(
        dict(type='QueryGalleryPairDataset', positive_fraction=0.5, dataset=train_cfg.train_dataloader.dataset)
    )

    def drawn(workers):
        sampler = ResumableSampler(pairs, seed=0)
        loader = DataLoader(pairs, sampler=sampler, num_workers=workers, collate_fn=pseudo_collate)
        return [
            (s['gallery'][0].img_id, s['query'][0].img_id, s['query'][0].query_instances.pids.item())
            for s in (batch['data_samples'] for batch in loader)
        ]

    assert drawn(0) == drawn(2)


@pytest.fixture
def two_orientations(tmp_path, monkeypatch):
    """Config of a loader: every third of 12 images is upright; batches of 3, of one orientation."""
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    (tmp_path / 'images').mkdir()
    rng, images, annotations = np.random.default_rng(0), [], []
    for k in range(12):
        width, height = (30, 40) if k % 3 == 0 else (40, 30)
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / 'images' / f'{k:02d}.png'), pixels)
        images.append(dict(id=k, file_name=f'{k:02d}.png', width=width, height=height))
        annotations.append(dict(id=k, image_id=k, bbox=[k, 2, 10, 20], person_id=k // 2))
    (tmp_path / 'train.json').write_text(json.dumps(dict(images=images, annotations=annotations)))
    steps = ['LoadScene', 'LoadPersonSearchAnnotations', 'RandomFlip', 'PackPersonSearchInputs']
    pipeline = [dict(type=step, **(dict(prob=0.5) if step == 'RandomFlip' else {})) for step in steps]
    return dict(
        batch_size=3,
        num_workers=0,
        sampler=dict(type='ResumableSampler'),
        batch_sampler=dict(type='ResumableBatchSampler', batch_sampler=dict(type='AspectRatioBatchSampler')),
        dataset=dict(
            type='CustomPersonSearchDataset', data_root=str(tmp_path), ann_file='train.json', pipeline=pipeline
        ),
    )


def load_from(cfg, start, epoch=1, **changes):
    """The batches of an epoch from one on, as plain values."""
    loader = Runner.build_dataloader({**cfg, **changes}, seed=0)
    loader.batch_sampler.sampler.set_epoch(epoch)
    loader.batch_sampler.start = start
    return [
        [
            (sample.img_name, sample.flip, image.tolist(), sample.gt_instances.bboxes.tensor.tolist())
            for image, sample in zip(batch['inputs'], batch['data_samples'], strict=True)
        ]
        for batch in loader
    ]


def test_batches_of_one_orientation_go_on_bit_for_bit(two_orientations):
    whole = load_from(two_orientations, 0)
    names = [[int(name[:2]) for name, *_ in batch] for batch in whole]
    assert sorted(sum(names, [])) == list(range(12))
    # 4 upright images and 8 others: the last batch holds those that fill none.
    assert [len({name % 3 == 0 for name in batch}) for batch in names] == [1, 1, 1, 2]
    assert len({flip for batch in whole for _, flip, *_ in batch}) == 2
    for start in range(4):
        assert load_from(two_orientations, start) == whole[start:]
    assert load_from(two_orientations, 1, num_workers=2) == whole[1:]
    assert load_from(two_orientations, 0, epoch=2) != whole
    full = two_orientations['batch_sampler'] | dict(batch_sampler=dict(type='AspectRatioBatchSampler', drop_last=True))
    assert [len(batch) for batch in load_from(two_orientations, 0, batch_sampler=full, batch_size=5)] == [5, 5]


@pytest.mark.parametrize('start', [0, 1])
def test_ranks_share_an_epoch_of_batches_of_one_orientation(two_orientations, monkeypatch, start):
    read = []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        before = load_from(two_orientations, 0)[:start]
        read += [name for batch in before + load_from(two_orientations, start) for name, *_ in batch]
    assert sorted(read) == [f'{k:02d}.png' for k in range(12)]
