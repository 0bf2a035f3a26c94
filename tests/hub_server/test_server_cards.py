"""The card's metadata as the Hub on loopback checks it, asked with the real client."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from huggingface_hub import CommitOperationAdd, ModelCard

from tests.hub_server.fixture import Hub
from tests.hub_server.test_hub import ask

pytestmark = pytest.mark.usefixtures("in_process")
RESULT: dict[str, Any] = {
    "task": {"type": "image-classification", "name": "Image classification"},
    "dataset": {"type": "org/beans", "name": "beans", "split": "test", "revision": "a" * 40, "args": {"seed": 0}},
    "metrics": [{"type": "accuracy", "value": 0.93, "name": "Accuracy"}, {"type": "f1", "value": 0.9}],
}
GOOD: dict[str, Any] = {
    "license": "apache-2.0",
    "language": ["en", "de"],
    "library_name": "peft",
    "pipeline_tag": "image-classification",
    "tags": ["lora", "image-classification"],
    "datasets": ["org/beans"],
    "metrics": ["accuracy"],
    "base_model": "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "base_model_relation": "adapter",
    "model-index": [{"name": "beans", "results": [RESULT]}],
    "something_of_ours": {"free": True},
}


def errors(hub: Hub, front_matter: dict[str, Any] | str, repo_type: str = "model") -> list[str]:
    """What the Hub says against a card, as the client gives it before a push."""
    text = front_matter if isinstance(front_matter, str) else f"---\n{yaml.safe_dump(front_matter)}---\n# Card\n"
    try:
        hub.api()._validate_yaml(text, repo_type=repo_type)
    except ValueError as error:
        first, *lines = str(error).splitlines()
        assert first == "Invalid metadata in README.md."
        return [line.removeprefix("- ") for line in lines]
    return []


def test_a_card_by_the_specification_is_taken(hub: Hub) -> None:
    assert errors(hub, GOOD) == []
    assert errors(hub, {"license": ["mit", "apache-2.0"], "base_model": ["a/b", "c/d"]}) == []
    assert errors(hub, {"license": "other", "license_name": "mine-1.0", "license_link": "LICENSE"}) == []
    assert errors(hub, {"license": "mit", "task_categories": ["image-classification"]}, "dataset") == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"license": "Apache 2.0"}, '"license" must be one of [apache-2.0, mit, '),
        ({"license": "other"}, '"license_name" is required when "license" is other'),
        ({"language": "english language"}, '"language" with value "english language" is not valid'),
        ({"language": ["en", 3]}, '"language[1]" with value "3" is not valid'),
        ({"pipeline_tag": "image-guessing"}, '"pipeline_tag" must be one of [biology, '),
        ({"library_name": 5}, '"library_name" must be a string'),
        ({"tags": "lora"}, '"tags" must be an array'),
        ({"tags": ["lora", None]}, '"tags[1]" must be a string'),
        ({"datasets": ["a b"]}, '"datasets[0]" with value "a b" is not valid. Use a dataset id from'),
        ({"datasets": [None]}, '"datasets[0]" with value "None" is not valid'),
        ({"base_model": "/home/me/model"}, '"base_model" with value "/home/me/model" is not valid. Use a model id'),
        ({"base_model_relation": "lora"}, '"base_model_relation" must be one of [adapter, merge, quantized, finetune]'),
        ({"new_version": "a/b/c"}, '"new_version" with value "a/b/c" is not valid'),
        ({"metrics": "accuracy"}, '"metrics" must be an array'),
        ({"model-index": {"name": "x"}}, '"model-index" must be an array'),
        ({"model-index": [{"results": []}]}, '"model-index[0].name" is required'),
        ({"model-index": [{"name": "x", "results": [{**RESULT, "task": {}}]}]},
         '"model-index[0].results[0].task.type" is required'),
        ({"model-index": [{"name": "x", "results": [{**RESULT, "dataset": {"type": "beans"}}]}]},
         '"model-index[0].results[0].dataset.name" is required'),
        ({"model-index": [{"name": "x", "results": [{"task": {"type": "t"}, "metrics": []}]}]},
         '"model-index[0].results[0].dataset" is required'),
        ({"model-index": [{"name": "x", "results": [{**RESULT, "metrics": [{"type": "accuracy"}]}]}]},
         '"model-index[0].results[0].metrics[0].value" is required'),
        ({"model-index": [{"name": "x", "results": [{**RESULT, "metrics": [{"type": "f1", "value": float("nan")}]}]}]},
         '"model-index[0].results[0].metrics[0].value" must be a number'),
    ],
)  # fmt: skip
def test_what_the_specification_does_not_allow_is_named(hub: Hub, change: dict[str, Any], expected: str) -> None:
    (error,) = errors(hub, GOOD | change)
    assert error.startswith(expected)


def test_yaml_that_cannot_be_read_is_an_error_and_none_is_a_warning(hub: Hub) -> None:
    assert errors(hub, "---\nlicense: [mit\n---\n")[0].startswith(
        "invalid yaml metadata: while parsing a flow sequence"
    )
    assert "duplicated mapping key: license" in errors(hub, "---\nlicense: mit\nlicense: bsd\n---\n")[0]
    assert errors(hub, "---\n- mit\n---\n") == ["the metadata must be a mapping of names to values"]
    with pytest.warns(UserWarning, match="empty or missing yaml metadata in repo card"):
        assert errors(hub, "# No metadata\n") == []


def test_a_card_that_is_wrong_stops_the_push_before_a_file_is_sent(hub: Hub) -> None:
    hub.api().create_repo("loopback/adapter")
    card = CommitOperationAdd("README.md", b"---\nlicense: apache\n---\n")
    with pytest.raises(ValueError, match='"license" must be one of'):
        hub.api().create_commit("loopback/adapter", [card], commit_message="Upload")
    assert [path for _, path, _ in hub.requests] == ["/api/repos/create", "/api/validate-yaml"]


@pytest.mark.e2e
def test_a_card_of_the_client_validates_and_is_read_back(hub: Hub) -> None:
    code = f"""
import json
from huggingface_hub import HfApi, ModelCard
HfApi().create_repo("loopback/adapter")
card = ModelCard({str(ModelCard(f"---{chr(10)}{yaml.safe_dump(GOOD)}---{chr(10)}# Beans"))!r})
card.validate()
card.push_to_hub("loopback/adapter")
read = ModelCard.load("loopback/adapter")
info = HfApi().model_info("loopback/adapter")
print(json.dumps([read.data.base_model, read.data.eval_results[0].metric_value, info.pipeline_tag, info.library_name,
    info.card_data.license, info.tags]))
"""
    assert ask(hub, code, token="hf_loopback") == [
        GOOD["base_model"], 0.93, "image-classification", "peft", "apache-2.0",
        ["lora", "image-classification", "license:apache-2.0"],
    ]  # fmt: skip
