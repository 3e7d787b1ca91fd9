"""The query-guided detector: training on pairs, its parts off one by one, pairs predicted together and alone."""

import copy

import pytest
import torch
from mmengine.structures import InstanceData

from mmps_kd.errors import UserError

BOX = [10, 8, 40, 88]
PAIRS = [
    (BOX, 3, [[12, 8, 44, 88], [60, 20, 90, 92]], [-1, 3]),
    ([60, 20, 90, 92], 0, [[20, 10, 50, 90]], [0]),
]
PLAIN = {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'acc', 'loss_oim'}
PARTS = ('qsse', 'qrpn', 'qsim_net')


@pytest.fixture
def build(qeeps_cfg, build_model):
    """Build the model with some parts off; QSSE's weights are random, as after training."""

    def build(off=(), **overrides):
        if 'qsse' in off:
            qeeps_cfg.backbone.qsse = None
        parts = {part: None for part in ('qrpn', 'qsim_net') if part in off}
        model = build_model(**parts, **overrides)
        torch.manual_seed(1)
        for parameter in model.backbone.qsse.parameters():
            torch.nn.init.normal_(parameter)
        # Queries are to differ, and boxes to be people, of whom the untrained head is unsure.
        if model.qrpn is not None:
            torch.nn.init.normal_(model.qrpn.excite.weight)
            torch.nn.init.normal_(model.qrpn.cls.weight)
        model.roi_head.test_cfg.score_thr = 0.1
        return model

    return build


@pytest.fixture
def states(make_batch):
    """Query states of three boxes in two images, the state of a gallery image, and its sample."""

    def encode(model):
        model.eval()
        batch = make_batch([([], []), ([], []), ([], [])], seed=4)
        data = model.data_preprocessor(batch)
        first, second, gallery = data['inputs'].split(1)
        boxes = torch.tensor([BOX, [60.0, 20, 90, 92]])
        # The images of queries and gallery differ in size.
        queries = [*model.encode_queries(first[..., :112], boxes), *model.encode_queries(second, boxes[:1])]
        return queries, model.encode_gallery(gallery), data['data_samples'][2]

    return encode


def step(model, batch):
    data = model.data_preprocessor(copy.deepcopy(batch), training=True)
    losses = model(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    return losses, total


def assert_same(pairs, others, atol=1e-5):
    for pair, other in zip(pairs, others, strict=True):
        for field in ('bboxes', 'scores', 'similarities'):
            assert torch.allclose(pair[field], other[field], atol=atol), field


@pytest.mark.parametrize('off', [(), *((part,) for part in PARTS), PARTS])
def test_one_step_trains_every_parameter(build, make_pairs, off):
    model = build(off)
    losses, total = step(model, make_pairs(PAIRS))
    added = {'qrpn': 'loss_qrpn', 'qsim_net': 'loss_qsim'}
    assert set(losses) == PLAIN | {loss for part, loss in added.items() if part not in off}
    assert torch.isfinite(total)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    'pairs',
    [
        [(BOX, 3, [[12, 8, 44, 88]], [-1]), (BOX, 2, [[12, 8, 44, 88]], [0])],
        [(BOX, 3, [], []), (BOX, 2, [], [])],
        [(BOX, 3, [[12, 8, 44, 88], [60, 20, 90, 92]], [3, 3])],
    ],
    ids=['negative pairs', 'nobody', 'twice'],
)
def test_pairs_without_the_query_or_with_nobody(build, make_pairs, pairs):
    model = build()
    _, total = step(model, make_pairs(pairs))
    assert torch.isfinite(total)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_people_of_query_images_join_the_table_and_queries_are_compared_with_their_own_pair(build, make_pairs):
    model = build()
    batch = make_pairs(PAIRS)
    # Beside the second query stand identity 5 and somebody unlabelled.
    sample = batch['data_samples']['query'][1]
    boxes, pids = torch.tensor([[5.0, 5, 30, 80], [60, 20, 90, 92], [95, 5, 120, 80]]), torch.tensor([5, 0, -1])
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.zeros(3).long(), pids=pids)
    data = model.data_preprocessor(batch, training=True)
    outputs = model.forward_train(**{f'batch_{key}': value for key, value in data.items()})
    positive = outputs.roi.labels == 0
    count = int(positive.sum())
    assert outputs.roi.pids[count:].tolist() == [3, 0, 5, -1]
    # In the first image the person of identity 3 is the second, in the other there is only identity 0.
    assert torch.equal(outputs.same, outputs.roi.pids[:count] >= 0)
    people, queries = outputs.roi.embeddings[:count], outputs.roi.embeddings[count : count + 2]
    pair = outputs.roi.rois[positive, 0].long()
    torch.testing.assert_close(model.qsim_net(people, queries[pair]), outputs.qsim_logits)
    model.eval()
    with torch.no_grad():
        x_query, _ = model.backbone.forward_pair(data['inputs']['query'], data['inputs']['gallery'])
        outputs = model.forward_train(**{f'batch_{key}': value for key, value in data.items()})
        boxes = [boxes[:0], boxes[[0, 2]]]
        expected = torch.cat(model.roi_head.embed(x_query, boxes))
    torch.testing.assert_close(outputs.roi.embeddings[-2:], expected)
    model.train().loss_by_outputs(outputs)
    lut = model.roi_head.reid_head.loss_oim.lut
    assert (lut.norm(dim=1) > 0).tolist() == [True, False, False, True, False, True]


def test_anchors_are_for_the_querys_person(build, make_pairs):
    model = build()
    data = model.data_preprocessor(make_pairs(PAIRS), training=True)
    outputs = model.forward_train(**{f'batch_{key}': value for key, value in data.items()})
    (labels,), (anchors,) = outputs.qrpn.labels, outputs.rpn.anchors
    centres = (anchors[0, labels[0] == 0, :2] + anchors[0, labels[0] == 0, 2:]) / 2
    assert len(centres) > 0
    # The query's person stands from x = 60 to 90, the other from 12 to 44.
    assert (centres[:, 0] > 52).all()
    sampled = outputs.qrpn.label_weights[0] > 0
    assert (sampled & (outputs.qrpn.labels[0] == 1)).any(dim=1).all()
    assert sampled.sum() == outputs.qrpn.avg_factor


@pytest.mark.parametrize('off', [(), ('qsse',), ('qsse', 'qrpn'), ('qrpn',), ('qsim_net',), PARTS])
def test_pairs_together_are_as_each_alone(build, states, off):
    model = build(off)
    queries, gallery, sample = states(model)
    together = model.predict_pairs(gallery, sample, queries)
    alone = [model.predict_pairs(gallery, sample, [query])[0] for query in queries]
    assert_same(together, alone)
    assert_same(model.predict_pairs(gallery, sample, queries[::-1]), together[::-1])
    assert all(len(pair) > 0 for pair in together)
    assert not torch.allclose(together[0].similarities[:1], together[2].similarities[:1], atol=1e-4)
    small = model.predict_pairs(gallery, sample, queries, rescale=False)
    # The picture was halved on the way in.
    assert torch.allclose(small[0].bboxes * 2, together[0].bboxes)


def test_without_parts_it_is_plain_prediction(build, states, make_batch):
    model = build(PARTS)
    queries, gallery, sample = states(model)
    pairs = model.predict_pairs(gallery, sample, queries)
    batch = make_batch([([], []), ([], []), ([], [])], seed=4)
    data = model.data_preprocessor(batch)
    boxes = torch.tensor([BOX])
    data['data_samples'][1].query_instances = InstanceData(bboxes=boxes, query_ids=torch.tensor([2]))
    with torch.no_grad():
        _, query, plain = model(**data, mode='predict')
    assert torch.allclose(pairs[2].bboxes, plain.pred_instances.bboxes, atol=1e-4)
    assert torch.allclose(pairs[2].scores, plain.pred_instances.scores, atol=1e-5)
    cosine = plain.pred_instances.embeddings @ query.pred_queries.embeddings[0]
    assert torch.allclose(pairs[2].similarities, cosine, atol=1e-5)


def test_a_query_of_no_weight_leaves_the_plain_proposals(build, states):
    model = build(('qsse',))
    queries, gallery, sample = states(model)
    for layer in (model.qrpn.conv, model.qrpn.cls):
        torch.nn.init.zeros_(layer.bias)
    torch.nn.init.zeros_(model.qrpn.excite.weight)
    torch.nn.init.constant_(model.qrpn.excite.bias, float('-inf'))
    guided = model.predict_pairs(gallery, sample, queries)
    model.qrpn = None
    assert_same(guided, model.predict_pairs(gallery, sample, queries), atol=0)


def test_the_rpn_chooses_by_the_sum_of_both_scores(build, states):
    model = build(('qsse', 'qsim_net'))
    queries, gallery, sample = states(model)
    chosen = []
    predict = model.rpn_head.predict_by_feat
    model.rpn_head.predict_by_feat = lambda scores, *args, **kw: chosen.append(scores) or predict(scores, *args, **kw)
    model.predict_pairs(gallery, sample, queries)
    with torch.no_grad():
        expected = model.rpn_head((gallery,))[0][0] + torch.cat(
            [model.qrpn((gallery,), q.vector[None])[0] for q in queries]
        )
    assert torch.allclose(chosen[0][0], expected, atol=1e-5)
    assert not torch.allclose(expected[0], expected[2], atol=1e-4)


def test_what_queries_share_runs_once(build, states):
    model = build(('qsse', 'qrpn'))
    queries, gallery, sample = states(model)
    calls = []
    for part in (model.rpn_head, model.roi_head.bbox_head):
        part.forward = lambda x, forward=part.forward: calls.append(len(x)) or forward(x)
    model.predict_pairs(gallery, sample, queries)
    assert len(calls) == 2


@pytest.mark.parametrize('qsse', [True, False])
def test_a_state_holds_what_its_pairs_need(build, states, qsse):
    model = build(() if qsse else ('qsse',))
    queries, gallery, _ = states(model)
    assert [query.box.tolist() for query in queries] == [[BOX], [[60, 20, 90, 92]], [BOX]]
    if qsse:
        assert gallery.shape == queries[2].features.shape == (1, 8, 24, 32)
        assert queries[0].features.shape == (1, 8, 24, 28)
        assert queries[0].vector is queries[0].embedding is None
    else:
        assert gallery.shape == (1, 32, 12, 16)
        assert queries[0].features is None
        assert queries[0].vector.shape == (32,)
        assert queries[0].embedding.norm().item() == pytest.approx(1, abs=1e-5)


def test_qsse_that_weighs_nothing_is_none(build, states):
    guided, plain = build(), build(('qsse',))
    plain.load_state_dict({k: v for k, v in guided.state_dict().items() if '.qsse.' not in k})
    for name, parameter in guided.backbone.qsse.named_parameters():
        torch.nn.init.constant_(parameter, 100 if name.endswith('excite.bias') else 0)
    pairs = [
        model.predict_pairs(gallery, sample, queries)
        for model in (guided, plain)
        for queries, gallery, sample in [states(model)]
    ]
    assert_same(*pairs, atol=1e-4)


def test_plain_prediction_pairs_an_image_with_itself(build, make_batch):
    model = build().eval()
    batch = make_batch([([], [])])
    batch['data_samples'][0].query_instances = InstanceData(bboxes=torch.tensor([BOX]), query_ids=torch.tensor([5]))
    data = model.data_preprocessor(batch)
    with torch.no_grad():
        (sample,) = model(**data, mode='predict')
        x, _ = model.backbone.forward_pair(data['inputs'], data['inputs'])
        (expected,) = model.roi_head.embed(x, [torch.tensor([BOX])])
    assert torch.allclose(sample.pred_queries.embeddings, expected, atol=1e-5)
    assert len(sample.pred_instances) > 0


@pytest.mark.parametrize('box', [[130.0, 10, 150, 60], [10, 100, 40, 120], [-20, 10, 0, 60], [30, 10, 30, 60]])
def test_a_query_outside_its_image_is_refused(build, make_batch, box):
    model = build().eval()
    inputs = model.data_preprocessor(make_batch([([], [])]))['inputs']
    with pytest.raises(UserError, match=r'query box \[.*\] lies outside its image of 128x96 pixels'):
        model.encode_queries(inputs, torch.tensor([BOX, box]))
    assert len(model.encode_queries(inputs, torch.tensor([[-10.0, 50, 140, 120]]))) == 1


def test_a_neck_is_refused(build):
    with pytest.raises(UserError, match='take the neck out'):
        build(neck=dict(type='FPN', in_channels=[32], out_channels=32, num_outs=1))
