"""Person search from Python."""

import csv
import json
import os
import shutil

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmps_kd.apis import PersonSearchInferencer, Skipped, read_match
from mmps_kd.apis.inputs import Sources
from mmps_kd.datasets.image_files import DamagedImageError, decode_image
from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional import k_reciprocal_distances
from mmps_kd.gallery import Detections, Gallery, GalleryImage


@pytest.fixture(scope='module')
def inferencer(search_files):
    return PersonSearchInferencer(*search_files, device='cpu', show_progress=False)


@pytest.fixture
def gallery(tiny_cuhk_sysu, tmp_path):
    """Four images of people."""
    folder = tmp_path / 'gallery'
    folder.mkdir()
    for path in sorted((tiny_cuhk_sysu / 'Image/SSM').iterdir())[:4]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def calls(inferencer, monkeypatch):
    """Number of images of each call of the model."""
    detect, numbers = inferencer.model.detect, []
    monkeypatch.setattr(inferencer.model, 'detect', lambda images: (numbers.append(len(images)), detect(images))[1])
    return numbers


def first(gallery):
    return sorted(gallery.iterdir())[0]


BOX = [40, 60, 90, 200]


def test_detect(inferencer, gallery, calls, tmp_path):
    result = inferencer.detect(gallery, batch_size=3, score_thr=0, return_vis=True, out_dir=tmp_path / 'out')
    assert calls == [3, 1]
    assert [source.name for source in result.scenes] == sorted(map(str, gallery.iterdir()))
    assert [len(source.people) for source in result.scenes] == [3] * 4
    assert result.skipped == []
    written = json.loads((tmp_path / 'out/results.json').read_text())
    assert written == result.to_dict()
    assert written['scenes'][2]['boxes'] == result.scenes[2].people.boxes.tolist()
    drawn = sorted((tmp_path / 'out/vis').iterdir())
    assert [path.name for path in drawn] == [f'0000{i}_{p.stem}.jpg' for i, p in enumerate(sorted(gallery.iterdir()))]
    assert cv2.imread(str(drawn[1])).shape == result.scenes[1].picture.shape


def test_detect_leaves_low_scores_out(inferencer, gallery):
    scores = inferencer.detect(first(gallery), score_thr=0).scenes[0].people.scores
    (source,) = inferencer.detect(first(gallery), score_thr=float(scores[1])).scenes
    assert source.people.scores.tolist() == scores[:2].tolist()
    assert source.picture is None


def test_embed_takes_files_and_arrays(inferencer, gallery):
    by_file = inferencer.embed(first(gallery), [BOX, [0, 0, 50, 100]])
    assert by_file.shape == (2, 16)
    assert np.array_equal(inferencer.embed(decode_image(first(gallery)), BOX), inferencer.embed(first(gallery), BOX))
    assert inferencer.embed(str(first(gallery)), BOX) == pytest.approx(by_file[:1], abs=1e-5)


def test_search_finds_the_box_itself(inferencer, gallery, tmp_path):
    """A detection in a copy of the query image, given as query box: its similarity is 1, and nothing is above."""
    query = tmp_path / 'query.jpg'
    shutil.copy(first(gallery), query)
    box = inferencer.detect(query, score_thr=0).scenes[0].people.boxes[0]
    result = inferencer.search(query, box, gallery, topk=5, score_thr=0, return_vis=True)
    assert result.matches[0].similarity == pytest.approx(1, abs=1e-4)
    assert (str(first(gallery)), pytest.approx(box, abs=1e-4)) in [(m.name, m.box) for m in result.matches]
    assert (len(result.matches), result.num_scenes, result.num_people) == (5, 4, 12)
    assert result.picture.shape[2] == 3


def test_the_query_image_itself_is_not_searched(inferencer, gallery):
    result = inferencer.search(first(gallery), BOX, gallery, score_thr=0)
    assert str(first(gallery)) not in {match.name for match in result.matches}
    assert result.num_scenes == 3
    with pytest.raises(UserError, match='the gallery is empty: it holds nothing but the query image'):
        inferencer.search(first(gallery), BOX, first(gallery))


OTHER = [0, 0, 50, 100]


def expected_ranking(inferencer, query, gallery, topk):
    """Names and similarities, the slow way."""
    found = inferencer.detect(gallery, score_thr=0).scenes
    rows = [(source.name, float(row @ query)) for source in found for row in source.people.embeddings]
    return sorted(rows, key=lambda row: -row[1])[:topk]


@pytest.mark.parametrize('form', ['one image', 'array', 'list', 'list of lists'])
def test_several_boxes_are_one_person(inferencer, gallery, tmp_path, form):
    one, two, *rest = sorted(gallery.iterdir())
    same_image = form in ('one image', 'array')
    query, boxes = {
        'one image': (one, [BOX, OTHER]),
        'array': (one, np.array([BOX, OTHER])),
        'list': ([one, two], [BOX, OTHER]),
        'list of lists': ([one, two], [[BOX], [OTHER]]),
    }[form]
    embeddings = [inferencer.embed(one, BOX)[0], inferencer.embed(one if same_image else two, OTHER)[0]]
    mean = (embeddings[0] + embeddings[1]) / np.linalg.norm(embeddings[0] + embeddings[1])
    result = inferencer.search(query, boxes, gallery, topk=4, score_thr=0, out_dir=tmp_path)
    ranking = expected_ranking(inferencer, mean, [two, *rest] if same_image else rest, 4)
    assert [match.name for match in result.matches] == [name for name, _ in ranking]
    assert [match.similarity for match in result.matches] == pytest.approx([value for _, value in ranking], abs=1e-5)
    written = json.loads((tmp_path / 'results.json').read_text())
    assert written['query'] == dict(name=str(one), box=BOX)
    second = str(one if same_image else two)
    assert written['queries'] == [dict(name=str(one), box=BOX), dict(name=second, box=OTHER)]


def test_one_box_in_any_form_is_one_query(inferencer, gallery):
    plain = inferencer.search(first(gallery), BOX, gallery, score_thr=0).to_dict()
    assert set(plain) == {'query', 'gallery', 'matches'}
    for query, box in ((first(gallery), [BOX]), ([first(gallery)], BOX), ((first(gallery),), [[BOX]])):
        assert inferencer.search(query, box, gallery, score_thr=0).to_dict() == plain


@pytest.mark.parametrize(
    ('images', 'boxes', 'message'),
    [
        (2, [BOX], '2 query images, but boxes for 1: give each image its box'),
        (2, BOX, '2 query images, but boxes for 4'),
        (0, [], '0 query images'),
        (1, [BOX[:3]], r'a query box must be x1, y1, x2, y2, several of them \(N, 4\), not \[40, 60, 90\]'),
        (1, [[]], 'a query box must be'),
        (1, [[BOX, BOX[:2]]], 'a query box must be'),
        (1, ['left'], 'a query box must be'),
    ],
)
def test_images_and_boxes_that_do_not_fit(inferencer, gallery, images, boxes, message):
    with pytest.raises(UserError, match=message):
        inferencer.search([first(gallery)] * images, boxes, gallery)


def test_nobody_is_similar_enough(inferencer, gallery, tmp_path):
    every = inferencer.search(first(gallery), BOX, gallery, score_thr=0)
    third = every.matches[2].similarity
    some = inferencer.search(first(gallery), BOX, gallery, score_thr=0, min_similarity=third)
    assert some.matches == every.matches[:3]
    nobody = inferencer.search(first(gallery), BOX, gallery, score_thr=0, min_similarity=1, out_dir=tmp_path)
    assert nobody.matches == []
    written = json.loads((tmp_path / 'results.json').read_text())
    assert (written['matches'], written['min_similarity'], written['gallery']['people']) == ([], 1, 9)
    assert cv2.imread(str(tmp_path / 'ranking.png')) is not None
    for least in (85, -1.5, float('nan')):
        with pytest.raises(UserError, match=r'min_similarity must be in -1\.\.1'):
            inferencer.search(first(gallery), BOX, gallery, min_similarity=least)


def test_a_match_is_the_next_query(inferencer, gallery, tmp_path):
    inferencer.search(first(gallery), BOX, gallery, score_thr=0, out_dir=tmp_path)
    match = read_match(tmp_path / 'results.json', 2)
    result = inferencer.search(match.name, match.box, gallery, score_thr=0)
    assert (result.query, result.query_box) == (match.name, pytest.approx(match.box))
    assert match.name not in {found.name for found in result.matches}


def test_a_frame_is_named_as_results_name_it(inferencer, gallery, tmp_path):
    """As a query, which is not searched itself, and wherever an image is taken."""
    video = str(tmp_path / 'cam.avi')
    images = [decode_image(path) for path in sorted(gallery.iterdir())]
    writer = cv2.VideoWriter(video, cv2.VideoWriter_fourcc(*'MJPG'), 10, images[0].shape[1::-1])
    for image in images:
        writer.write(cv2.resize(image, images[0].shape[1::-1]))
    writer.release()
    frames = {source.name: source.people for source in inferencer.detect(video, score_thr=0).scenes}
    name, people = f'{video}#2', frames[f'{video}#2']
    result = inferencer.search(name, people.boxes[0], video, topk=20, score_thr=0)
    assert result.query == name
    assert {match.name for match in result.matches} == set(frames) - {name}
    assert inferencer.embed(name, people.boxes) == pytest.approx(people.embeddings, abs=1e-4)
    (alone,) = inferencer.detect(name, score_thr=0).scenes
    assert np.array_equal(alone.people.boxes, people.boxes)
    filled = Gallery(None, inferencer.model.key, dtype='float32')
    filled.add([GalleryImage(frame, stamp, frames[frame]) for frame, stamp in Sources(video).stamps().items()])
    again = inferencer.search(name, people.boxes[0], filled, topk=20, score_thr=0, return_vis=True)
    assert again.to_dict() == result.to_dict()
    assert again.picture is not None
    with pytest.raises(UserError, match=r'cam.avi has no frame 4: its last one is 3, counted from 0'):
        inferencer.search(f'{video}#4', BOX, video)
    with pytest.raises(UserError, match='cam.avi stands for 4 images: give one, of a video a frame such as'):
        inferencer.search(video, BOX, video)


def test_arrays_are_searched_like_files(inferencer, gallery):
    images = [decode_image(path) for path in sorted(gallery.iterdir())]
    by_file = inferencer.search(first(gallery), BOX, gallery, topk=3, score_thr=0)
    by_array = inferencer.search(images[0], BOX, images, topk=3, score_thr=0)
    assert [match.box for match in by_array.matches] == [match.box for match in by_file.matches]
    assert {match.name for match in by_array.matches} <= {'array 1', 'array 2', 'array 3'}
    two = inferencer.search(images[1:3], [BOX, BOX], images, topk=9, score_thr=0)
    assert {match.name for match in two.matches} == {'array 0', 'array 3'}


def test_a_second_search_runs_new_and_changed_scenes_alone(inferencer, gallery, calls, tmp_path):
    out = tmp_path / 'out'
    query = decode_image(first(gallery))
    before = inferencer.search(query, BOX, gallery, score_thr=0, out_dir=out)
    assert sum(calls) == 4
    assert inferencer.search(query, BOX, gallery, score_thr=0, out_dir=out).to_dict() == before.to_dict()
    assert sum(calls) == 4
    cv2.imwrite(str(first(gallery)), query[:, ::-1])
    shutil.copy(first(gallery), gallery / 'new.jpg')
    after = inferencer.search(query, BOX, gallery, score_thr=0, out_dir=out)
    assert sum(calls) == 6
    assert after.num_scenes == 5
    fresh = inferencer.search(query, BOX, gallery, score_thr=0)
    assert after.to_dict() == fresh.to_dict()


def test_what_is_written(inferencer, gallery, tmp_path):
    result = inferencer.search(first(gallery), BOX, gallery, topk=2, score_thr=0, out_dir=tmp_path / 'out')
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {
        'ranking.png',
        'report.html',
        'results.csv',
        'results.json',
        f'gallery_{inferencer.model.key[:8]}',
    }
    written = json.loads((tmp_path / 'out/results.json').read_text())
    assert written == result.to_dict()
    assert written['query'] == dict(name=str(first(gallery)), box=BOX)
    assert written['gallery'] == dict(scenes=3, people=9, skipped=[])
    assert [match['rank'] for match in written['matches']] == [1, 2]
    with open(tmp_path / 'out/results.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    for match, row in zip(written['matches'], rows, strict=True):
        assert (row['rank'], row['name']) == (str(match['rank']), match['name'])
        assert [float(row[key]) for key in ('x1', 'y1', 'x2', 'y2')] == match['box']
        assert (float(row['score']), float(row['similarity'])) == (match['score'], match['similarity'])
        assert row['camera'] == row['time'] == ''


@pytest.fixture
def filled(inferencer, gallery, tmp_path):
    """The four images in a gallery: by two cameras in turns, at 0 to 3 seconds."""
    found = inferencer.detect(gallery, score_thr=0).scenes
    stamps = Sources(gallery).stamps()
    filled = Gallery(tmp_path / 'filled', inferencer.model.key, dtype='float32')
    cameras = ['left', 'right'] * 2
    filled.add([GalleryImage(s.name, stamps[s.name], s.people, cameras[n], float(n)) for n, s in enumerate(found)])
    return filled


def test_a_gallery_is_searched_as_it_is(inferencer, gallery, filled, calls, tmp_path):
    """As its images are, with cameras and times; the query's image is left out, no image is run."""
    expected = inferencer.search(first(gallery), BOX, gallery, topk=20, score_thr=0).to_dict()
    del calls[:]
    result = inferencer.search(first(gallery), BOX, filled, topk=20, score_thr=0, out_dir=tmp_path / 'out')
    assert calls == []
    names = sorted(map(str, gallery.iterdir()))
    known = {name: dict(camera=('left', 'right')[n % 2], time=float(n)) for n, name in enumerate(names)}
    expected['matches'] = [{**match, **known[match['name']]} for match in expected['matches']]
    assert json.loads((tmp_path / 'out/results.json').read_text()) == expected
    with open(tmp_path / 'out/results.csv', newline='') as file:
        rows = [(row['name'], row['camera'], float(row['time'])) for row in csv.DictReader(file)]
    assert rows == [(match['name'], match['camera'], match['time']) for match in expected['matches']]
    written = {path.name for path in (tmp_path / 'out').iterdir()}
    assert written == {'ranking.png', 'report.html', 'results.csv', 'results.json'}
    assert (tmp_path / 'out/report.html').read_text().count('<li class="card"') == 10  # and the template
    assert result.picture.shape[2] == 3


@pytest.mark.parametrize(
    ('conditions', 'expected'),
    [
        (dict(camera='left'), [2]),
        (dict(camera=['left', 'right']), [1, 2, 3]),
        (dict(after=2), [2, 3]),
        (dict(before=2), [1]),
        (dict(camera='right', after=1, before=3), [1]),
    ],
)
def test_conditions_on_a_gallery(inferencer, gallery, filled, conditions, expected):
    names = sorted(map(str, gallery.iterdir()))
    result = inferencer.search(first(gallery), BOX, filled, topk=20, score_thr=0, **conditions)
    assert {match.name for match in result.matches} == {names[n] for n in expected}
    assert (result.num_scenes, result.num_people) == (len(expected), 3 * len(expected))
    with pytest.raises(UserError, match='has no camera lift: its cameras are left, right'):
        inferencer.search(first(gallery), BOX, filled, score_thr=0, camera='lift')
    with pytest.raises(UserError, match='camera, after and before are conditions on a gallery'):
        inferencer.search(first(gallery), BOX, gallery, score_thr=0, **conditions)


@pytest.mark.parametrize('change', [os.unlink, os.utime])
def test_a_gallery_whose_images_are_elsewhere(inferencer, gallery, filled, tmp_path, change):
    """Nothing is drawn of an image that is gone, or was changed since."""
    query = decode_image(first(gallery))
    before = inferencer.search(query, BOX, filled, score_thr=0, topk=3, return_vis=True)
    assert before.picture is not None
    change(before.matches[0].name)
    after = inferencer.search(query, BOX, filled, score_thr=0, topk=3, out_dir=tmp_path / 'out')
    assert after.to_dict() == before.to_dict()
    assert after.picture is None
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {'results.csv', 'results.json'}


def test_a_gallery_that_does_not_fit(inferencer, gallery, filled, tmp_path):
    filled.score_thr = 0.5
    filled.add([GalleryImage('other', '', filled[filled.images()[0]])])
    message = 'has images that were run with a score threshold of 0.5: search with at least that score_thr, not 0.2'
    with pytest.raises(UserError, match=message):
        inferencer.search(first(gallery), BOX, filled, score_thr=0.2)
    with pytest.raises(UserError, match='index is what is known of images: leave it out'):
        inferencer.search(first(gallery), BOX, filled, index=filled)
    other = Gallery(tmp_path / 'other', 'f' * 64)
    with pytest.raises(UserError, match=r'other was made by another model \(ffffffff, this one is'):
        inferencer.search(first(gallery), BOX, other)


@pytest.mark.parametrize(('number', 'topk'), [(40, 60), (40, 5), (60, 60), (1000, 5)])
def test_the_most_similar_people_are_reranked(inferencer, gallery, number, topk):
    """Two groups of people around the query, one denser than the other."""
    (query,) = inferencer.embed(first(gallery), BOX)
    rng = np.random.default_rng(0)
    embeddings = query + rng.standard_normal((60, 16), dtype=np.float32) * np.repeat([[0.1], [0.5]], 30, axis=0)
    embeddings[:30] += rng.standard_normal(16, dtype=np.float32) / 2
    embeddings = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    crowd = Gallery(None, inferencer.model.key, dtype='float32')
    people = Detections(np.tile(np.float32(BOX), (60, 1)), np.ones(60, np.float32), embeddings)
    crowd.add([GalleryImage(f'{n:02d}', '', people[n : n + 1]) for n in range(60)])
    order = np.argsort(-(embeddings @ query), kind='stable')
    distances = k_reciprocal_distances(query, embeddings[order[:number]])
    expected = [*order[:number][np.argsort(distances, kind='stable')], *order[number:]]
    assert expected[:topk] != order[:topk].tolist(), 'this example would show nothing'
    result = inferencer.search(first(gallery), BOX, crowd, topk=topk, rerank=number)
    assert [int(match.name) for match in result.matches] == expected[:topk]
    assert [match.similarity for match in result.matches] == pytest.approx(
        embeddings[expected[:topk]] @ query, abs=1e-5
    )
    assert result.to_dict()['reranked'] == number
    least = sorted(match.similarity for match in result.matches)[2]
    some = inferencer.search(first(gallery), BOX, crowd, topk=topk, rerank=number, min_similarity=least)
    assert some.matches == [match for match in result.matches if match.similarity >= least]
    with pytest.raises(UserError, match='rerank must be at least 1, not 0'):
        inferencer.search(first(gallery), BOX, crowd, rerank=0)


def test_damaged_scenes_are_skipped_counted_and_named(inferencer, gallery):
    query = first(gallery)
    (gallery / 'bad.jpg').write_bytes(query.read_bytes()[:500])
    (gallery / 'empty.jpg').touch()
    reasons = [
        f'{gallery}/bad.jpg cannot be read as an image: it is truncated, damaged or something else',
        f'{gallery}/empty.jpg cannot be read as an image: it is empty',
    ]
    expected = [
        Skipped(str(gallery / name), reason) for name, reason in zip(('bad.jpg', 'empty.jpg'), reasons, strict=True)
    ]
    assert inferencer.detect(gallery).skipped == expected
    result = inferencer.search(query, BOX, gallery, score_thr=0, return_vis=True)
    assert result.skipped == expected
    assert result.num_scenes == 3
    with pytest.raises(UserError, match='none of the 1 images can be read; the first: .*/bad.jpg cannot'):
        inferencer.search(query, BOX, gallery / 'bad.jpg')
    with pytest.raises(DamagedImageError):
        inferencer.search(gallery / 'bad.jpg', BOX, gallery)


def test_an_interruption_loses_nothing(inferencer, gallery, monkeypatch, calls, tmp_path):
    detect = inferencer.model.detect

    def stop_at_the_third(images):
        if len(calls) == 2:
            raise KeyboardInterrupt
        return detect(images)

    query = decode_image(first(gallery))
    with monkeypatch.context() as patch:
        patch.setattr(inferencer.model, 'detect', stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            inferencer.search(query, BOX, gallery, score_thr=0, out_dir=tmp_path)
    assert len(inferencer.open_index(tmp_path)) == 2
    result = inferencer.search(query, BOX, gallery, score_thr=0, out_dir=tmp_path)
    assert len(calls) == 4
    assert result.to_dict() == inferencer.search(query, BOX, gallery, score_thr=0).to_dict()


@pytest.mark.parametrize(
    ('options', 'message'), [(dict(topk=0), 'topk must be at least 1, not 0'), (dict(batch_size=0), 'batch_size must')]
)
def test_numbers_below_one(inferencer, gallery, options, message):
    with pytest.raises(UserError, match=message):
        inferencer.search(first(gallery), BOX, gallery, **options)


def test_a_folder_that_cannot_be_made(inferencer, gallery):
    with pytest.raises(UserError, match='cannot write to .*: File exists: choose another folder'):
        inferencer.search(first(gallery), BOX, gallery, out_dir=first(gallery))


@pytest.fixture
def strict(search_files):
    """The same model with a threshold that nobody reaches."""
    cfg = Config.fromfile(search_files[0])
    cfg.model.test_cfg.rcnn.score_thr = 0.99
    inferencer = PersonSearchInferencer(cfg, search_files[1], device='cpu', show_progress=False)
    yield inferencer
    assert cfg.model.test_cfg.rcnn.score_thr == 0.99


def test_detect_runs_the_model_with_a_lower_threshold(inferencer, strict, gallery):
    expected = inferencer.detect(gallery, score_thr=0)
    assert strict.detect(gallery, score_thr=0).to_dict() == expected.to_dict()
    second = float(expected.scenes[0].people.scores[1])
    assert len(strict.detect(first(gallery), score_thr=second).scenes[0].people) == 2
    assert len(strict.detect(first(gallery), score_thr=0.99).scenes[0].people) == 0


def test_search_runs_scenes_again_for_a_lower_threshold(inferencer, strict, gallery, tmp_path):
    query, runs, detect = decode_image(first(gallery)), [], strict.model.detect
    strict.model.detect = lambda images: (runs.append(len(images)), detect(images))[1]
    with pytest.raises(UserError, match=r'nobody was found with a score of at least 0\.99'):
        strict.search(query, BOX, gallery, score_thr=0.99, out_dir=tmp_path)
    assert sum(runs) == 4
    expected = inferencer.search(query, BOX, gallery, score_thr=0)
    index = strict.open_index(tmp_path)
    assert (len(index), index.info()['score_thr']) == (4, 0.99)
    assert strict.search(query, BOX, gallery, score_thr=0, index=index).to_dict() == expected.to_dict()
    assert sum(runs) == 8
    # What was found with the lower threshold serves the higher one, and new images are run with the lower one.
    shutil.copy(first(gallery), gallery / 'new.jpg')
    with pytest.raises(UserError, match='nobody was found'):
        strict.search(query, BOX, gallery, out_dir=tmp_path, score_thr=0.99)
    assert sum(runs) == 9
    again = strict.search(query, BOX, gallery, score_thr=0, out_dir=tmp_path)
    assert sum(runs) == 9
    assert again.to_dict() == inferencer.search(query, BOX, gallery, score_thr=0).to_dict()


# Photographs with an EXIF orientation


UNTURN = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}
"""What a camera stores that notes this orientation, for an upright image."""


def stored_box(box, orientation, height, width):
    """By hand: where a box of the upright image lies in what is stored."""
    x1, y1, x2, y2 = box
    return {
        1: (x1, y1, x2, y2),
        2: (width - x2, y1, width - x1, y2),
        3: (width - x2, height - y2, width - x1, height - y1),
        4: (x1, height - y2, x2, height - y1),
        5: (y1, x1, y2, x2),
        6: (y1, width - x2, y2, width - x1),
        7: (height - y2, width - x2, height - y1, width - x1),
        8: (height - y2, x1, height - y1, x2),
    }[orientation]


@pytest.fixture
def photographs(gallery, tmp_path):
    """One image as eight cameras may store it; the folder, and the upright image (H, W, 3) in BGR."""
    upright = decode_image(first(gallery))
    folder = tmp_path / 'photographs'
    folder.mkdir()
    for orientation, unturn in UNTURN.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(np.ascontiguousarray(unturn(upright[..., ::-1]))).save(folder / f'{orientation}.png', exif=exif)
    return folder, upright


def test_photographs_are_looked_at_upright_and_boxes_are_as_stored(inferencer, photographs, tmp_path):
    folder, upright = photographs
    size = upright.shape[:2]
    (expected,) = inferencer.detect(upright, score_thr=0, return_vis=True).scenes
    found = inferencer.detect(folder, score_thr=0, batch_size=8, return_vis=True, out_dir=tmp_path / 'out')
    (given,) = inferencer.embed(upright, BOX)
    for orientation, source in enumerate(found.scenes, start=1):
        boxes = [stored_box(box, orientation, *size) for box in expected.people.boxes]
        assert source.people.boxes == pytest.approx(np.array(boxes), abs=1e-2)
        assert source.people.embeddings == pytest.approx(expected.people.embeddings, abs=1e-4)
        (described,) = inferencer.embed(source.name, stored_box(BOX, orientation, *size))
        assert described == pytest.approx(given, abs=1e-4)
        assert np.abs(source.picture.astype(int) - expected.picture).mean() < 0.5
    written = json.loads((tmp_path / 'out/results.json').read_text())
    assert written['boxes'].startswith('in pixels as stored')
    assert written['turned'] == [dict(name=f'{folder}/{i}.png', orientation=i) for i in range(2, 9)]


@pytest.mark.parametrize('orientation', [1, 3, 6, 7])
def test_search_with_a_turned_query(inferencer, photographs, gallery, orientation, tmp_path):
    folder, upright = photographs
    box = stored_box(BOX, orientation, *upright.shape[:2])
    query = folder / f'{orientation}.png'
    expected = inferencer.search(upright, BOX, gallery, score_thr=0, topk=3, return_vis=True)
    result = inferencer.search(query, box, gallery, score_thr=0, topk=3, return_vis=True, out_dir=tmp_path / 'out')
    assert result.query_box == box
    assert [match.name for match in result.matches] == [match.name for match in expected.matches]
    assert [m.similarity for m in result.matches] == pytest.approx([m.similarity for m in expected.matches], abs=1e-4)
    below_title = slice(40, None)
    assert np.abs(result.picture[below_title, :300].astype(int) - expected.picture[below_title, :300]).max() <= 2
    assert [image.orientation for image in result.turned] == [orientation] * (orientation != 1)
    wide, high = upright.shape[1::-1] if orientation in (1, 3) else upright.shape[:2]
    with pytest.raises(UserError, match=f'box 900 0 990 9 has no part in the image of {wide}x{high} pixels'):
        inferencer.search(query, [900, 0, 990, 9], gallery)


def test_matches_in_turned_photographs_are_shown_upright(inferencer, photographs):
    folder, upright = photographs
    straight = inferencer.search(upright, BOX, folder / '1.png', score_thr=0, topk=3, return_vis=True)
    for orientation in range(2, 9):
        turned = inferencer.search(upright, BOX, folder / f'{orientation}.png', score_thr=0, topk=3, return_vis=True)
        boxes = [stored_box(match.box, orientation, *upright.shape[:2]) for match in straight.matches]
        assert np.array([match.box for match in turned.matches]) == pytest.approx(np.array(boxes), abs=1e-2)
        captions = slice(290, None)
        pictures = [np.delete(p, np.r_[captions], axis=0).astype(int) for p in (straight.picture, turned.picture)]
        assert np.abs(pictures[0] - pictures[1]).mean() < 0.5


def test_images_of_one_name_in_folders_of_cameras(inferencer, gallery, tmp_path):
    for camera, path in zip(('cam1', '[cam 2]'), sorted(gallery.iterdir()), strict=False):
        (tmp_path / 'cameras' / camera).mkdir(parents=True)
        shutil.copy(path, tmp_path / 'cameras' / camera / '0001.jpg')
    result = inferencer.search(first(gallery), BOX, tmp_path / 'cameras', score_thr=0)
    assert {match.name for match in result.matches} == {
        f'{tmp_path}/cameras/{camera}/0001.jpg' for camera in ('cam1', '[cam 2]')
    }
