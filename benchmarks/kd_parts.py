"""Why a part of detector KD does or does not help: what the teacher knows better, and whether the loss can be learned.

For a trained plain student and its teacher, on the student's own anchors and RoIs in training and in test images: the
student's error and the teacher's at each head. Then, for each part alone, the student-teacher distance on one batch
before and after training on that batch. Needs the data and teacher of ``make demo`` and a row ``plain`` of
``kd_ablation.py``.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from ablation import ROOT, run_dir
from kd_ablation import BOXES, HINT, LOGITS, STUDENT_CONFIG, models
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmps_kd.apis.init_model import load_config
from mmps_kd.compat import load_from_file
from mmps_kd.engine.checkpoint import last_checkpoint
from mmps_kd.errors import run_tool
from mmps_kd.models.detectors import PersonSearchDistiller
from mmps_kd.models.distillers.terms import by_anchor

PARTS = {'hint': [HINT], 'logits': LOGITS, 'bounded regression': BOXES}


def build(cfg: Config, change: dict, weights: Path | None = None) -> PersonSearchDistiller:
    """A student with a teacher; ``weights`` are the plain student's."""
    cfg = cfg.copy()
    cfg.merge_from_dict(dict(model=change))
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    if weights is not None:
        model.load_state_dict(load_from_file(weights)['state_dict'], strict=False)
    return model


@torch.no_grad()
def errors(model: PersonSearchDistiller, batch: dict) -> dict[str, tuple[float, float]]:
    """The student's error and the teacher's at each head: cross entropy, or 1 - IoU with the person of the box."""
    data = model.data_preprocessor(batch, training=True)
    outputs = model.forward_train(data['inputs'], data['data_samples'])
    answers = model.forward_teacher(data['inputs'], outputs, data['data_samples'])
    rpn, roi, found = outputs.rpn, outputs.roi, {}

    sampled = torch.cat(rpn.label_weights, dim=1).flatten() > 0
    labels = torch.cat(rpn.labels, dim=1).flatten()[sampled]
    own = by_anchor(rpn.cls_scores, 1)[sampled, 0], answers.rpn.cls_score[sampled, 0]
    found['rpn.cls'] = [F.binary_cross_entropy_with_logits(x, (labels == 0).float()).item() for x in own]

    positive = torch.cat(rpn.bbox_weights, dim=1).flatten(0, 1)[:, 0] > 0
    anchors = torch.cat(rpn.anchors, dim=1).flatten(0, 1)[positive]
    targets = torch.cat(rpn.bbox_targets, dim=1).flatten(0, 1)[positive]
    deltas = by_anchor(rpn.bbox_preds, 4)[positive], answers.rpn.bbox_pred[positive]
    found['rpn.bbox'] = box_errors(model.rpn_head.bbox_coder, anchors, targets, deltas)

    found['roi.cls'] = [F.cross_entropy(x.float(), roi.labels).item() for x in (roi.cls_score, answers.roi.cls_score)]
    positive = roi.bbox_weights[:, 0] > 0
    deltas = roi.bbox_pred[positive], answers.roi.bbox_pred[positive]
    coder = model.roi_head.bbox_head.bbox_coder
    found['roi.bbox'] = box_errors(coder, roi.rois[positive, 1:], roi.bbox_targets[positive], deltas)
    return found


def box_errors(coder, priors: torch.Tensor, targets: torch.Tensor, deltas: tuple) -> list[float]:
    """Mean of 1 - IoU between decoded deltas and decoded targets."""
    truth = coder.decode(priors, targets)
    return [1 - bbox_overlaps(coder.decode(priors, x), truth, is_aligned=True).mean().item() for x in deltas]


def overfit(cfg: Config, terms: list[dict], change: dict, batch: dict, steps: int) -> dict[str, list[float]]:
    """Student-teacher distances before and after ``steps`` of training on one batch by the part's losses alone."""
    model = build(cfg, {**change, 'distillation': terms}).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    data = model.data_preprocessor(batch, training=True)
    history = []
    for step in range(steps + 1):
        torch.manual_seed(0)
        outputs = model.forward_train(data['inputs'], data['data_samples'])
        answers = model.forward_teacher(data['inputs'], outputs, data['data_samples'])
        named = list(zip(model.names, model.distillation, strict=True))
        if step in (0, steps):
            history.append({name: term.distance(outputs, answers).item() for name, term in named})
        optimizer.zero_grad()
        sum(term(outputs, answers) for _, term in named).backward()
        optimizer.step()
    return {name: [history[0][name], history[1][name]] for name in model.names}


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/kd_ablation', help='of kd_ablation.py')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--batches', type=int, default=20)
    parser.add_argument('--steps', type=int, default=200)
    return parser.parse_args()


def main() -> None:
    """Print both tables."""
    args = parse_args()
    torch.set_num_threads(1)
    init_default_scope('mmdet')
    MMLogger.get_instance('kd_parts', log_level='WARNING')
    cfg = load_config(STUDENT_CONFIG)
    change = models(args.work_dir)['detector KD']
    model = build(cfg, change, last_checkpoint(run_dir(args.work_dir, 'plain', args.seed))).eval()
    plain = cfg.train_dataloader.copy()
    plain.update(num_workers=0, persistent_workers=False)
    unseen = plain.copy()
    # The images of the gallery, loaded as training images are.
    pipeline = [step for step in plain.dataset.pipeline if step['type'] != 'RandomFlip']
    unseen.dataset = {**plain.dataset, 'split': 'test', 'pipeline': pipeline}
    print('| head | images | error of the student | of the teacher |\n| --- | --- | --- | --- |')
    for name, loader in (('training', plain), ('test', unseen)):
        rows = defaultdict(list)
        for number, batch in enumerate(Runner.build_dataloader(loader, seed=args.seed)):
            if number == args.batches:
                break
            for head, values in errors(model, batch).items():
                rows[head].append(values)
        for head, values in rows.items():
            student, teacher = np.nanmean(values, axis=0)
            print(f'| `{head}` | {name} | {student:.3f} | {teacher:.3f} |')
    batch = next(iter(Runner.build_dataloader(plain, seed=args.seed)))
    print('\n| part | location | distance before | after |\n| --- | --- | --- | --- |')
    for part, terms in PARTS.items():
        for location, (before, after) in overfit(cfg, terms, change, batch, args.steps).items():
            print(f'| {part} | `{location}` | {before:.3f} | {after:.3f} |')


if __name__ == '__main__':
    run_tool(main)
