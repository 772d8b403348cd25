"""Ray Train's trainer, as the training stage uses it."""

from __future__ import annotations

from typing import Any

import ray
import ray.train.torch
from ray.train.v2._internal.constants import get_env_vars_to_propagate
from ray.train.v2._internal.execution.controller import TrainController

from sead_ray.stages.elastic import ElasticPolicy

# Ray Train takes one report of a worker each time it polls, by default every 2 s: short epochs would wait for it.
POLL_S = 0.25
# Within Ray Train's 60 s a node of a cloud has not started: it would try for ever.
START_TIMEOUT_S = 600.0
# Elastic workers are asked for where there is room already. What does not get it so soon never will: a node has died
# meanwhile, or others hold what was counted; then they are counted anew.
ELASTIC_START_TIMEOUT_S = 30.0

_Trainer: Any = ray.train.torch.TorchTrainer  # Any: Ray's stubs give a union of Train v1's and v2's
_Controller: Any = TrainController


class InterruptibleTrainer(_Trainer):
    """Leaves Ctrl-C to the command: Ray Train's own handler would end the process with code 0, as if it were done; and
    can be ended from any thread. An elastic training counts its workers by `stages.elastic`."""

    controller: Any = None
    ended = False

    def _initialize_and_run_controller(self, **settings: Any) -> Any:
        start_timeout_s = START_TIMEOUT_S
        if self.scaling_config.elasticity_enabled:
            start_timeout_s = ELASTIC_START_TIMEOUT_S
            labels = self.scaling_config.label_selector or {}
            settings["scaling_policy"] = ElasticPolicy(self.scaling_config, labels)
        variables = {
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(POLL_S),
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(start_timeout_s),
            "RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0",
            **get_env_vars_to_propagate(),  # what the user has set
        }
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        remote: Any = ray.remote(num_cpus=0, label_selector=here, runtime_env={"env_vars": variables})
        self.controller = remote(_Controller).remote(**settings)
        if self.ended:
            self.end()
        ray.get(self.controller.run.remote())
        return ray.get(self.controller.get_result.remote())

    def end(self) -> None:
        """Ends what is left of the training: its controller, and with it the workers."""
        self.ended = True
        if self.controller is not None and ray.is_initialized():
            ray.kill(self.controller)
