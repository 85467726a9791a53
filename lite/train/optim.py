"""AdamW with its learning rate by the step; biases and norms are not decayed."""

import math

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from lite.train.config import OptimConfig


def parameter_groups(network: nn.Module, config: OptimConfig) -> list[dict]:
    """Parameters that are decayed (matrices and kernels), and those that are not (1-d: biases, norms)."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def lr_factor(step: int, total_steps: int, config: OptimConfig) -> float:
    """Learning rate at a step as a share of its highest value.

    Source: warm-up and drops as in the Sapiens training repository (mmengine LinearLR and MultiStepLR).
    """
    if step < config.warmup_steps - 1:
        return 0.001 + 0.999 * step / (config.warmup_steps - 1)
    if config.schedule == "constant":
        return 1.0
    done = min(1.0, (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps))
    if config.schedule == "cosine":
        return config.final_lr + (1 - config.final_lr) * (1 + math.cos(math.pi * done)) / 2
    return config.gamma ** sum(step >= share * total_steps for share in config.milestones)


def build_optimizer(network: nn.Module, config: OptimConfig, total_steps: int) -> tuple[AdamW, LambdaLR]:
    """Optimiser and its schedule, to be advanced after every step."""
    optimizer = AdamW(parameter_groups(network, config), lr=config.lr)
    return optimizer, LambdaLR(optimizer, lambda step: lr_factor(step, total_steps, config))
