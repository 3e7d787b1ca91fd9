"""Gradient norms of the losses and student-teacher distances, logged while training."""

import math

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmps_kd.models.detectors.person_search_distiller import loss_weight
from mmps_kd.models.distillers import Diagnostics

from ..unwrap import unwrapped_distiller


@HOOKS.register_module()
class DistillationDiagnosticsHook(Hook):
    """Measure at an interval how each loss pulls on the shared features and how far student and teachers are apart.

    Three groups of values go to the message hub, to the log and to the visualizer's backends (``scalars.json``):

    - ``diagnostics/grad_<loss>``: L2 norm of the loss's gradient, weight included, on the feature maps that RPN and
      RoI head share; ``<loss>`` as logged: ``student/loss_oim``, ``distill/loss_rpn.cls``.
    - ``diagnostics/share_<loss>``: what part of the sum of these norms a distillation loss has.
    - ``diagnostics/gap_<name>``: the distance to the teacher at each place, and of the labelled embeddings to the
      teacher's table (``lut``), see ``distance`` of the classes in ``mmps_kd.models.distillers.terms``.

    The measurement belongs to the iteration's own forward pass and changes nothing in training. In a distributed run
    every rank measures its own part of the batch, and the main one's values are logged. Values that are not finite
    (nothing to compare in the batch, overflow in fp16) are left out.

    Works on a :class:`PersonSearchDistiller`; does nothing for a plain student.

    Args:
        interval: Iterations between two measurements.
        window: A loss that stays below ``inert_share`` in so many measurements in a row is warned about, once.
            A weight of 0 is meant and not warned about.
        inert_share: In [0, 1].
    """

    def __init__(self, interval: int = 500, window: int = 10, inert_share: float = 1e-3) -> None:
        self.interval = interval
        self.window = window
        self.inert_share = inert_share
        self.warned: set[str] = set()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Ask the distiller to measure."""
        distiller = unwrapped_distiller(runner)
        if distiller is not None and self.every_n_train_iters(runner, self.interval):
            distiller.diagnostics = Diagnostics(_loss_scale(runner))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Log what was measured, and warn."""
        distiller = unwrapped_distiller(runner)
        if distiller is None or distiller.diagnostics is None:
            return
        values, distiller.diagnostics = _scalars(distiller.diagnostics), None
        runner.message_hub.update_scalars(values)
        runner.visualizer.add_scalars(dict(values, iter=runner.iter + 1), step=runner.iter + 1)
        short = (f'{name.removeprefix("diagnostics/")}: {value:.3g}' for name, value in values.items())
        runner.logger.info(f'diagnostics  {"  ".join(short)}')
        for name, term in zip(distiller.names, distiller.distillation, strict=True):
            if loss_weight(term.loss) != 0:
                self._warn_if_inert(runner, f'distill/loss_{name}')

    def _warn_if_inert(self, runner: Runner, loss: str) -> None:
        key = f'diagnostics/share_{loss}'
        if loss in self.warned or key not in runner.message_hub.log_scalars:
            return
        shares = runner.message_hub.get_scalar(key).data[0][-self.window :]
        if len(shares) == self.window and shares.max() < self.inert_share:
            self.warned.add(loss)
            runner.logger.warning(
                f'{loss} is inert: its share of the gradients on the shared features was at most {shares.max():.1e} in '
                f'the last {self.window} measurements (inert_share: {self.inert_share:g}): raise its loss_weight, '
                'compare at another place, or leave it out'
            )


def _scalars(diagnostics: Diagnostics) -> dict[str, float]:
    """The finite values by the names that they are logged under."""
    norms = diagnostics.grad_norms
    total = sum(norms.values())
    values = {f'grad_{name}': norm for name, norm in norms.items()}
    values.update({f'share_{name}': norm / total for name, norm in norms.items() if name.startswith('distill/')})
    values.update({f'gap_{name}': distance for name, distance in diagnostics.distances.items()})
    scalars = {f'diagnostics/{name}': value.item() for name, value in values.items()}
    return {name: value for name, value in scalars.items() if math.isfinite(value)}


def _loss_scale(runner: Runner) -> float:
    """What mixed precision multiplies the losses with."""
    scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
    return 1.0 if scaler is None else scaler.get_scale()
