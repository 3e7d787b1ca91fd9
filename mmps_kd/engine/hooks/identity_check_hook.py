"""Check before a run that model and data agree."""

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmps_kd.datasets import check_wrappers
from mmps_kd.errors import UserError
from mmps_kd.models.losses import OIMLoss

from ..unwrap import unwrapped_model


@HOOKS.register_module()
class IdentityCheckHook(Hook):
    """Check the number of classes, and compare the training set's identities with the rows of every OIM table.

    More identities than rows is an error; fewer leave rows that are never written, which is said in the log. Several
    data sets must be numbered through, see :class:`~mmps_kd.datasets.ConcatPersonSearchDataset`.
    """

    def before_train(self, runner: Runner) -> None:
        """Check all heads and all OIM losses of the model.

        Raises:
            UserError: If a head has more or fewer classes than the training set, or the training set has more
                identities than a table has rows, has none that are numbered, or is in a wrapper that mixes up
                person ids.
        """
        dataset = runner.train_dataloader.dataset
        check_wrappers(dataset)
        _require_same_classes(runner, runner.train_dataloader)
        tables = {name: part for name, part in unwrapped_model(runner).named_modules() if isinstance(part, OIMLoss)}
        metainfo = dataset.metainfo
        if tables and 'identities' not in metainfo:
            raise UserError(
                f'the training set, a {type(dataset).__name__}, has no identities for the OIM table: use a '
                "person-search data set with split='train'"
            )
        for name, module in tables.items():
            found = len(metainfo['identities'])
            if module.num_identities == found:
                continue
            message = (
                f'the training set has {found} identities, the OIM table {name} has {module.num_identities} rows: '
                f'set num_identities={found} in its config'
            )
            if module.num_identities < found:
                raise UserError(message)
            runner.logger.warning(message)

    def before_val(self, runner: Runner) -> None:
        """As before training, the number of classes."""
        _require_same_classes(runner, runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        """As before training, the number of classes."""
        _require_same_classes(runner, runner.test_dataloader)


def _require_same_classes(runner: Runner, dataloader: DataLoader) -> None:
    """Compare the heads with the data, as mmdet's ``NumClassCheckHook`` does in the first epoch."""
    classes = dataloader.dataset.metainfo.get('classes')
    for name, module in unwrapped_model(runner).named_modules():
        # The RPN has one class, whatever the data.
        is_head = '_head' in name and not name.endswith('rpn_head')
        num_classes = getattr(module, 'num_classes', None)
        if classes is not None and is_head and num_classes not in (None, len(classes)):
            raise UserError(
                f'{name} has num_classes={num_classes}, the data set {len(classes)} ({", ".join(classes)}): set '
                f'num_classes={len(classes)} in its config'
            )
