"""What the arrow keys offer: only what the appliance would take."""

from __future__ import annotations

import pytest

from tests.console import fake_data
from tests.console.fake_client import FakeAppliance
from tests.console.screen_text import session_over
from tui.deeds.choices import model_refs_that


@pytest.mark.parametrize(
    ("does", "offered"),
    [
        ("generate", ("writer@1", "unknown@1")),
        ("encode", ("encoder@1", "intents@1", "unknown@1")),
        ("", ("writer@1", "encoder@1", "intents@1", "unknown@1")),
    ],
)
async def test_a_recipe_is_offered_the_models_that_it_can_use(
    monkeypatch: pytest.MonkeyPatch, does: str, offered: tuple[str, ...]
) -> None:
    models = (
        fake_data.model("writer", 1, "a", purpose="generate"),
        fake_data.model("encoder", 1, "b", purpose="embed", formats=("safetensors",)),
        fake_data.model("intents", 1, "c", purpose="classify", formats=("safetensors",)),
        fake_data.model("served", 1, "d", purpose="generate", formats=("gguf",)),
        fake_data.model("unknown", 1, "e"),
    )
    monkeypatch.setattr(fake_data, "MODELS", models)
    assert await model_refs_that(does)(session_over(FakeAppliance())) == offered
