"""Why a part of QEEPS does or does not help: does it know which of the people in a gallery image is asked for?

For a trained QEEPS model, on pairs of a query and a gallery image that shows the same person among others, in training
and test images: the share of the others whom each part ranks below the query's person (0.5 is chance). QRPN and RPN
rank people by their best anchor, cosine and QSimNet by their true boxes. QSSE ranks nobody: the cosine is given once
more with gallery features that were excited by the query image of another pair, and how far QSSE's weights depend on
the pair. Then each part alone is trained on one batch, by all losses that it changes.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import DATASETS
from mmdet.structures.bbox import bbox2roi, bbox_overlaps
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import Tensor

from mmps_kd.apis.init_model import init_model
from mmps_kd.errors import run_tool
from mmps_kd.models.detectors import QEEPS


def draw_pairs(dataset, count: int, seed: int) -> list[tuple[int, int, int]]:
    """Query image, gallery image and the identity that both show; the gallery image shows others too."""
    rng, images_of = np.random.default_rng(seed), defaultdict(list)
    pids = [[person['pid'] for person in dataset.get_data_info(i)['instances']] for i in range(len(dataset))]
    for image, people in enumerate(pids):
        for pid in people:
            if pid >= 0:
                images_of[pid].append(image)
    pairs = []
    for gallery in rng.permutation(len(dataset)).tolist():
        wanted = [pid for pid in pids[gallery] if len(images_of.get(pid, ())) > 1]
        if wanted and len(pids[gallery]) > 1:
            pid = int(rng.choice(wanted))
            pairs.append((int(rng.choice([image for image in images_of[pid] if image != gallery])), gallery, pid))
    return pairs[:count]


@torch.no_grad()
def rank(model: QEEPS, query: dict, gallery: dict, pid: int, another: Tensor) -> tuple[dict[str, float], list[Tensor]]:
    """Of each part the share of the other people ranked below the query's person; QSSE's weights, one (C,) a layer.

    Args:
        model: The model.
        query: The query image, as loaded.
        gallery: The gallery image, as loaded.
        pid: Whom both show.
        another: The query image of another pair, preprocessed.
    """
    query, gallery = (model.data_preprocessor(pseudo_collate([item]), False) for item in (query, gallery))
    shown, people = query['data_samples'][0].gt_instances, gallery['data_samples'][0].gt_instances
    box, asked = shown[shown.pids == pid].bboxes[:1], people.pids == pid
    state, gallery_state = model.encode_queries(query['inputs'], box)[0], model.encode_gallery(gallery['inputs'])
    weights, handles = [], []
    for qsse in model.backbone.qsse.values():
        for layer in qsse:
            handles.append(layer.excite.register_forward_hook(lambda _, __, out: weights.append(out.sigmoid()[0])))
    if model.backbone.is_guided:
        x_query, x = model.backbone.dependent(state.features, gallery_state)
        vectors = model.roi_head.bbox_roi_extractor(x_query, bbox2roi([box])).mean(dim=(2, 3))
        embedding = model.roi_head.embed(x_query, [box])[0][0]
    else:
        x, vectors, embedding = (gallery_state,), state.vector[None], state.embedding
    for handle in handles:
        handle.remove()
    embeddings = model.roi_head.embed(x, [people.bboxes])[0]
    found = {'cosine': embeddings @ embedding}
    if model.backbone.is_guided:
        _, misled = model.backbone.dependent(model.encode_gallery(another), gallery_state)
        found["cosine, another pair's QSSE"] = model.roi_head.embed(misled, [people.bboxes])[0] @ embedding
    if model.qsim_net is not None:
        found['QSimNet'] = model.qsim_net.similarity(embeddings, embedding.expand_as(embeddings))
    objectness = {'RPN': model.rpn_head(x)[0][0]}
    if model.qrpn is not None:
        objectness['QRPN'] = model.qrpn(x, vectors)[0]
    anchors = model.rpn_head.prior_generator.grid_priors([x[0].shape[-2:]], device=x[0].device)[0]
    overlaps = bbox_overlaps(people.bboxes, anchors)
    for part, scores in objectness.items():
        scores = scores.permute(0, 2, 3, 1).flatten().expand_as(overlaps)
        found[part] = scores.masked_fill(overlaps < 0.5, -torch.inf).amax(dim=1)
    shares = {part: float((scores[asked].max() > scores[~asked]).double().mean()) for part, scores in found.items()}
    return shares, weights


def overfit(model: QEEPS, batch: dict, steps: int) -> dict[str, tuple[float, float]]:
    """The part's loss before and after its parameters alone are trained on one batch; the rest of the model stays."""
    data, found = model.data_preprocessor(batch, training=True), {}
    parts = dict(QRPN=(model.qrpn, 'loss_qrpn'), QSimNet=(model.qsim_net, 'loss_qsim'))
    parts['QSSE'] = model.backbone.qsse, None  # all losses
    before = {name: value.clone() for name, value in model.state_dict().items()}
    oim = {name: value for name, value in before.items() if '.loss_oim.' in name}
    for name, (part, loss) in parts.items():
        if part is None or not list(part.parameters()):
            continue
        model.load_state_dict(before)
        model.train()
        optimizer, history = torch.optim.AdamW(part.parameters(), lr=1e-2), []
        for _ in range(steps):
            torch.manual_seed(0)
            model.load_state_dict(oim, strict=False)  # the table would come to the batch by itself
            losses = model(**data, mode='loss')
            total = model.parse_losses(losses)[0] if loss is None else losses[loss]
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            history.append(total.item())
        found[name] = history[0], history[-1]
    model.load_state_dict(before)
    model.eval()
    return found


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', type=Path, help='of a run of qeeps_ablation.py')
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument('--pairs', type=int, default=150)
    parser.add_argument('--steps', type=int, default=100, help='on one batch, of each part')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    args = parse_args()
    torch.set_num_threads(1)
    init_default_scope('mmdet')
    MMLogger.get_instance('qeeps_parts', log_level='WARNING')
    cfg = Config.fromfile(args.config)
    model = init_model(cfg, args.checkpoint, device='cpu')
    loader = cfg.train_dataloader.copy()
    loader.update(num_workers=0, persistent_workers=False)
    batch = next(iter(Runner.build_dataloader(loader, seed=args.seed)))
    for part, (first, last) in overfit(model, batch, args.steps).items():
        print(f'{part} alone on one batch: loss {first:.3f}, after {args.steps} steps {last:.3f}', flush=True)
    training = cfg.train_dataloader.dataset.dataset
    training.pipeline = [step for step in training.pipeline if step['type'] != 'RandomFlip']
    for name in ('train', 'test'):
        dataset = DATASETS.build({**training, 'split': name})
        pairs = draw_pairs(dataset, args.pairs, args.seed)
        others = [
            model.data_preprocessor(pseudo_collate([dataset.prepare_data(q)]), False)['inputs'] for q, _, _ in pairs
        ]
        rows, weights = defaultdict(list), []
        for (query, gallery, pid), another in zip(pairs, others[1:] + others[:1], strict=True):
            items = dataset.prepare_data(query), dataset.prepare_data(gallery)
            shares, gates = rank(model, *items, pid, another)
            for part, share in shares.items():
                rows[part].append(share)
            weights.append(torch.cat(gates) if gates else torch.zeros(0))
        print(f"{name}, {len(pairs)} pairs, others ranked below the query's person:")
        for part, values in rows.items():
            error = np.std(values, ddof=1) / len(values) ** 0.5
            print(f'    {part:28s} {np.mean(values):.3f} ± {error:.3f} (standard error)')
        gates = torch.stack(weights)
        if gates.shape[1]:
            print(f"    QSSE's weights: mean {gates.mean():.3f}, deviation over pairs {gates.std(dim=0).mean():.3f}")


if __name__ == '__main__':
    run_tool(main)
