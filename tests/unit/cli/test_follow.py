from __future__ import annotations

import pytest

from appliance.cli.follow import event_text, progress_text
from appliance.kernel.events import CheckpointSaved, CheckpointSkipped, Event, Metric, Note, Progress, StateChanged


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Note(text="as it is"), "as it is"),
        (Metric(name="exact_match", value=0.91), "exact_match = 0.91"),
        (CheckpointSaved(step=7, digest="abc"), "checkpoint of step 7 sealed (abc)"),
        (CheckpointSkipped(name="step-7", reason="torn"), "checkpoint step-7 is not used: torn"),
        (StateChanged(state="queued"), "state=queued reason="),
        (Progress(phase="loading"), "loading   0%"),
    ],
)
def test_every_event_is_one_line(event: Event, text: str) -> None:
    assert event_text(event) == text


def test_progress_tells_what_is_known_and_nothing_else() -> None:
    whole = Progress(
        phase="training", fraction=0.5, step=5, steps=10, loss=1.2345, tokens_per_second=99.6, eta_seconds=0
    )
    assert progress_text(whole) == "training  50%  step 5/10  loss 1.234  100 tok/s  0 s left"
    assert progress_text(Progress(phase="copying", fraction=1.0)) == "copying 100%"
