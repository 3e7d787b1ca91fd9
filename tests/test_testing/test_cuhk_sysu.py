"""The layout, read as the public codebases read it, and compared with the real protocol file."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat

from mmps_kd.testing.synthetic.cuhk_sysu import gallery_sizes, image_names
from mmps_kd.testing.synthetic.sizes import dataset_size

NUMBER, TEXT, NAMES = 'number', 'text', ('imname', 'idlocate', 'ishard')
BOX, FLAG, NOTHING = (NUMBER, (1, 4)), (NUMBER, (1, 1)), ('float64', (1, 0))
# The structure of the real TestG100.mat; 'n' is a length that varies.
REAL = (
    'struct',
    (1, 'n'),
    {
        'Query': {('struct', (1, 1), tuple({'imname': TEXT, 'idlocate': BOX, 'ishard': FLAG, 'idname': TEXT}.items()))},
        'Gallery': {
            ('struct', (1, 'n'), tuple({'imname': TEXT, 'idlocate': BOX, 'ishard': FLAG}.items())),
            ('struct', (1, 'n'), tuple({'imname': TEXT, 'idlocate': NOTHING, 'ishard': NOTHING}.items())),
        },
    },
)


def leaf(value: np.ndarray) -> object:
    if value.dtype.kind == 'U':
        return TEXT if value.shape == (1,) else (TEXT, value.shape)
    return ('float64' if value.size == 0 else NUMBER, value.shape) if value.dtype != object else 'cell'


def variants(array: np.ndarray) -> set:
    """Every combination of field types that the elements of a struct array have."""
    shape = (1, 1) if array.shape == (1, 1) else (array.shape[0], 'n')
    return {('struct', shape, tuple((name, leaf(row[name])) for name in array.dtype.names)) for row in array.ravel()}


def structure(protocol: np.ndarray) -> tuple:
    fields = {name: set().union(*(variants(row[name]) for row in protocol.ravel())) for name in protocol.dtype.names}
    return 'struct', (protocol.shape[0], 'n'), fields


@pytest.fixture
def annotation(cuhk_tiny: Path) -> Path:
    return cuhk_tiny / 'annotation'


@pytest.fixture
def images(annotation: Path) -> dict[str, list]:
    """Boxes of every image, read as the SeqNet family does."""
    found = {}
    for img_name, _, boxes in loadmat(annotation / 'Images.mat')['Img'].squeeze():
        found[str(img_name[0])] = np.asarray([b[0] for b in boxes[0]]).reshape(-1, 4).tolist()
    return found


@pytest.fixture
def pool(annotation: Path) -> list[str]:
    return [str(name[0]) for name in loadmat(annotation / 'pool.mat')['pool'].squeeze()]


@pytest.mark.parametrize('size', [50, 100])
def test_protocol_has_the_structure_of_the_real_file(annotation, size):
    assert structure(loadmat(annotation / f'test/train_test/TestG{size}.mat')[f'TestG{size}']) == REAL


def test_recorded_structure_is_that_of_the_real_file(shared_data):
    assert structure(loadmat(shared_data / 'TestG100.mat')['TestG100']) == REAL


def test_images_lie_there_and_hold_their_boxes(cuhk_tiny, images):
    assert sorted(images) == sorted(f's{i}.jpg' for i in range(1, 25))
    for name, boxes in images.items():
        height, width = cv2.imread(str(cuhk_tiny / 'Image/SSM' / name)).shape[:2]
        assert (width, height) == (160, 120)
        for x, y, w, h in boxes:
            assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= width and y + h <= height


def test_pool_is_the_test_images_mixed_among_the_numbers(pool):
    assert len(set(pool)) == 12
    assert sorted(int(name[1:-4]) for name in pool) not in (list(range(1, 13)), list(range(13, 25)))


def test_training_people_are_read_as_the_public_codebases_do(annotation, images, pool):
    train = loadmat(annotation / 'test/train_test/Train.mat')['Train'].squeeze()
    assert len(train) == 6
    for item in train:
        scenes = item[0, 0][2].squeeze()
        assert int(item[0, 0]['nAppear'].item()) == len(scenes) >= 3
        assert len({str(name[0]) for name, _, _ in scenes}) == len(scenes)
        for name, box, _ in scenes:
            assert str(name[0]) not in pool
            assert box[0].tolist() in images[str(name[0])]


def test_galleries_list_every_other_image_of_the_person_first(annotation, images, pool):
    people = {
        str(name[0]): {str(scene['imname'][0]): scene['idlocate'][0].tolist() for scene in scenes.ravel()}
        for name, _, scenes in loadmat(annotation / 'Person.mat')['Person'].squeeze()
    }
    tests = loadmat(annotation / 'test/train_test/TestG100.mat')['TestG100'].squeeze()
    assert len(people) == 11 and len(tests) == 5
    for item in tests:
        query, box = str(item['Query'][0, 0][0][0]), item['Query']['idlocate'][0, 0][0].tolist()
        own = dict(people[str(item['Query']['idname'][0, 0][0])])
        assert own.pop(query) == box and box in images[query]
        gallery = [(str(name[0]), xywh.ravel().tolist()) for name, xywh, _ in item['Gallery'].squeeze()]
        assert dict(gallery[: len(own)]) == own
        assert all(xywh == [] for _, xywh in gallery[len(own) :])
        assert sorted(name for name, _ in gallery) == sorted(set(pool) - {query})


def test_unlabelled_people_are_in_no_list(annotation, images):
    scenes = [s for person in loadmat(annotation / 'Person.mat')['Person'].squeeze() for s in person['scene'].ravel()]
    labelled = {(str(scene['imname'][0]), tuple(scene['idlocate'][0].tolist())) for scene in scenes}
    everyone = {(name, tuple(box)) for name, boxes in images.items() for box in boxes}
    assert labelled < everyone


@pytest.mark.parametrize(
    ('test_images', 'sizes'), [(12, [50, 100]), (160, [50, 100]), (501, [50, 100, 500]), (500, [50, 100])]
)
def test_gallery_sizes_are_those_that_fit(test_images, sizes):
    assert gallery_sizes(test_images) == sizes


def test_full_has_all_official_gallery_sizes():
    assert gallery_sizes(dataset_size('cuhk-sysu', 'full').test.images) == [50, 100, 500, 1000, 2000, 4000]


def test_names_are_all_numbers_once():
    size = dataset_size('cuhk-sysu', 'mini')
    names = image_names(size, seed=5)
    assert sorted(names) == sorted(f's{i}.jpg' for i in range(1, size.train.images + size.test.images + 1))
    assert names != image_names(dataset_size('cuhk-sysu', 'mini'), seed=6)
