"""The guarantees of distillation: what it changes, and what it must not."""

import copy

import pytest
import torch

from mmps_kd.errors import UserError

PEOPLE = [([[10, 8, 40, 88], [60, 20, 90, 92]], [3, -1]), ([[20, 10, 50, 90]], [0])]
EMPTY = [([], []), ([], [])]
NEAR = dict(adapter='conv3x3_relu', mask='fine_grained', loss=dict(type='FeatureImitationLoss', mode='fine_grained'))
TERMS = [
    dict(at='backbone.0', loss=dict(type='FeatureImitationLoss')),
    dict(at='backbone.0', name='near', **NEAR),
    dict(at='rpn.cls', loss=dict(type='LogitDistillationLoss')),
    dict(at='rpn.bbox', loss=dict(type='BoundedRegressionLoss')),
    dict(at='roi.cls', loss=dict(type='LogitDistillationLoss', mode='kl')),
    dict(at='roi.bbox', loss=dict(type='BoundedRegressionLoss')),
]
NAMES = ['backbone.0', 'near', 'rpn.cls', 'rpn.bbox', 'roi.cls', 'roi.bbox']


def weighted(weight):
    return [dict(term, loss=dict(term['loss'], loss_weight=weight)) for term in TERMS]


def step(model, batch):
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    total, _ = model.parse_losses(losses)
    return losses, total


def train(model, make_batch, steps=4):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    torch.manual_seed(11)
    totals = []
    for seed in range(steps):
        _, total = step(model, make_batch(PEOPLE, seed=seed))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    return totals, torch.get_rng_state()


def test_with_weights_of_zero_it_is_the_plain_student_bit_for_bit(build_model, teacher, make_batch):
    plain = build_model()
    distilled = build_model(type='PersonSearchDistiller', teacher=teacher, distillation=weighted(0.0))
    assert train(plain, make_batch, steps=20)[0] == train(distilled, make_batch, steps=20)[0]
    ours = distilled.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in plain.state_dict().items())


def test_switched_off_it_is_the_plain_student_bit_for_bit(build_model, make_batch):
    terms = [dict(term, hard_weight=0.5) if '.cls' in term['at'] else term for term in TERMS]
    absent = dict(config='absent.py', checkpoint='absent.pth')
    table = dict(type='LUTDistiller', lut_file='absent.safetensors')
    off = build_model(type='PersonSearchDistiller', teacher=absent, distillation=terms, lut=table, enabled=False)
    plain = build_model()
    (ours, random_state), (theirs, expected_state) = train(off, make_batch), train(plain, make_batch)
    assert ours == theirs
    assert torch.equal(random_state, expected_state)
    assert list(off.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(value, off.state_dict()[name]) for name, value in plain.state_dict().items())


def test_hard_weight_is_that_of_the_students_own_loss(build_model, teacher, make_batch):
    def losses_with(**weight):
        terms = [dict(term, **weight) for term in weighted(0.0) if term['at'] in ('rpn.cls', 'roi.bbox')]
        model = build_model(type='PersonSearchDistiller', teacher=teacher, distillation=terms)
        torch.manual_seed(11)
        total, logged = model.parse_losses(step(model, make_batch(PEOPLE))[0])
        return model, {name: value.item() for name, value in logged.items() if name.startswith('student/loss')}

    whole, halved = losses_with()[1], losses_with(hard_weight=0.5)[1]
    changed = {'student/loss_rpn_cls', 'student/loss_bbox'}
    assert halved == {name: value * (0.5 if name in changed else 1) for name, value in whole.items()}
    text = losses_with(hard_weight=0.5)[0].objective()
    assert text.startswith('0.5 * loss_rpn_cls + 1 * loss_rpn_bbox + 1 * loss_cls + 0.5 * loss_bbox + ')


def test_neither_teacher_nor_losses_draw_random_numbers(build_model, teacher, make_batch):
    plain = train(build_model(), make_batch)[1]
    distilled = build_model(type='PersonSearchDistiller', teacher=teacher, distillation=weighted(0.0))
    assert torch.equal(train(distilled, make_batch)[1], plain)


@pytest.mark.parametrize('people', [PEOPLE, EMPTY, [([[5, 5, 50, 90]], [-1])]])
def test_every_parameter_of_student_and_adapters_gets_a_gradient(build_model, teacher, make_batch, people):
    model = build_model(type='PersonSearchDistiller', teacher=teacher, distillation=weighted(1.0))
    losses, total = step(model, make_batch(people))
    total.backward()
    assert {f'distill/loss_{name}' for name in NAMES} <= set(losses)
    assert 'student/loss_oim' in losses
    assert torch.isfinite(total)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(p.grad is None for p in model.teacher.model.parameters())
    assert all(losses[f'distill/loss_{name}'].dtype == torch.float32 for name in NAMES)


def test_under_autocast_losses_are_computed_in_fp32(build_model, teacher, lut, make_batch):
    terms = [*weighted(1.0), dict(at='roi.embedding', loss=dict(type='IDFeatureLoss'))]
    model = build_model(type='PersonSearchDistiller', teacher=teacher, distillation=terms, lut=lut)
    data = model.data_preprocessor(make_batch(PEOPLE), training=True)
    with torch.autocast('cpu', dtype=torch.half):
        outputs = model.forward_train(data['inputs'], data['data_samples'])
        teacher_outputs = model.forward_teacher(data['inputs'], outputs)
        losses = [term(outputs, teacher_outputs) for term in model.distillation]
    in_half = [
        outputs.features[0],
        outputs.rpn.bbox_preds[0],
        teacher_outputs.features[0],
        teacher_outputs.rpn.bbox_pred,
    ]
    assert [answer.dtype for answer in in_half] == [torch.half] * 4
    assert [loss.dtype for loss in losses] == [torch.float32] * 7
    # Half precision is where the answers come from, not how they are compared.
    assert [term(outputs, teacher_outputs).item() for term in model.distillation] == [loss.item() for loss in losses]
    assert all(loss.isfinite() for loss in losses)
    sum(losses).backward()
    adapters = model.distillation.parameters()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in adapters)


def test_the_teacher_is_no_part_of_the_student(build_model, teacher):
    model = build_model(type='PersonSearchDistiller', teacher=teacher, distillation=weighted(1.0)).train()
    its_own = {id(p) for p in model.teacher.model.parameters()}
    assert not its_own & {id(p) for p in model.parameters()}
    assert model.teacher.model not in set(model.modules())
    assert not any('teacher' in name for name in model.state_dict())
    assert not any(module.training for module in model.teacher.model.modules())
    # An averaged copy (EMA) has the student and shares the teacher.
    assert copy.deepcopy(model).teacher is model.teacher


def test_distilled_checkpoint_is_the_students(build_model, teacher, lut):
    distilled = build_model(seed=5, type='PersonSearchDistiller', teacher=teacher, distillation=weighted(1.0), lut=lut)
    state = distilled.state_dict()
    plain = build_model()
    missing, unexpected = plain.load_state_dict(state, strict=True)
    assert (missing, unexpected) == ([], [])
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
    off = build_model(type='PersonSearchDistiller', teacher=teacher, distillation=weighted(1.0), enabled=False)
    off.load_state_dict(state, strict=True)
    again = build_model(seed=6, type='PersonSearchDistiller', teacher=teacher, distillation=weighted(1.0), lut=lut)
    again.load_state_dict(state, strict=True)
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    assert any(name.startswith('distillation.') for name in state)


def test_adaptation_layers_by_their_former_names(build_model, teacher):
    model = build_model(type='PersonSearchDistiller', teacher=teacher, distillation=weighted(1.0))
    state = {name.replace('.adapter.', '.loss.adapter.'): value for name, value in model.state_dict().items()}
    assert 'distillation.0.loss.adapter.weight' in state
    again = build_model(seed=6, type='PersonSearchDistiller', teacher=teacher, distillation=weighted(1.0))
    again.load_state_dict(state, strict=True)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_its_own_teacher_teaches_nothing(build_model, model_cfg, make_batch, write_teacher):
    itself = build_model(seed=9)
    teacher = write_teacher(model_cfg, itself)
    terms = [dict(at=at, loss=dict(type='LogitDistillationLoss', mode='kl')) for at in ('rpn.cls', 'roi.cls')]
    terms += [dict(at='backbone.0', loss=dict(type='FeatureImitationLoss'))]
    model = build_model(type='PersonSearchDistiller', teacher=teacher, distillation=terms)
    model.load_state_dict(itself.state_dict(), strict=False)
    # In eval mode the batch norms of both use the same statistics.
    losses, _ = step(model.eval(), make_batch(PEOPLE))
    taught = [value.item() for name, value in losses.items() if name.startswith('distill/')]
    assert taught == pytest.approx([0, 0, 0], abs=1e-6)


def test_teacher_judges_the_anchors_and_rois_of_the_student(build_model, teacher, make_batch):
    model = build_model(type='PersonSearchDistiller', teacher=teacher, distillation=weighted(1.0)).eval()
    data = model.data_preprocessor(make_batch(PEOPLE), training=True)
    outputs = model.forward_train(data['inputs'], data['data_samples'])
    teacher_outputs = model.forward_teacher(data['inputs'], outputs)
    expected = model.teacher.model.roi_head._bbox_forward(teacher_outputs.features, outputs.roi.rois)
    assert torch.equal(teacher_outputs.roi.cls_score, expected['cls_score'])
    assert teacher_outputs.rpn.cls_score.shape == (outputs.rpn.cls_scores[0].numel(), 1)
    assert torch.equal(teacher_outputs.features[0], model.teacher.model.extract_feat(data['inputs'])[0])


def test_nothing_is_imitated_in_the_padding(build_model, teacher, make_batch):
    model = build_model(type='PersonSearchDistiller', teacher=teacher, distillation=[TERMS[1]])
    batch = make_batch([PEOPLE[0], ([[44, 10, 64, 60]], [2])])
    batch['inputs'][1] = batch['inputs'][1][:, :, :64]
    data = model.data_preprocessor(batch, training=True)
    outputs = model.forward_train(data['inputs'], data['data_samples'])
    mask = model.distillation[0]._mask(outputs)
    assert mask.shape == (2, 12, 16)
    # 64 of 128 pixels, eight cells, are image; the person stands at their edge.
    assert mask[1, :, 7].any()
    assert not mask[1, :, 8:].any()
    assert mask[0, :, 8:].any()


def test_only_what_is_asked_is_run(build_model, teacher, make_batch):
    hint = [TERMS[0]]
    model = build_model(type='PersonSearchDistiller', teacher=teacher, distillation=hint)
    data = model.data_preprocessor(make_batch(PEOPLE), training=True)
    teacher_outputs = model.forward_teacher(data['inputs'], model.forward_train(data['inputs'], data['data_samples']))
    assert teacher_outputs.rpn is None
    assert teacher_outputs.roi is None


def test_table_is_the_teachers_and_stays(build_model, lut, make_batch):
    model = build_model(type='PersonSearchDistiller', lut=lut)
    before = model.roi_head.reid_head.loss_oim.lut.clone()
    assert torch.equal(before, model.lut_distiller.table.rows)
    train(model, make_batch)
    assert torch.equal(model.roi_head.reid_head.loss_oim.lut, before)
    assert model.roi_head.reid_head.loss_oim.queue.abs().sum() > 0


def test_embeddings_against_the_table(build_model, lut, make_batch):
    terms = [dict(at='roi.embedding', loss=dict(type='IDFeatureLoss'))]
    model = build_model(type='PersonSearchDistiller', lut=lut, distillation=terms)
    data = model.data_preprocessor(make_batch(PEOPLE), training=True)
    outputs = model.forward_train(data['inputs'], data['data_samples'])
    known = outputs.roi.pids >= 0
    rows = model.lut_distiller.table.rows[outputs.roi.pids[known]]
    expected = (outputs.roi.embeddings[known] - rows).square().sum(1).mean()
    assert model.distillation[0](outputs, None).item() == pytest.approx(expected.item(), rel=1e-6)
    assert not any('rows' in name for name in model.state_dict())


@pytest.mark.parametrize(
    ('at', 'message'),
    [
        ('backbone.3', r"'backbone.3'.*there is backbone.0 \(32 channels, stride 8\), rpn.cls"),
        ('roi.embedding', 'configure lut'),
    ],
)
def test_places_that_do_not_exist(build_model, teacher, at, message):
    terms = [dict(at=at, loss=dict(type='FeatureImitationLoss'))]
    with pytest.raises(UserError, match=message):
        build_model(type='PersonSearchDistiller', teacher=teacher, distillation=terms)


def test_hard_weight_where_the_student_has_no_loss(build_model, teacher):
    with pytest.raises(UserError, match="'backbone.0': hard_weight is for rpn.cls, rpn.bbox, roi.cls, roi.bbox alone"):
        build_model(type='PersonSearchDistiller', teacher=teacher, distillation=[dict(TERMS[0], hard_weight=0.5)])


def test_a_loss_without_a_teacher(build_model):
    with pytest.raises(UserError, match="'rpn.cls' needs a teacher"):
        build_model(type='PersonSearchDistiller', distillation=[TERMS[2]])


def test_two_losses_of_one_name(build_model, teacher):
    with pytest.raises(UserError, match='two losses are called rpn.cls'):
        build_model(type='PersonSearchDistiller', teacher=teacher, distillation=[TERMS[2], TERMS[2]])


def test_missing_teacher_files(build_model, teacher, tmp_path):
    for key in ('config', 'checkpoint'):
        absent = str(tmp_path / f'absent.{key}')
        with pytest.raises(UserError, match=f'absent.{key}'):
            build_model(type='PersonSearchDistiller', teacher={**teacher, key: absent}, distillation=[TERMS[0]])


def test_objective_can_be_read(build_model, teacher):
    model = build_model(type='PersonSearchDistiller', teacher=teacher, distillation=weighted(0.5))
    text = model.objective()
    assert text.startswith('1 * loss_rpn_cls + 1 * loss_rpn_bbox + 1 * loss_cls + 1 * loss_bbox + 1 * loss_oim + ')
    assert '0.5 * near: FeatureImitationLoss(fine_grained, l2) after conv3x3_relu 32->48, fine_grained mask' in text
