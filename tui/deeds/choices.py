"""What the arrow keys choose from in a question: names that the appliance knows, or words that are fixed."""

from __future__ import annotations

from appliance.api import calls
from tui.deed import Choices
from tui.session import Session


def fixed(*words: str) -> Choices:
    """Offer these words."""

    async def choices(_: Session) -> tuple[str, ...]:
        return words

    return choices


async def model_refs(session: Session) -> tuple[str, ...]:
    """Every model version, newest first."""
    return tuple(model.ref for model in await session.send(calls.models()))


def model_refs_that(does: str) -> Choices:
    """Offer the models whose weights can be trained and that generate or encode; an empty word offers both."""

    async def choices(session: Session) -> tuple[str, ...]:
        return tuple(
            model.ref
            for model in await session.send(calls.models())
            if "safetensors" in model.formats
            and (not does or not model.purpose or (model.purpose == "generate") is (does == "generate"))
        )

    return choices


async def dataset_refs(session: Session) -> tuple[str, ...]:
    """Every data set version, newest first."""
    return tuple(one.ref for one in await session.send(calls.datasets()))


def dataset_refs_of(forms: tuple[str, ...]) -> Choices:
    """Offer the data sets of these forms."""

    async def choices(session: Session) -> tuple[str, ...]:
        return tuple(one.ref for one in await session.send(calls.datasets()) if one.form in forms)

    return choices


async def suite_refs(session: Session) -> tuple[str, ...]:
    """Every version of every suite."""
    return tuple(one.ref for one in await session.send(calls.suites()))


async def served_names(session: Session) -> tuple[str, ...]:
    """Every name that is served."""
    return tuple(one.name for one in await session.send(calls.deployments()))
