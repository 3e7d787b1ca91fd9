"""The offline evaluation tool, run in this process."""

import csv
import importlib.util
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from mmdet.registry import DATASETS

from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional import (
    CBGM,
    EvaluationSet,
    GroundTruth,
    SearchProtocol,
    SearchResults,
    evaluate_search,
    load_results,
    save_results,
)
from mmps_kd.testing.synthetic import write_dataset

# PRW frames of cameras 1 and 2. Person 5 is searched from the first frame and stands in the two others.
FRAMES = {
    'c1s1_000001.jpg': [(5, [0, 0, 40, 80])],
    'c1s1_000002.jpg': [(5, [10, 0, 40, 80]), (-2, [200, 0, 40, 80])],
    'c2s1_000003.jpg': [(5, [20, 0, 40, 80])],
}


@pytest.fixture
def prw(tmp_path):
    """A folder with PRW's test annotations in JSON form, and its query list."""
    images = [dict(id=i, file_name=name, width=1920, height=1080) for i, name in enumerate(FRAMES)]
    people = [(i, pid, box) for i, frame in enumerate(FRAMES.values()) for pid, box in frame]
    annotations = [
        dict(id=n, image_id=i, category_id=1, bbox=box, area=3200, iscrowd=0, person_id=pid)
        for n, (i, pid, box) in enumerate(people)
    ]
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name='person')])
    (tmp_path / 'prw_test_pid.json').write_text(json.dumps(content))
    (tmp_path / 'query_info.txt').write_text('5 0 0 40 80 c1s1_000001\n')
    return tmp_path


@pytest.fixture
def prw_results(tmp_path):
    """Person 5 is found in both frames, behind the unlabelled person, whose box is the most similar."""
    results = SearchResults(
        image_names=np.array(list(FRAMES)),
        num_dets=np.array([1, 2, 1]),
        boxes=np.array(
            [[0, 0, 40, 80, 0.9], [10, 0, 50, 80, 0.9], [200, 0, 240, 80, 0.8], [20, 0, 60, 80, 0.6]], np.float64
        ),
        embeddings=np.array([[1.0], [0.6], [0.8], [0.4]], np.float32),
        query_embeddings=np.array([[1.0]], np.float32),
    )
    save_results(tmp_path / 'results.npz', results)
    return tmp_path / 'results.npz'


@pytest.fixture
def tool(repo_root):
    """The tool as a module."""
    spec = importlib.util.spec_from_file_location('eval_results', repo_root / 'tools/eval_results.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tool, monkeypatch, tmp_path):
    """Run with arguments; give what ``--out`` holds."""

    def run(*arguments):
        out = tmp_path / 'metrics.json'
        monkeypatch.setattr(sys, 'argv', ['eval_results.py', *map(str, arguments), '--out', str(out)])
        tool.main()
        return json.loads(out.read_text())

    return run


def test_prw(run, prw, prw_results, capsys):
    figures = run('prw', prw_results, '--data-root', prw)
    assert figures == pytest.approx(
        dict(
            mAP=(1 / 2 + 2 / 3) / 2,
            top1=0.0,
            top5=1.0,
            top10=1.0,
            det_ap=1.0,
            det_recall=1.0,
            # Three labelled people; the box on the unlabelled one is wrong and second by score, after two tied ones.
            det_ap_labelled=(2 / 2 + 2 / 2 + 3 / 4) / 3,
            det_recall_labelled=1.0,
        )
    )
    printed = capsys.readouterr().out
    assert '58.33' in printed and '100.00' in printed


def test_prw_options(run, prw, prw_results):
    assert run('prw', prw_results, '--data-root', prw, '--ignore-cam-id')['mAP'] == pytest.approx(7 / 12)
    assert run('prw', prw_results, '--data-root', prw, '--cross-camera')['mAP'] == 1.0
    # Among so few boxes all are neighbours of each other: the order stays.
    assert run('prw', prw_results, '--data-root', prw, '--rerank')['mAP'] == pytest.approx(7 / 12)
    with pytest.raises(UserError, match='rerank=1000: give at least 1, and neither cbgm nor weight_by_score with it'):
        run('prw', prw_results, '--data-root', prw, '--rerank', '--cbgm')
    with pytest.raises(UserError, match='rerank=0: give at least 1'):
        run('prw', prw_results, '--data-root', prw, '--rerank', 0)
    figures = run('prw', prw_results, '--data-root', prw, '--score-thr', 0.7)
    assert (figures['mAP'], figures['det_recall']) == pytest.approx((1 / 4, 3 / 4))
    figures = run('prw', prw_results, '--data-root', prw, '--det-score-thr', 0.7)
    assert (figures['mAP'], figures['det_recall']) == pytest.approx((7 / 12, 3 / 4))
    # 0.6 x 0.9, 0.8 x 0.8, 0.4 x 0.6
    assert run('prw', prw_results, '--data-root', prw, '--weight-by-score')['mAP'] == pytest.approx(7 / 12)
    # Nobody stands beside the query: the re-ranking changes nothing.
    assert run('prw', prw_results, '--data-root', prw, '--cbgm')['mAP'] == pytest.approx(7 / 12)


def test_other_query_list(run, prw, prw_results):
    (prw / 'mini.txt').write_text('5 20 0 40 80 c2s1_000003\n')
    # From the third frame: the first frame's box leads, then the unlabelled person, then the second frame's.
    figures = run('prw', prw_results, '--data-root', prw, '--query-info', prw / 'mini.txt')
    assert figures['mAP'] == pytest.approx((1 + 2 / 3) / 2)


def test_per_query_file(run, prw, prw_results, tmp_path):
    run('prw', prw_results, '--data-root', prw, '--per-query', tmp_path / 'queries.csv')
    with open(tmp_path / 'queries.csv', newline='') as file:
        (row,) = csv.DictReader(file)
    assert (row['image'], row['pid'], row['true_boxes'], row['first_hit']) == ('c1s1_000001.jpg', '5', '2', '2')
    assert [float(p) for p in row['precisions'].split()] == pytest.approx([1 / 2, 2 / 3])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--gallery-size', '100'], '--gallery-size is an option of cuhk-sysu'),
        (['--k1', '5'], '--k1 and --k2 are settings of --cbgm'),
        (['--cbgm-similarity', 'strongest'], '--cbgm-similarity is a setting of --cbgm'),
        (['--per-query', 'nowhere/queries.csv'], 'there is no folder nowhere'),
    ],
)
def test_wrong_options(run, prw, prw_results, arguments, message):
    with pytest.raises(UserError, match=message):
        run('prw', prw_results, '--data-root', prw, *arguments)


@pytest.mark.parametrize('option', [['--cross-camera'], ['--ignore-cam-id'], ['--query-info', 'list.txt']])
def test_options_of_the_other_dataset(run, prw_results, tmp_path, option):
    with pytest.raises(UserError, match=f'{option[0]} is an option of prw and custom, not of cuhk-sysu'):
        run('cuhk-sysu', prw_results, '--data-root', tmp_path, *option)


def test_cbgm_settings(tool, monkeypatch):
    def settings(*arguments):
        monkeypatch.setattr(sys, 'argv', ['eval_results.py', *arguments, 'r.npz', '--data-root', '.'])
        return tool.build_cbgm(tool.parse_args())

    assert settings('prw') is None
    assert settings('prw', '--cbgm') == CBGM(30, 4)
    assert settings('cuhk-sysu', '--cbgm', '--k1', '7') == CBGM(7, 3, 'strongest')
    assert settings('cuhk-sysu', '--cbgm', '--cbgm-similarity', 'total') == CBGM(10, 3, 'total')


def test_unknown_image(run, prw, prw_results):
    with np.load(prw_results) as file:
        arrays = dict(file)
    arrays['img_names'] = np.append(arrays['img_names'], 'c9.jpg')
    arrays['num_dets'] = np.append(arrays['num_dets'], 0)
    np.savez(prw_results, **arrays)
    with pytest.raises(UserError, match="image 'c9.jpg', which the test set does not have"):
        run('prw', prw_results, '--data-root', prw)


def test_gallery_sizes(run, tool, prw_results, monkeypatch, tmp_path):
    names = np.array(list(FRAMES))

    def protocol(entries):
        return SearchProtocol(
            query_images=names[:1],
            query_boxes=np.array([[0.0, 0, 40, 80]]),
            query_pids=np.array([0]),
            gallery_images=names,
            offsets=np.array([0, len(entries)]),
            entries=np.array(entries, np.int32),
            truth_offsets=np.array([0, 1]),
            truth_images=np.array([2], np.int32),
            truth_boxes=np.array([[20.0, 0, 60, 80]]),
        )

    asked = []

    def load(root, sizes):
        asked.append((root, sizes))
        truth = GroundTruth(names, np.array([1, 0, 0]), np.array([[0.0, 0, 40, 80]]), np.array([True]))
        return EvaluationSet({'gallery_50': protocol([2]), 'gallery_all': protocol([1, 2])}, truth)

    monkeypatch.setattr(tool, 'load_cuhk_sysu_evaluation', load)
    figures = run('cuhk-sysu', prw_results, '--data-root', tmp_path, '--gallery-size', '50', 'all')
    assert asked == [(str(tmp_path), [50, 'all'])]
    assert figures['gallery_50'] == dict(mAP=1.0, top1=1.0, top5=1.0, top10=1.0)
    assert figures['gallery_all'] == pytest.approx(dict(mAP=1 / 3, top1=0.0, top5=1.0, top10=1.0))
    assert figures['mAP'] == 1.0
    assert figures['det_recall'] == 1.0
    run('cuhk-sysu', prw_results, '--data-root', tmp_path)
    assert asked[-1] == (str(tmp_path), [100])


def test_real_protocol_alone_is_enough(run, tool, shared_data, tmp_path):
    """TestG100.mat without any other file: search figures, no detection figures, the same as from the functions."""
    folder = tmp_path / 'annotation/test/train_test'
    folder.mkdir(parents=True)
    (folder / 'TestG100.mat').symlink_to(shared_data.resolve() / 'TestG100.mat')
    protocol = tool.load_cuhk_sysu_evaluation(tmp_path, [100]).protocols['gallery_100']
    first = protocol.truth_images.copy()
    _, keep = np.unique(first, return_index=True)
    rng = np.random.default_rng(0)
    num_dets = np.zeros(len(protocol.gallery_images), int)
    num_dets[first[keep]] = 1
    results = SearchResults(
        protocol.gallery_images,
        num_dets,
        np.column_stack([protocol.truth_boxes[keep], np.ones(len(keep))]),
        rng.standard_normal((len(keep), 8)).astype(np.float32),
        rng.standard_normal((protocol.num_queries, 8)).astype(np.float32),
    )
    save_results(tmp_path / 'results.npz', results)
    figures = run('cuhk-sysu', tmp_path / 'results.npz', '--data-root', tmp_path)
    expected = evaluate_search(results, protocol)
    assert set(figures) == {'mAP', 'top1', 'top5', 'top10', 'gallery_100'}
    assert figures['mAP'] == figures['gallery_100']['mAP'] == expected.mAP
    assert 0 < expected.mAP < 1


@pytest.mark.parametrize('option', ['--score-thr', '--det-score-thr'])
def test_a_threshold_below_that_of_the_file(run, prw, prw_results, capsys, option):
    """Refused where the file names its threshold; a note where it does not."""
    expected = run('prw', prw_results, '--data-root', prw, option, 0.05)
    printed = capsys.readouterr().out
    assert 'note: the lowest score in' in printed
    assert 'is 0.6, and the file does not name the threshold' in printed
    save_results(prw_results, replace(load_results(prw_results), score_thr=0.05))
    assert run('prw', prw_results, '--data-root', prw, option, 0.05) == expected
    assert 'note' not in capsys.readouterr().out
    save_results(prw_results, replace(load_results(prw_results), score_thr=0.5))
    with pytest.raises(UserError, match=r'results\.npz: the .* score_thr of 0\.5 drops .* no figure at 0\.05'):
        run('prw', prw_results, '--data-root', prw, option, 0.05)
    assert run('prw', prw_results, '--data-root', prw, option, 0.5) == expected
    assert run('prw', prw_results, '--data-root', prw, '--score-thr', 0.7)['mAP'] == pytest.approx(1 / 4)


def test_absent_queries_can_be_left_out(run, prw, prw_results, capsys):
    (prw / 'mini.txt').write_text('5 20 0 40 80 c2s1_000003\n77 20 0 40 80 c2s1_000003\n')
    arguments = ('prw', prw_results, '--data-root', prw, '--query-info', prw / 'mini.txt')
    with pytest.raises(UserError, match='absent from the gallery: 1 of 2.*--skip-absent-queries of the tools'):
        run(*arguments)
    assert run(*arguments, '--skip-absent-queries')['mAP'] == pytest.approx((1 + 2 / 3) / 2)
    assert 'left out 1 queries' in capsys.readouterr().out


@pytest.fixture
def custom(prw):
    """The same as custom JSON: cameras by name, the query as an annotation."""
    content = json.loads((prw / 'prw_test_pid.json').read_text())
    for image in content['images']:
        image['camera'] = image['file_name'][:2]
    content['queries'] = [dict(annotation_id=0)]
    (prw / 'custom.json').write_text(json.dumps(content))
    return prw / 'custom.json'


@pytest.mark.parametrize(
    'options', [[], ['--cross-camera'], ['--cbgm', '--k1', '30', '--k2', '4'], ['--score-thr', '0.7']]
)
def test_custom_json_gives_the_figures_of_prw(run, prw, custom, prw_results, options):
    assert run('custom', custom, prw_results, *options) == run('prw', prw_results, '--data-root', prw, *options)


def test_a_gallery_of_its_own(run, custom, prw_results):
    content = json.loads(custom.read_text())
    content['queries'][0]['gallery'] = ['c2s1_000003.jpg', 0]
    custom.write_text(json.dumps(content))
    # Its own image, which the gallery names, is left out; the other frame of person 5 is the whole gallery.
    assert run('custom', custom, prw_results)['mAP'] == 1
    content['queries'][0]['gallery'] = ['c1s1_000001.jpg']
    custom.write_text(json.dumps(content))
    with pytest.raises(UserError, match='query absent from the gallery'):
        run('custom', custom, prw_results)


def test_cross_camera_needs_cameras(run, custom, prw_results):
    content = json.loads(custom.read_text())
    del content['images'][1]['camera']
    custom.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r'custom\.json: image c1s1_000002\.jpg has no "camera"'):
        run('custom', custom, prw_results, '--cross-camera')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['custom', 'results.npz'], 'custom takes the annotations and the results'),
        (['custom', 'a.json', 'results.npz', '--data-root', '.'], 'custom takes no --data-root'),
        (['prw', 'results.npz'], 'prw needs --data-root'),
        (['prw', 'a.json', 'results.npz', '--data-root', '.'], 'prw takes the results'),
    ],
)
def test_files_of_each_kind(tool, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, 'argv', ['eval_results.py', *arguments])
    with pytest.raises(SystemExit):
        tool.parse_args()
    assert message in capsys.readouterr().err


def write_as_custom(root, path, gallery):
    """PRW's test set as custom JSON, with cameras and frames, queries, and each query's gallery if that is listed."""
    dataset = DATASETS.build(dict(type='PRWDataset', data_root=str(root), split='test', lazy_init=True))
    annotations, evaluation = dataset.load_test()
    names = annotations.image_names.tolist()
    images = [
        dict(id=f'frame {i}', file_name=name, camera=name.split('s')[0], frame=int(name[-10:-4]))
        for i, name in enumerate(names)
    ]
    people, first = [], {}
    for i, image in enumerate(annotations.image_of_box.tolist()):
        x1, y1, x2, y2 = annotations.boxes[i].tolist()
        pid = int(annotations.pids[i])
        first.setdefault((names[image], pid), i)
        people.append(dict(id=i, image_id=images[image]['id'], bbox=[x1, y1, x2 - x1, y2 - y1], person_id=pid))
    queries = []
    for name, pid in zip(evaluation.main.query_images.tolist(), evaluation.main.query_pids.tolist(), strict=True):
        camera = name.split('s')[0]
        others = [image['id'] for image in images if image['camera'] != camera]
        queries.append(dict(annotation_id=first[name, pid], **(dict(gallery=others) if gallery == 'listed' else {})))
    path.write_text(json.dumps(dict(images=images, annotations=people, queries=queries)))
    return annotations, evaluation.main


def compare_with_prw(run, root, folder, gallery):
    """Figures of random detections near true boxes, the same to the last digit in both layouts."""
    annotations, protocol = write_as_custom(root, folder / 'test.json', gallery)
    rng = np.random.default_rng(0)
    people = rng.normal(size=(annotations.pids.max() + 1, 16))
    boxes = np.append(annotations.boxes, rng.uniform(0.4, 1, (len(annotations.boxes), 1)), axis=1)
    boxes[:, :4] += rng.normal(0, 0.05, (len(boxes), 4)) * (boxes[:, 3] - boxes[:, 1])[:, None]
    embeddings = people[annotations.pids] + rng.normal(0, 1.5, (len(boxes), 16))
    results = SearchResults(
        image_names=annotations.image_names,
        num_dets=annotations.num_boxes,
        boxes=boxes,
        embeddings=embeddings.astype(np.float32),
        query_embeddings=(people[protocol.query_pids] + rng.normal(0, 1, (protocol.num_queries, 16))).astype(
            np.float32
        ),
    )
    save_results(folder / 'results.npz', results)
    figures = run('custom', folder / 'test.json', folder / 'results.npz', *['--cross-camera'] * (gallery == 'other'))
    cross = ['--cross-camera'] * (gallery != 'all')
    assert figures == run('prw', folder / 'results.npz', '--data-root', root, *cross)
    assert 0.05 < figures['mAP'] < 0.95 and 0.05 < figures['det_ap'] < 0.95
    assert figures != run('prw', folder / 'results.npz', '--data-root', root, *['--cross-camera'] * (gallery == 'all'))


@pytest.mark.parametrize('gallery', ['all', 'other', 'listed'])
def test_a_synthetic_set_as_custom_json_and_in_prws_layout(run, tmp_path, monkeypatch, gallery):
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))
    write_dataset(tmp_path / 'prw', 'prw', 'tiny')
    compare_with_prw(run, tmp_path / 'prw', tmp_path, gallery)


@pytest.mark.parametrize('gallery', ['all', 'other', 'listed'])
def test_photographs_as_custom_json_and_in_prws_layout(run, shared_data, tmp_path, gallery):
    compare_with_prw(run, shared_data / 'real', tmp_path, gallery)


def test_a_class_is_of_custom_data(run, prw, custom, prw_results):
    with pytest.raises(UserError, match='--class is an option of custom: prw has persons alone'):
        run('prw', prw_results, '--data-root', prw, '--class', 'car')
    content = json.loads(custom.read_text())
    content['categories'].append(dict(id=2, name='car'))
    custom.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"custom\.json: \"categories\" lists 'person', 'car', not 'dog'"):
        run('custom', custom, prw_results, '--class', 'dog')
