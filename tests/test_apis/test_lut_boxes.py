"""The pass over the training set: its vectors, and that an interruption leaves no trace in them."""

from functools import partial

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from torch.utils.data import Subset

from mmps_kd.apis import lut
from mmps_kd.apis.lut import (
    build_train_set,
    embed_boxes,
    embed_by_model,
    hash_inputs,
    images_with_identities,
    images_with_people,
    mean_rows,
)


@pytest.fixture(scope='module')
def cfg(repo_root, tiny_cuhk_sysu):
    cfg = Config.fromfile(repo_root / 'configs/demo/oim_r18-narrow_mini.py')
    cfg.train_dataloader.dataset.data_root = str(tiny_cuhk_sysu)
    cfg.test_dataloader.dataset.pipeline[2].scale = (128, 96)
    return cfg


@pytest.fixture
def dataset(cfg):
    return build_train_set(cfg)


@pytest.fixture
def teacher(build_model):
    return build_model().eval()


def slow_sums(model, dataset):
    """Every labelled box on its own, straight from the definition."""
    sums = np.zeros((dataset.metainfo['num_identities'], 16))
    for sample in dataset:
        inputs = model.data_preprocessor(dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']]), False)
        with torch.no_grad():
            feats = model.extract_feat(inputs['inputs'])
            people = inputs['data_samples'][0].gt_instances
            for box, pid in zip(people.bboxes, people.pids.tolist(), strict=True):
                if pid >= 0:
                    embedding = model.roi_head.embed(feats, [box[None]])[0][0].double().numpy()
                    sums[pid] += embedding / np.linalg.norm(embedding)
    return sums


def embed_all(model, dataset, path, name, labelled=True):
    images = Subset(dataset, images_with_identities(dataset) if labelled else range(len(dataset)))
    return embed_boxes(partial(embed_by_model, model, labelled=labelled), images, path, name)


def test_means_equal_a_simple_loop(teacher, dataset, tmp_path):
    vectors = embed_all(teacher, dataset, tmp_path / 'p.npz', 'hash')
    rows = mean_rows(vectors, dataset, images_with_identities(dataset))
    assert rows.dtype == torch.float32
    sums = slow_sums(teacher, dataset)
    assert rows.numpy() == pytest.approx(sums / np.linalg.norm(sums, axis=1, keepdims=True), abs=1e-5)


def test_all_boxes_in_the_order_of_their_numbers(teacher, dataset, tmp_path):
    vectors = embed_all(teacher, dataset, tmp_path / 'p.npz', 'hash', labelled=False)
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    people = [person for info in infos for person in info['instances']]
    assert [person['box_id'] for person in people] == list(range(len(vectors)))
    assert any(person['pid'] == -1 for person in people)
    labelled = [person['box_id'] for person in people if person['pid'] >= 0]
    assert vectors[labelled] == pytest.approx(embed_all(teacher, dataset, tmp_path / 'q.npz', 'hash'), abs=1e-5)


def test_the_dataset_is_unflipped_and_has_the_training_people(cfg, dataset):
    assert dataset.split == 'train'
    sample = dataset[0]['data_samples']
    again = dataset[0]['data_samples']
    assert not sample.get('flip', False)
    assert torch.equal(sample.gt_instances.bboxes.tensor, again.gt_instances.bboxes.tensor)
    train_cfg = cfg.train_dataloader.dataset
    assert dataset.metainfo['identities'] == DATASETS.build(train_cfg).metainfo['identities']


def test_images_without_an_identity_are_left_out(dataset, monkeypatch):
    infos = [[-1, -1], [3], [], [-1, 0]]
    monkeypatch.setattr(dataset, 'get_data_info', lambda i: dict(instances=[dict(pid=pid) for pid in infos[i]]))
    monkeypatch.setattr(type(dataset), '__len__', lambda self: len(infos))
    assert images_with_identities(dataset) == [1, 3]
    # For a vector of each box, those without a box.
    assert images_with_people(dataset, labelled=False) == [0, 1, 3]


@pytest.mark.parametrize('stop_after', [1, 2, 5])
def test_an_interrupted_run_goes_on_to_the_identical_vectors(teacher, dataset, tmp_path, monkeypatch, stop_after):
    monkeypatch.setattr(lut, 'SAVE_EVERY', 2)
    whole = embed_all(teacher, dataset, tmp_path / 'whole.npz', 'hash')
    images, calls = images_with_identities(dataset), []

    def run(limit):
        def embed(batch):
            if len(calls) == limit:
                raise KeyboardInterrupt
            calls.append(batch['data_samples'][0].img_name)
            return embed_by_model(teacher, batch, labelled=True)

        return embed_boxes(embed, Subset(dataset, images), tmp_path / 'p.npz', 'hash')

    with pytest.raises(KeyboardInterrupt):
        run(stop_after)
    seen, calls[:] = list(calls), []
    assert np.array_equal(run(None), whole)
    # Only what was written counts as done: the odd image after the last write is embedded again.
    assert seen[: stop_after // 2 * 2] + calls == [dataset.get_data_info(i)['img_name'] for i in images]


def test_partial_vectors_of_other_inputs_are_not_used(teacher, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(lut, 'SAVE_EVERY', 1)
    whole = embed_all(teacher, dataset, tmp_path / 'p.npz', 'one')
    assert np.array_equal(embed_all(teacher, dataset, tmp_path / 'p.npz', 'other'), whole)


def test_hash_changes_with_every_input(dataset):
    args = [dict(type='A'), [dict(type='B')], 'ab']
    hashes = {hash_inputs(dataset, *args)}
    for i, other in enumerate([dict(type='C'), [dict(type='C')], 'cd']):
        hashes.add(hash_inputs(dataset, *args[:i], other, *args[i + 1 :]))
    infos = [{**dataset.get_data_info(i)} for i in range(len(dataset))]
    person = {**infos[0]['instances'][0], 'pid': -1}
    infos[0]['instances'] = [person, *infos[0]['instances'][1:]]
    dataset.get_data_info = infos.__getitem__
    hashes.add(hash_inputs(dataset, *args))
    assert len(hashes) == 5
    assert hash_inputs(dataset, *args) in hashes
