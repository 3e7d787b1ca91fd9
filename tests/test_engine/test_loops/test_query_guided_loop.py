"""The loop against the model's three methods called anew for each pair, in one process and in two."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.models import DetDataPreprocessor
from mmdet.registry import HOOKS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import InstanceData

import mmps_kd  # noqa: F401  registers the parts
from mmps_kd.errors import UserError
from mmps_kd.testing.synthetic import write_dataset

ROOT = Path(__file__).resolve().parents[3]
FIELDS = ('query_ids', 'image_names', 'num_dets', 'boxes', 'similarities')


class ColourModel(BaseModel):
    """Finds the annotated people by the colour of their boxes; keeps those whose colour is like the query's."""

    def __init__(self):
        super().__init__(data_preprocessor=DetDataPreprocessor(pad_size_divisor=16))
        self.calls = Counter()

    def forward(self, inputs, data_samples=None, mode='tensor'):
        raise AssertionError('a query-guided model is not asked for anything but pairs')

    def encode_queries(self, batch_inputs, boxes):
        self.calls['query images'] += 1
        return [self._colour(batch_inputs, box) for box in boxes]

    def encode_gallery(self, batch_inputs):
        self.calls['gallery images'] += 1
        return batch_inputs

    def predict_pairs(self, gallery, sample, queries, rescale):
        assert gallery.shape[-2:] == sample.batch_input_shape and rescale
        self.calls['pairs'] += len(queries)
        self.calls['most queries'] = max(self.calls['most queries'], len(queries))
        boxes = sample.gt_instances.bboxes
        colours = torch.stack([self._colour(gallery, box) for box in boxes])
        return [self._pair(boxes, -(colours - query).norm(dim=1), sample.scale_factor) for query in queries]

    def _pair(self, boxes, similarities, scale_factor):
        found = similarities >= similarities.median()
        boxes = boxes[found] / boxes.new_tensor(scale_factor).repeat(2)
        return InstanceData(bboxes=boxes, scores=torch.full((len(boxes),), 0.9), similarities=similarities[found])

    @staticmethod
    def _colour(image, box):
        x1, y1, x2, y2 = box.round().int().tolist()
        return image[0, :, y1 : y2 + 1, x1 : x2 + 1].mean(dim=(1, 2))


@HOOKS.register_module(force=True)
class CallRecorder(Hook):
    """Names of the points that the loop has passed."""

    calls: Counter = Counter()


for point in ('', '_epoch', '_iter'):
    for side in ('before', 'after'):
        for stage in ('val', 'test'):
            name = f'{side}_{stage}{point}'
            setattr(CallRecorder, name, lambda self, *args, _name=name, **kwargs: self.calls.update([_name]))


def build_runner(root, work_dir, dataset=None, stage='test', batch_size=1, model=None, **loop):
    cfg = Config.fromfile(ROOT / 'configs/demo/oim_r18-narrow_mini.py')
    loader = {**cfg.test_dataloader, 'batch_size': batch_size, 'num_workers': 0, 'persistent_workers': False}
    loader['dataset'] = {**loader['dataset'], 'data_root': f'{root}/', **(dataset or {})}
    return Runner(
        model or ColourModel(),
        str(work_dir),
        custom_hooks=[dict(type='CallRecorder')],
        default_scope='mmdet',
        experiment_name=f'{stage}{np.random.randint(1 << 30)}',
        log_level='WARNING',
        **{
            f'{stage}_dataloader': loader,
            f'{stage}_cfg': dict(type=f'QueryGuided{stage.title()}Loop', **loop),
            f'{stage}_evaluator': dict(type='QueryGuidedSearchMetric'),
        },
    )


def sorted_pairs(results):
    """Arrays of the results in the order of query and image name."""
    order = np.lexsort((results.image_names, results.query_ids))
    ends = np.cumsum(results.num_dets)
    rows = np.concatenate([np.arange(ends[i] - results.num_dets[i], ends[i]) for i in order])
    pairs = [getattr(results, field)[order].tolist() for field in FIELDS[:3]]
    return [*pairs, *(getattr(results, field)[rows].tolist() for field in FIELDS[3:])]


def pairs_one_by_one(dataset, model):
    """Everything computed anew for each pair: (query, image, detections, boxes, similarities), sorted."""
    protocol = dataset.metainfo['evaluation'].main
    index = {dataset.get_data_info(i)['img_name']: i for i in range(len(dataset))}
    listed = [
        (query, str(name))
        for query in range(protocol.num_queries)
        for name in np.unique(protocol.gallery_images[protocol.entries[slice(*protocol.offsets[query : query + 2])]])
    ]
    boxes, similarities, counts = [], [], []
    for query, name in listed:
        data = model.data_preprocessor(pseudo_collate([dataset[index[str(protocol.query_images[query])]]]))
        queries = data['data_samples'][0].query_instances
        state = model.encode_queries(data['inputs'], queries.bboxes[queries.query_ids == query])
        data = model.data_preprocessor(pseudo_collate([dataset[index[name]]]))
        gallery = model.encode_gallery(data['inputs'])
        (pair,) = model.predict_pairs(gallery, data['data_samples'][0], state, True)
        boxes += torch.column_stack([pair.bboxes, pair.scores]).tolist()
        similarities += pair.similarities.tolist()
        counts.append(len(pair))
    return [[query for query, _ in listed], [name for _, name in listed], counts, boxes, similarities]


@pytest.fixture(scope='module')
def prw_mini(tmp_path_factory):
    """A synthetic data set in PRW's layout, with a second, shorter query list."""
    root = tmp_path_factory.mktemp('data') / 'prw'
    write_dataset(root, 'prw', 'tiny')
    queries = (root / 'query_info.txt').read_text().splitlines()
    (root / 'mini.txt').write_text('\n'.join(queries[:2]) + '\n')
    return root


@pytest.mark.parametrize(
    'loop', [dict(), dict(max_queries=1), dict(max_queries=2, query_batch=1, batch_size=5)], ids=['cached', '1', '2']
)
def test_same_pairs_as_without_any_sharing(tiny_cuhk_sysu, tmp_path, loop):
    runner = build_runner(tiny_cuhk_sysu, tmp_path, **loop)
    figures = runner.test()
    metric = runner.test_evaluator.metrics[0]
    expected = pairs_one_by_one(runner.test_dataloader.dataset, ColourModel().eval())
    assert sorted_pairs(metric.last_results) == expected
    assert set(figures) == {'search/mAP', 'search/top1', 'search/top5', 'search/top10'}
    assert 0.1 < figures['search/mAP'] <= 1


@pytest.fixture
def build_qeeps(qeeps_cfg):
    """A small QEEPS with seeded weights that finds up to ten people."""

    def build(**backbone):
        torch.manual_seed(0)
        qeeps_cfg.backbone.update(backbone)
        qeeps_cfg.test_cfg.rcnn.update(score_thr=0.0, max_per_img=10)
        model = MODELS.build(qeeps_cfg)
        model.init_weights()
        return model.eval()

    return build


@pytest.mark.parametrize(
    ('qsse', 'loop'), [(None, dict()), (None, dict(max_queries=2, query_batch=1)), (dict(ratio=4), dict(max_queries=3))]
)
def test_the_real_model_ranks_as_without_any_sharing(tiny_cuhk_sysu, tmp_path, build_qeeps, qsse, loop):
    model = build_qeeps(qsse=qsse)
    runner = build_runner(tiny_cuhk_sysu, tmp_path, model=model, **loop)
    runner.test_evaluator.metrics[0].score_thr = 0.0
    runner.test()
    query_ids, names, counts, boxes, similarities = pairs_one_by_one(runner.test_dataloader.dataset, model)
    found = sorted_pairs(runner.test_evaluator.metrics[0].last_results)
    assert found[:3] == [query_ids, names, counts]
    np.testing.assert_allclose(found[3], boxes, atol=1e-3)
    np.testing.assert_allclose(found[4], similarities, atol=1e-6)
    for query in set(query_ids):
        own = np.repeat(query_ids, counts) == query
        in_found_order = np.array(similarities)[own][np.argsort(np.array(found[4])[own])]
        assert (np.diff(in_found_order) > -1e-6).all()


def test_each_image_is_encoded_once_and_unlisted_ones_never(prw_mini, tmp_path):
    dataset = dict(type='PRWDataset', data_prefix=dict(img='frames'), query_info='mini.txt')
    runner = build_runner(prw_mini, tmp_path, dataset)
    runner.test()
    protocol = runner.test_loop.protocol
    assert protocol.num_queries == 2 and len(runner.test_dataloader.dataset) == 12
    listed = np.unique(protocol.entries)
    assert runner.model.calls['gallery images'] == len(listed)
    assert runner.model.calls['query images'] == len(set(protocol.query_images.tolist()))
    assert runner.model.calls['pairs'] == 22
    assert runner.model.calls['most queries'] == 2
    assert runner.test_loop.states == {}


def test_query_batch_and_blocks_bound_what_is_kept(prw_mini, tmp_path):
    dataset = dict(type='PRWDataset', data_prefix=dict(img='frames'))
    runner = build_runner(prw_mini, tmp_path, dataset, max_queries=3, query_batch=2)
    runner.test()
    calls = runner.model.calls
    assert calls['most queries'] == 2
    assert calls['pairs'] == 8 * 11
    assert calls['gallery images'] == 3 * 12


@pytest.mark.parametrize('stage', ['val', 'test'])
def test_hooks_are_called_as_in_the_usual_loops(tiny_cuhk_sysu, tmp_path, stage):
    CallRecorder.calls.clear()
    runner = build_runner(tiny_cuhk_sysu, tmp_path, stage=stage, max_queries=4)
    getattr(runner, stage)()
    blocks = 2  # five queries
    expected = {f'{side}_{stage}{point}': 1 for side in ('before', 'after') for point in ('', '_epoch')}
    expected.update({f'{side}_{stage}_iter': 12 * blocks for side in ('before', 'after')})
    assert {name: count for name, count in CallRecorder.calls.items() if stage in name} == expected


@pytest.mark.parametrize('name', ['query_batch', 'max_queries'])
def test_a_size_below_one_is_named(tiny_cuhk_sysu, tmp_path, name):
    with pytest.raises(UserError, match=f'QueryGuidedTestLoop: {name} must be at least 1, got 0'):
        build_runner(tiny_cuhk_sysu, tmp_path, **{name: 0}).test()


def test_a_query_image_that_is_not_loaded_is_named(tiny_cuhk_sysu, tmp_path):
    with pytest.raises(UserError, match=r"query image '\w+\.jpg' is not among the images that the test dataset loads"):
        build_runner(tiny_cuhk_sysu, tmp_path, dict(indices=1)).test()


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tiny_cuhk_sysu, tmp_path):
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, __file__, str(tiny_cuhk_sysu), str(tmp_path)]
    processes = [subprocess.Popen([*command, str(rank)], env=env) for rank in range(2)]
    assert [process.wait(timeout=240) for process in processes] == [0, 0]
    runner = build_runner(tiny_cuhk_sysu, tmp_path)
    figures = runner.test()
    found = np.load(tmp_path / 'pairs.npz', allow_pickle=False)
    assert [found[str(i)].tolist() for i in range(5)] == sorted_pairs(runner.test_evaluator.metrics[0].last_results)
    assert found['mAP'] == figures['search/mAP']


if __name__ == '__main__':
    data_root, out, rank = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    torch.distributed.init_process_group('gloo', init_method=f'file://{out}/group', rank=rank, world_size=2)
    distributed = build_runner(data_root, out / str(rank), max_queries=2)
    figures_of_both = distributed.test()
    if rank == 0:
        arrays = sorted_pairs(distributed.test_evaluator.metrics[0].last_results)
        np.savez(out / 'pairs.npz', mAP=figures_of_both['search/mAP'], **dict(zip('01234', arrays, strict=True)))
    torch.distributed.destroy_process_group()
