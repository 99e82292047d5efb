"""YAML from anybody: plain texts, numbers, lists and mappings, and nothing that can explode.

A few lines of anchors stand for as many values as one likes, and a tag for an object of another
kind. Neither has a place in a config, so either is refused, as is a key that stands twice.
"""

from __future__ import annotations

from typing import Any

import yaml

MOST = 64 << 10  # bytes; PyYAML takes a second for some 100 KB, and a pipeline's config has 500
DEPTH = 50


class PlainYamlError(ValueError):
    """In a few words, what the text is that it may not be."""


def load(text: str) -> Any:
    """What the text says; PlainYamlError where it is no plain YAML."""
    if len(text) > MOST:
        raise PlainYamlError(f"it is larger than {MOST >> 10} KiB")
    try:
        return yaml.load(text, Loader=_Loader)
    except PlainYamlError:
        raise
    except yaml.YAMLError as error:
        raise PlainYamlError(type(error).__name__) from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:  # 2024-13-45, ...
        raise PlainYamlError(f"a value that is none: {type(error).__name__}") from None


def texts_at_top(text: str) -> dict[str, object]:
    """The texts, and the lists of such, at the top of YAML that may hold anything else besides.

    Nothing is built from it but these, so that anchors and merges stand for nothing.
    """
    try:
        top = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    if not isinstance(top, yaml.MappingNode):
        return {}
    found = ((_text(key), _texts(value)) for key, value in top.value)
    return {name: value for name, value in found if name is not None}


def _texts(node: yaml.Node) -> object:
    if isinstance(node, yaml.SequenceNode):
        return [_text(item) for item in node.value]
    return _text(node)


def _text(node: yaml.Node) -> str | None:
    is_text = isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str"
    return str(node.value) if is_text else None  # `license: no` is a boolean, not a licence


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise PlainYamlError("it has anchors or aliases")
        if event.tag is not None:
            raise PlainYamlError("it has tags")
        if self.depth >= DEPTH:
            raise PlainYamlError(f"it is nested more than {DEPTH} deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(keys) < len(node.value):
            raise PlainYamlError("a key is no plain text")
        if ("tag:yaml.org,2002:merge", "<<") in keys:
            raise PlainYamlError("it merges mappings")
        made = super().construct_mapping(node, deep)
        if len(made) < len(keys):
            raise PlainYamlError("a key stands twice")
        return made
