"""The pass over the training set: its sums, and that an interruption leaves no trace in them."""

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config

from mmps_kd.apis import lut
from mmps_kd.apis.lut import build_train_set, embed_labelled, hash_inputs, images_with_identities, sum_box_embeddings


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


def test_sums_equal_a_simple_loop(teacher, dataset, tmp_path):
    sums = sum_box_embeddings(teacher, dataset, tmp_path / 'p.npz', 'hash')
    assert sums.dtype == torch.float64
    assert sums.numpy() == pytest.approx(slow_sums(teacher, dataset), abs=1e-5)


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


@pytest.mark.parametrize('stop_after', [1, 2, 5])
def test_interrupted_run_goes_on_to_the_identical_sums(teacher, dataset, tmp_path, monkeypatch, stop_after):
    monkeypatch.setattr(lut, 'SAVE_EVERY', 2)
    whole = sum_box_embeddings(teacher, dataset, tmp_path / 'whole.npz', 'hash')
    calls = []

    def embed_until(limit):
        def embed(model, batch):
            if len(calls) == limit:
                raise KeyboardInterrupt
            calls.append(batch['data_samples'][0].img_name)
            return embed_labelled(model, batch)

        return embed

    monkeypatch.setattr(lut, 'embed_labelled', embed_until(stop_after))
    with pytest.raises(KeyboardInterrupt):
        sum_box_embeddings(teacher, dataset, tmp_path / 'p.npz', 'hash')
    seen, calls[:] = list(calls), []
    monkeypatch.setattr(lut, 'embed_labelled', embed_until(None))
    assert torch.equal(sum_box_embeddings(teacher, dataset, tmp_path / 'p.npz', 'hash'), whole)
    # Only what was written counts as done: the odd image after the last write is embedded again.
    images = [dataset.get_data_info(i)['img_name'] for i in images_with_identities(dataset)]
    assert seen[: stop_after // 2 * 2] + calls == images


def test_partial_sums_of_other_inputs_are_not_used(teacher, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(lut, 'SAVE_EVERY', 1)
    whole = sum_box_embeddings(teacher, dataset, tmp_path / 'p.npz', 'one')
    assert torch.equal(sum_box_embeddings(teacher, dataset, tmp_path / 'p.npz', 'other'), whole)


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
