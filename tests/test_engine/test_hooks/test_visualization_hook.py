"""Drawings of a run: detections, rankings, student and teacher."""

import copy
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from mmps_kd.engine import PersonSearchVisualizationHook
from mmps_kd.engine.hooks import visualization_hook
from mmps_kd.engine.hooks.visualization_hook import draw_distillation, draw_query, find_missed
from mmps_kd.evaluation.functional import RankedBoxes, SearchProtocol
from mmps_kd.visualization.draw import GAP


@pytest.fixture
def make_sample(tmp_path):
    """A detected person in an image on disk, by the image's name."""

    def make(name):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((600, 800, 3), 90, np.uint8))
        meta = dict(img_shape=(600, 800), ori_shape=(600, 800), img_path=str(path), img_name=name)
        sample = DetDataSample(metainfo=meta)
        box = dict(bboxes=torch.tensor([[100, 120, 200, 400.0]]))
        sample.gt_instances = InstanceData(pids=torch.tensor([5]), **box)
        sample.pred_instances = InstanceData(scores=torch.tensor([0.9]), **box)
        return sample

    return make


@pytest.fixture
def run(tmp_path):
    """Of a runner what the hook looks at, and where backends write."""
    backends = [dict(type='LocalVisBackend')]
    cfg = dict(type='PersonSearchVisualizer', name=f'hook {tmp_path}', vis_backends=backends, save_dir=str(tmp_path))
    return SimpleNamespace(
        model=torch.nn.Identity(),
        work_dir=str(tmp_path),
        timestamp='now',
        iter=100,
        visualizer=VISUALIZERS.build(cfg),
        logger=SimpleNamespace(info=lambda _: None),
    )


def make_hook(run, **options):
    hook = PersonSearchVisualizationHook(**{'draw': True, **options})
    hook._visualizer = run.visualizer
    return hook


def written(tmp_path):
    return sorted(path.name for path in tmp_path.glob('vis_data/vis_image/*'))


def test_validation_draws_the_first_image_at_the_interval(run, make_sample, tmp_path):
    hook = make_hook(run, interval=3)
    for index in range(6):
        hook.after_val_iter(run, index, {}, [make_sample('a.png'), make_sample('b.png')])
    assert written(tmp_path) == ['val_img_102.png', 'val_img_105.png']


def test_testing_draws_every_image_to_the_backends(run, make_sample, tmp_path):
    hook = make_hook(run)
    hook.after_test_iter(run, 0, {}, [make_sample('a.png'), make_sample('b.png')])
    hook.after_test_iter(run, 1, {}, [make_sample('c.png')])
    assert written(tmp_path) == ['test_img_1.png', 'test_img_2.png', 'test_img_3.png']


def test_images_of_one_name_in_two_folders_stay_two(run, make_sample, tmp_path):
    hook = make_hook(run, test_out_dir='show')
    hook.after_test_iter(run, 0, {}, [make_sample('cam1/a.png'), make_sample('cam2/a.png')])
    files = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / 'now').glob('**/*.png'))
    assert files == ['now/show/cam1/a.png', 'now/show/cam2/a.png']
    assert written(tmp_path) == []


@pytest.mark.parametrize(('draw', 'main'), [(False, True), (True, False)])
def test_nothing_is_drawn_where_it_should_not_be(run, make_sample, tmp_path, monkeypatch, draw, main):
    monkeypatch.setattr('mmps_kd.engine.hooks.visualization_hook.is_main_process', lambda: main)
    hook = make_hook(run, draw=draw, interval=1, test_out_dir='show')
    hook.after_val_iter(run, 0, {}, [make_sample('a.png')])
    hook.after_test_iter(run, 0, {}, [make_sample('a.png')])
    hook.after_val_epoch(run)
    hook.after_test_epoch(run)
    assert written(tmp_path) == []
    assert not (tmp_path / 'now').exists()


def test_a_detector_has_no_rankings(run):
    run.test_evaluator = SimpleNamespace(metrics=[])
    run.test_dataloader = SimpleNamespace(dataset=None)
    hook = make_hook(run, test_out_dir='show')
    hook.after_test_epoch(run)
    assert not (hook._out_dir(run) / 'rankings').exists()


def test_validating_a_distilled_student(run_configs, tmp_path):
    cfg = Config.fromfile(run_configs['detector'], import_custom_modules=False)
    cfg.custom_hooks, cfg.work_dir, cfg.launcher = [], str(tmp_path), 'none'
    cfg.experiment_name = cfg.visualizer.name = f'drawn {tmp_path}'
    cfg.default_hooks.visualization.update(draw=True, interval=10, num_queries=2)
    cfg.model.test_cfg.rcnn.score_thr = 0.0
    cfg.val_evaluator.score_thr = 0.0
    Runner.from_cfg(cfg).val()
    files = {path.name: path for path in tmp_path.glob('*/vis_data/vis_image/*')}
    assert set(files) == {
        'val_distillation_0.png',
        'val_img_0.png',
        'val_img_10.png',
        'val_ranking_0000_0.png',
        'val_ranking_0004_0.png',
    }
    height, width = cv2.imread(str(files['val_img_0.png'])).shape[:2]
    # Teacher, student and heat map stand beside each other, ground truth and detections do.
    assert cv2.imread(str(files['val_distillation_0.png'])).shape == (height, width + (width + 12) // 2, 3)


BOX = [10, 10, 40, 90]


def make_ranked(*rows, num_truths=3):
    """A ranking of (image, is match) rows."""
    names, matches = zip(*rows, strict=True) if rows else ((), ())
    return RankedBoxes(
        image_names=np.array(names, dtype=str),
        boxes=np.array([BOX] * len(rows), dtype=float).reshape(-1, 4),
        scores=np.ones(len(rows)),
        similarities=np.linspace(0.9, 0.1, len(rows)),
        is_match=np.array(matches, dtype=bool),
        num_truths=num_truths,
    )


def make_protocol(truths, gallery=('a.png', 'b.png', 'c.png', 'd.png')):
    """One query, whose person is in these images of the gallery; his box tells them apart."""
    return SearchProtocol(
        query_images=np.array(['q.png']),
        query_boxes=np.array([BOX], dtype=float),
        query_pids=np.array([3]),
        gallery_images=np.array(gallery),
        offsets=np.array([0, len(gallery)]),
        entries=np.arange(len(gallery), dtype=np.int32),
        truth_offsets=np.array([0, len(truths)]),
        truth_images=np.array(truths, dtype=np.int32),
        truth_boxes=np.array([[index, 0, 50, 80] for index in range(len(truths))], dtype=float).reshape(-1, 4),
    )


def missed(ranked, protocol, topk):
    return [(name, box[0], rank) for name, box, rank in find_missed(ranked, protocol, topk)]


def test_further_down_before_not_detected():
    ranked = make_ranked(('b.png', True), ('a.png', False), ('a.png', False), ('d.png', True), ('c.png', False))
    protocol = make_protocol([0, 1, 3])
    assert missed(ranked, protocol, topk=2) == [('d.png', 2, 4), ('a.png', 0, None)]
    assert missed(ranked, protocol, topk=4) == [('a.png', 0, None)]
    assert missed(ranked, protocol, topk=0)[:2] == [('b.png', 1, 1), ('d.png', 2, 4)]


def test_nothing_found_and_nothing_to_find():
    assert missed(make_ranked(), make_protocol([2]), topk=10) == [('c.png', 0, None)]
    assert missed(make_ranked(('a.png', False)), make_protocol([]), topk=10) == []


def test_an_image_listed_twice_is_missed_once():
    assert missed(make_ranked(), make_protocol([1, 1]), topk=10) == [('b.png', 0, None)]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draw the query of a protocol; gives what is handed on to be drawn."""
    for index, name in enumerate('qabcd'):
        cv2.imwrite(str(tmp_path / f'{name}.png'), np.full((100, 60, 3), [0, 0, 50 * index], np.uint8))

    def draw(ranked, protocol, topk):
        seen = []
        monkeypatch.setattr(visualization_hook, 'draw_ranking', lambda *arguments: seen.append(arguments))
        metric = SimpleNamespace(rank=lambda query, topk: ranked)
        draw_query(tmp_path, protocol, 0, metric, topk)
        return seen[0]

    return draw


def test_strip(drawn):
    ranked = make_ranked(('b.png', True), ('a.png', False), ('d.png', True))
    image, box, title, shown, missed = drawn(ranked, make_protocol([0, 1, 3]), 2)
    assert title == ('query 0 in q.png: 1 of 3 found among the 2 most similar, 1 further down, 1 not detected')
    assert image.shape == (100, 60, 3)
    assert box.tolist() == BOX
    assert [(row.name, bool(row.is_match)) for row in shown] == [('b.png', True), ('a.png', False)]
    assert [tuple(row.image[0, 0]) for row in shown] == [(100, 0, 0), (50, 0, 0)]  # RGB, of the right file
    assert [(row.name, row.rank, tuple(row.image[0, 0])) for row in missed] == [
        ('d.png', 3, (200, 0, 0)),
        ('a.png', None, (50, 0, 0)),
    ]


def test_title_of_a_short_gallery(drawn):
    ranked = make_ranked(('b.png', True), num_truths=1)
    assert drawn(ranked, make_protocol([1]), 10)[2] == 'query 0 in q.png: 1 of 1 found among the 1 most similar'


HINT = dict(at='backbone.0', loss=dict(type='FeatureImitationLoss'))
LOGITS = dict(at='rpn.cls', loss=dict(type='LogitDistillationLoss'))
IMAGE = np.full((192, 256, 3), 90, np.uint8)  # the original of the batch's images
PANEL = 800  # its width, enlarged


@pytest.fixture
def distil(model_cfg, build_model, tmp_path):
    """Build a student and its teacher, of the same architecture, by their seeds."""

    def build(seed, teacher_seed, *distillation):
        model_cfg.test_cfg.rcnn.score_thr = 0.0
        Config(dict(model=model_cfg)).dump(tmp_path / 'teacher.py')
        torch.save(dict(state_dict=build_model(seed=teacher_seed).state_dict(), meta={}), tmp_path / 'teacher.pth')
        teacher = dict(config=str(tmp_path / 'teacher.py'), checkpoint=str(tmp_path / 'teacher.pth'))
        student = build_model(seed=seed, type='PersonSearchDistiller', teacher=teacher, distillation=list(distillation))
        return student.eval()

    return build


def draw(student, batch, score_thr=0.0):
    """The picture of a batch's first image, without its headings, by panels."""
    (output, *_) = student.val_step(copy.deepcopy(batch))
    picture = draw_distillation(student, IMAGE, batch, output, score_thr)[-600:]
    return [picture[:, left : left + PANEL] for left in range(0, picture.shape[1], PANEL + GAP)]


@pytest.fixture
def batch(make_batch):
    return make_batch([([[10, 8, 40, 88]], [3]), ([[20, 10, 50, 90]], [0])])


def test_a_student_with_its_teachers_weights(distil, batch):
    ours, theirs, heat = draw(distil(0, 0, HINT), batch)
    assert np.array_equal(ours, theirs)
    assert np.unique(heat[:500, :500]).tolist() == [32, 34]  # grey under the colour for no difference


def test_another_teacher(distil, batch):
    student = distil(0, 7, LOGITS, HINT)
    ours, theirs, heat = draw(student, batch)
    assert not np.array_equal(ours, theirs)
    assert heat[:500, :500].max() > 60
    blind, unseen, _ = draw(student, batch, score_thr=1.1)
    assert np.array_equal(blind, unseen)


def test_without_a_feature_loss_there_is_no_heat_map(distil, batch):
    assert len(draw(distil(0, 7, LOGITS), batch)) == 2


def test_the_teacher_detects_as_it_does_alone(distil, batch):
    student = distil(0, 7, HINT)
    data = student.data_preprocessor(batch, False)
    (sample,) = student.teacher.predict(data['inputs'][:1], data['data_samples'][:1])
    found = sample.pred_instances
    alone = student.teacher.model.val_step(copy.deepcopy(batch))[0].pred_instances
    assert len(found) > 0
    assert torch.allclose(found.bboxes, alone.bboxes, atol=1e-4)
    assert torch.allclose(found.scores, alone.scores, atol=1e-5)
    assert 'pred_instances' not in data['data_samples'][0]


def test_looking_changes_nothing(distil, batch):
    student = distil(0, 7, HINT)
    (output, *_) = student.val_step(copy.deepcopy(batch))
    before, boxes = copy.deepcopy(student.state_dict()), output.pred_instances.bboxes.clone()
    random = torch.get_rng_state()
    draw_distillation(student, IMAGE, batch, output, 0.0)
    assert all(torch.equal(before[key], value) for key, value in student.state_dict().items())
    assert torch.equal(output.pred_instances.bboxes, boxes)
    assert torch.equal(torch.get_rng_state(), random)
    assert batch['inputs'][0].dtype == torch.uint8
