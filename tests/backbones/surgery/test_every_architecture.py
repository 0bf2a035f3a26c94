"""Every architecture, built once: the last block for the class token alone, the cut in its middle, patches left out.

For each the short form gives the same, or is refused. What is pinned of single architectures is in test_class_token.py
and in tests/ladder/trained/test_cached.py.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_finetune.backbones.surgery.class_token import class_token_only, reads_class_token_only
from hf_finetune.backbones.surgery.cut import Watch
from hf_finetune.backbones.surgery.token_dropper import extra_tokens
from hf_finetune.errors import ModelError
from hf_finetune.ladder.trained.cached import Cut, check_cut
from hf_finetune.ladder.trained.patches import token_count
from hf_finetune.types import BackboneFacts
from tests.backbones.surgery.test_class_token import SHORT, features_of
from tests.ladder.trained.test_cached import CUT, DROPPABLE, build
from tests.matrix.architectures import every_architecture

pytestmark = pytest.mark.e2e
Built = tuple[str, str, nn.Module, BackboneFacts]


@pytest.fixture(scope="module", params=every_architecture())
def architecture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    library, name = request.param
    return library, name, *build(library, name, tmp_path_factory.mktemp("base") / "base"), torch.get_rng_state()


@pytest.fixture
def built(architecture) -> Built:
    """Random numbers begin anew in each test, so that one says the same alone."""
    torch.set_rng_state(architecture[-1])
    return architecture[:-1]


def test_the_head_gets_the_same_or_the_form_is_refused(built: Built) -> None:
    library, name, model, facts = built
    short = False
    if facts.blocks:
        pixels = torch.randn(3, 3, facts.preprocess.height, facts.preprocess.width)
        last = model.get_submodule(facts.blocks[-1])
        short = reads_class_token_only(model, last, lambda: features_of(model, facts.head, pixels))
        before = features_of(model, facts.head, pixels)
        if short:
            with class_token_only(last):
                torch.testing.assert_close(features_of(model, facts.head, pixels), before, rtol=1e-4, atol=1e-4)
        assert "forward" not in last.__dict__
        torch.testing.assert_close(features_of(model, facts.head, pixels), before)
    assert short == ((library, name) in SHORT)


def test_prefix_and_suffix_make_the_whole_or_the_cut_is_refused(built: Built) -> None:
    library, name, model, facts = built
    if len(facts.blocks) < 2:
        assert name not in CUT[library]
        return
    size = (facts.preprocess.height, facts.preprocess.width)
    entry = facts.blocks[len(facts.blocks) // 2]
    pixels = torch.randn(3, 3, *size)
    forwards = {id(module): module.forward for module in model.modules()}
    watch = Watch([], model.get_submodule(entry))
    with torch.no_grad(), watch:
        whole = model(pixel_values=pixels).logits
    works = False
    if watch.hidden is not None:
        try:
            check_cut(model, Cut(model, facts.blocks, entry, size), pixels, watch.hidden, None)
            works = True
        except Exception as error:  # noqa: BLE001  what the ladder catches is pinned below
            assert isinstance(error, ModelError), f"{type(error).__name__}: {error}"
    assert {id(module): module.forward for module in model.modules()} == forwards
    with torch.no_grad():
        torch.testing.assert_close(model(pixel_values=pixels).logits, whole)
    if name in CUT[library]:
        assert works


def test_patches_may_come_in_any_order_where_they_may_be_left_out(built: Built) -> None:
    """If the blocks knew positions, shuffled patches would change the logits."""
    library, name, model, facts = built
    size = (facts.preprocess.height, facts.preprocess.width)
    tokens = token_count(model, facts.blocks[0], size) if facts.blocks else None
    extra = None if tokens is None else extra_tokens(model, tokens)
    if library == "transformers":
        assert extra == DROPPABLE.get((library, name))
    if extra is None or tokens is None:
        return
    pixels = torch.randn(2, 3, *size)
    patches = tokens - extra

    def shuffle(_module, args, kwargs):
        state = args[0] if args else kwargs["hidden_states"]
        order = torch.cat([torch.arange(extra), extra + torch.randperm(patches)])
        return ((state[:, order], *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": state[:, order]})

    with torch.no_grad():
        wanted = model.eval()(pixel_values=pixels).logits
        handle = model.get_submodule(facts.blocks[0]).register_forward_pre_hook(shuffle, with_kwargs=True)
        found = model(pixel_values=pixels).logits
        handle.remove()
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
