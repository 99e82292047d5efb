"""What kind of module of torch's one is: a list, a chain, a function."""

from __future__ import annotations

import torch

from samevoice.models.layers import Module

nn = torch.nn


def attribute(name: str) -> str:
    """What MLX takes it for: there, "_conv" has no weights, and "keys" is a dictionary's."""
    bare = name.lstrip("_") or name
    return f"{bare}_" if hasattr(Module, bare) else bare


def target(path: str) -> str:
    """The same of a whole path."""
    return ".".join(map(attribute, path.split(".")))


def is_chain(module: torch.nn.Module) -> bool:
    """A list of modules that are called in turn, and nothing else."""
    chain = nn.Sequential
    return isinstance(module, chain) and type(module).forward is chain.forward


def is_list(module: torch.nn.Module) -> bool:
    """What only holds others, in a list or by name."""
    kinds = nn.ModuleList | nn.ModuleDict | nn.ParameterList
    held = isinstance(module, kinds) and type(module).forward is nn.Module.forward
    return held or is_chain(module)


def is_function(module: torch.nn.Module) -> bool:
    """torch's own without weights: an activation, a pooling, a dropout."""
    own = type(module).__module__.startswith("torch.nn.")
    return (
        own
        and not any(True for _ in module.parameters())
        and not any(True for _ in module.children())
    )
