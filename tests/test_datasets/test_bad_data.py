"""Images and annotations as they should not be."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.logging import MMLogger
from PIL import Image
from torch.utils.data import DataLoader

from mmps_kd.datasets import CustomPersonSearchDataset
from mmps_kd.datasets.image_files import DamagedImageError
from mmps_kd.errors import UserError

PIPELINE = [dict(type='LoadScene'), dict(type='LoadPersonSearchAnnotations'), dict(type='PackPersonSearchInputs')]
NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """``write(boxes, sizes=False)``: a custom data set; boxes are (image, x, y, w, h, pid); returns its root."""
    monkeypatch.setenv('MMPS_CACHE', str(tmp_path / 'cache'))

    def write(*boxes: tuple, num_images: int = 2, **image_keys) -> Path:
        (tmp_path / 'images').mkdir(exist_ok=True)
        images = [dict(id=i, file_name=f'{i}.jpg', **image_keys) for i in range(num_images)]
        for image in images:
            path = tmp_path / 'images' / image['file_name']
            if not path.exists():
                cv2.imwrite(str(path), NOISE)
        people = [
            dict(id=n, image_id=image, bbox=xywh) | ({} if pid is None else dict(person_id=pid))
            for n, (image, *xywh, pid) in enumerate(boxes)
        ]
        (tmp_path / 'people.json').write_text(json.dumps(dict(images=images, annotations=people)))
        return tmp_path

    return write


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest) -> pytest.LogCaptureFixture:
    MMLogger.get_instance(request.node.name).addHandler(caplog.handler)
    return caplog


def build(root: Path, split: str = 'train', **more) -> CustomPersonSearchDataset:
    cfg = dict(type='CustomPersonSearchDataset', data_root=str(root), ann_file='people.json', split=split)
    return DATASETS.build({**cfg, 'pipeline': PIPELINE, 'test_mode': split == 'test', **more})


def boxes_of(dataset: CustomPersonSearchDataset) -> dict[str, list]:
    infos = map(dataset.get_data_info, range(len(dataset)))
    return {info['img_name']: [person['bbox'] for person in info['instances']] for info in infos}


RPN = ('loss_rpn_cls', 'loss_rpn_bbox')
PEOPLE = (0, 5, 5, 20, 30, 1), (1, 5, 5, 20, 30, 1)


# Damaged images


@pytest.mark.parametrize('content', [b'', b'no image'])
@pytest.mark.parametrize(('split', 'on_bad_image'), [('train', 'error'), ('test', 'error'), ('test', 'skip')])
def test_an_image_without_a_header_stops_at_the_start(write: Callable, split: str, on_bad_image: str, content: bytes):
    root = write(*PEOPLE)
    (root / 'images/1.jpg').write_bytes(content)
    with pytest.raises(UserError, match=r'images: 1 of 2 images cannot be read, first 1\.jpg; .*check_dataset\.py'):
        build(root, split, on_bad_image=on_bad_image)


def test_an_image_without_a_header_can_be_skipped_in_training(write: Callable, log):
    root = write(*PEOPLE, (1, 40, 5, 20, 30, 8))
    (root / 'images/1.jpg').write_bytes(b'')
    dataset = build(root, on_bad_image='skip')
    assert boxes_of(dataset) == {'0.jpg': [[5, 5, 25, 35]]}
    assert dataset.metainfo['identities'] == (1,)  # 8 is nowhere to be seen
    assert 'CustomPersonSearchDataset (train): 1 of 2 images cannot be read, first 1.jpg; skipped' in log.text


@pytest.mark.parametrize('split', ['train', 'test'])
def test_turned_images_are_named_at_the_start(write: Callable, log, split: str):
    root = write(*((image, 5, 5, 20, 30, 1) for image in range(5)), num_images=5)
    exif = Image.Exif()
    exif[0x0112] = 3
    for image in (0, 1, 3, 4):
        Image.fromarray(NOISE).save(root / f'images/{image}.jpg', exif=exif)
    assert len(build(root, split)) == 5
    assert '4 images are to be turned by EXIF (0.jpg, 1.jpg, 3.jpg, ...): they are used as stored' in log.text


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def test_a_truncated_image_stops_training_when_it_is_reached(write: Callable):
    root = write(*PEOPLE)
    truncate(root / 'images/1.jpg')
    dataset = build(root)
    dataset[0]
    with pytest.raises(DamagedImageError, match=r'images/1\.jpg cannot be read'):
        dataset[1]


@pytest.mark.parametrize('workers', [0, 2])
def test_a_truncated_image_is_skipped_and_reported_once_over_workers_and_epochs(
    write: Callable, workers: int, capfd: pytest.CaptureFixture, request: pytest.FixtureRequest
):
    root = write(*PEOPLE, (2, 5, 5, 20, 30, 3), num_images=3)
    truncate(root / 'images/1.jpg')
    dataset = build(root, on_bad_image='skip')
    MMLogger.get_instance(request.node.name)
    loader = DataLoader(
        dataset, num_workers=workers, collate_fn=list, multiprocessing_context='fork' if workers else None
    )
    for _ in range(3):
        names = [sample['data_samples'].img_name for (sample,) in loader]
        assert names[0] == '0.jpg' and names[2] == '2.jpg' and names[1] in ('0.jpg', '2.jpg')
    text = ''.join(capfd.readouterr())
    assert text.count('images/1.jpg cannot be read as an image') == 1
    assert 'skipped, 1 of 3 images so far' in text


def test_a_test_never_skips(write: Callable):
    root = write(*PEOPLE)
    truncate(root / 'images/1.jpg')
    with pytest.raises(DamagedImageError):
        build(root, 'test', on_bad_image='skip')[1]


def test_another_choice_is_refused(write: Callable):
    with pytest.raises(UserError, match="on_bad_image must be 'error' or 'skip', got 'ignore'"):
        build(write(*PEOPLE), on_bad_image='ignore')


# Boxes


def test_boxes_are_cut_dropped_and_counted_at_the_start(write: Callable, log):
    root = write(
        (0, -5, -6, 20, 30, 1),  # over the corner
        (0, 70, 40, 10.5, 20, 2),  # over the right edge by half a pixel
        (0, 0, 0, 80, 60, 3),  # just all of it
        (1, 80, 5, 10, 10, 4),  # begins where the image ends
        (1, 5, -20, 10, 20, 5),  # ends where the image begins
        (1, 5, 5, 0, 10, 6),
        (1, 5, 5, 10, -3, 7),
        (1, 1, 2, 3, 4, 8),
    )
    dataset = build(root)
    assert boxes_of(dataset) == {
        '0.jpg': [[0, 0, 15, 24], [70, 40, 80, 60], [0, 0, 80, 60]],
        '1.jpg': [[1, 2, 4, 6]],
    }
    assert dataset.metainfo['identities'] == (1, 2, 3, 8)
    for message in (
        'dropped 2 boxes of zero width or height, first in 1.jpg',
        'dropped 2 boxes outside their image, first in 1.jpg',
        'clipped 2 boxes that are partly outside their image, first in 0.jpg',
    ):
        assert log.text.count(message) == 1
    before = len(log.records)
    for _ in range(2):
        [dataset[i] for i in range(2)]
    assert len(log.records) == before


def test_the_truth_of_a_test_set_stays_as_annotated(write: Callable):
    dataset = build(write((0, 60, 5, 30, 30, 1), (1, 5, 5, 20, 30, 1)), 'test')
    assert boxes_of(dataset)['0.jpg'] == [[60, 5, 80, 35]]
    evaluation = dataset.metainfo['evaluation']
    assert evaluation.ground_truth.boxes[0].tolist() == [60, 5, 90, 35]
    assert evaluation.protocols['full'].query_boxes[0].tolist() == [60, 5, 90, 35]


def test_a_query_outside_its_image_is_an_error(write: Callable):
    root = write(*PEOPLE)
    (root / 'queries.txt').write_text('1 5 5 20 30 0.jpg\n1 100 5 20 30 1.jpg\n')
    with pytest.raises(UserError, match=r'query 1 has box \[100.* which is empty or outside of 1\.jpg'):
        build(root, 'test', query_file='queries.txt')


@pytest.mark.parametrize('box', [[float('nan')] * 4, [float('inf'), 0, 1, 1], [0, 0, 1e400, 1]])
def test_a_box_of_no_numbers_is_an_error(write: Callable, box: list):
    with pytest.raises(UserError, match=r'people\.json: annotation 1: bbox .* is not finite'):
        build(write(PEOPLE[0], (1, *box, 1)))


@pytest.mark.parametrize('pid', [1.5, '7', True, [1]])
def test_a_person_id_of_another_kind_is_an_error(write: Callable, pid):
    with pytest.raises(UserError, match=r'people\.json: annotation 1: a person_id is a whole number, got'):
        build(write(PEOPLE[0], (1, 5, 5, 20, 30, pid)))


def test_a_size_that_the_file_does_not_have_is_an_error(write: Callable):
    assert len(build(write(*PEOPLE, height=60, width=80))) == 2
    with pytest.raises(UserError, match=r'0\.jpg has 80x60 pixels, its annotation says 160x120: '):
        build(write(*PEOPLE, height=120, width=160))
    with pytest.raises(UserError, match=r'its annotation says 60x80; .* as stored, not as turned by EXIF'):
        build(write(*PEOPLE, height=80, width=60))


# Detections


def test_images_with_nobody_and_rare_identities_are_counted(write: Callable, log):
    root = write(*PEOPLE, (0, 40, 5, 20, 30, 4), (2, 5, 5, 20, 30, None), num_images=4)
    dataset = build(root)
    assert list(boxes_of(dataset)) == ['0.jpg', '1.jpg', '2.jpg']  # nobody known in the last one: it stays
    assert dataset.metainfo['identities'] == (1, 4)
    assert 'train): 1 of 4 images have no person, 1 identities appear in one image only' in log.text


def test_a_training_set_of_nobody_is_an_error(write: Callable):
    with pytest.raises(UserError, match='no training image has a person in it'):
        build(write())


def test_an_image_of_unlabelled_people_trains(write: Callable, build_model: Callable):
    dataset = build(write((0, 5, 5, 20, 30, None), (1, 5, 5, 20, 30, None)))
    assert dataset.metainfo['num_identities'] == 0
    model = build_model().train()
    sample = dataset[0]
    batch = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    assert torch.as_tensor(losses['loss_oim']) == 0
    assert all(
        torch.isfinite(torch.stack(value if isinstance(value, list) else [value])).all() for value in losses.values()
    )


# Names that lead out of the data root


@pytest.mark.parametrize(
    'name',
    [
        *('../secret.jpg', '/etc/passwd', 'a/../../b.jpg', '..', '', 'a\nb.jpg', 'x' * 300),
        *(
            '..\\secret.jpg',
            'C:\\secret.jpg',
            'd:secret.jpg',
            '\\\\server\\secret.jpg',
            'a\\..\\..\\secret.jpg',
            'a\0b.jpg',
        ),
    ],
)
def test_a_name_that_leads_out_of_the_image_folder_is_an_error(write: Callable, name: str):
    root = write(*PEOPLE)
    content = json.loads((root / 'people.json').read_text())
    content['images'][1]['file_name'] = name
    (root / 'people.json').write_text(json.dumps(content))
    cv2.imwrite(str(root / 'secret.jpg'), NOISE)
    with pytest.raises(
        UserError, match=r'people\.json: image 1 names .*(stay inside|too long|control character)'
    ) as caught:
        build(root)
    assert '\n' not in str(caught.value)


def test_links_inside_the_folder_are_followed(write: Callable, tmp_path: Path):
    root = write(*PEOPLE)
    (root / 'images').rename(tmp_path / 'elsewhere')
    (root / 'images').symlink_to(tmp_path / 'elsewhere')
    assert len(build(root)) == 2
