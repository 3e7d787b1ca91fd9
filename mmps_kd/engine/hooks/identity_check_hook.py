"""Check before training that table and data agree."""

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmps_kd.errors import UserError
from mmps_kd.models.losses import OIMLoss

from .unwrap import unwrapped_model


@HOOKS.register_module()
class IdentityCheckHook(Hook):
    """Compare the training set's identities with the rows of every OIM table, before the first iteration.

    More identities than rows is an error; fewer leave rows that are never written, which is said in the log.
    """

    def before_train(self, runner: Runner) -> None:
        """Check all OIM losses of the model.

        Raises:
            UserError: If the training set has more identities than a table has rows.
        """
        found = len(runner.train_dataloader.dataset.metainfo['identities'])
        for name, module in unwrapped_model(runner).named_modules():
            if not isinstance(module, OIMLoss) or module.num_identities == found:
                continue
            message = (
                f'the training set has {found} identities, the OIM table {name} has {module.num_identities} rows: '
                f'set num_identities={found} in its config'
            )
            if module.num_identities < found:
                raise UserError(message)
            runner.logger.warning(message)
