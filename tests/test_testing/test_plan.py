import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmps_kd.testing.synthetic.plan import ImageRecord, PersonBox, deal, plan_images, scenes_by_identity, stream
from mmps_kd.testing.synthetic.sizes import DatasetSize, SplitSize


@st.composite
def split_sizes(draw) -> SplitSize:
    images = draw(st.integers(2, 30))
    fewest = draw(st.integers(1, images))
    return SplitSize(images, draw(st.integers(1, 20)), (fewest, draw(st.integers(fewest, images))))


@given(split_sizes(), st.integers(0, 99), st.integers(0, 50))
def test_deal_shows_everyone_often_enough_and_once_an_image(split, seed, first):
    people = deal(np.random.default_rng(seed), split, first)
    assert len(people) == split.images
    assert all(len(set(identities)) == len(identities) for identities in people)
    seen = np.bincount([i - first for identities in people for i in identities], minlength=split.identities)
    assert len(seen) == split.identities
    assert (seen >= split.appearances[0]).all() and (seen <= split.appearances[1]).all()


def test_deal_spreads_people_evenly():
    counts = [len(identities) for identities in deal(np.random.default_rng(0), SplitSize(20, 10, (4, 4)), 0)]
    assert counts == [2] * 20


def test_plan_has_both_splits_with_other_people_and_the_given_names():
    size = DatasetSize(8, 6, SplitSize(4, 3, (2, 2)), SplitSize(5, 2, (3, 3)), 2, (0, 0))
    plans = plan_images(size, list('abcdefghi'), seed=3)
    assert [plan.name for plan in plans] == list('abcdefghi')
    assert [plan.split for plan in plans] == ['train'] * 4 + ['test'] * 5
    assert {i for plan in plans[:4] for i in plan.identities} == {0, 1, 2}
    assert {i for plan in plans[4:] for i in plan.identities} == {3, 4}


def test_streams_depend_on_seed_part_and_index_alone():
    draws = {key: stream(*key).integers(2**60) for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))}
    assert len(set(draws.values())) == 4
    assert stream(0, 1, 0).integers(2**60) == draws[0, 1, 0]


def test_scenes_leave_out_the_other_split_and_the_unlabelled():
    box = {i: PersonBox(i, (i, 0, 5, 5), 1.0) for i in (-1, 2, 4, 7)}
    records = [
        ImageRecord('a', 'test', (box[4], box[-1], box[2])),
        ImageRecord('b', 'train', (box[7],)),
        ImageRecord('c', 'test', (box[4],)),
    ]
    assert scenes_by_identity(records, 'test') == {2: [('a', box[2])], 4: [('a', box[4]), ('c', box[4])]}
