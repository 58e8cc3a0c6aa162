"""Every deed of the console, in the order in which key bar and help show them: one line for each screen."""

from __future__ import annotations

from tui.deed import Action
from tui.deeds import access, audit, backups, campaigns, datasets, jobs, models, serve, tune

DEEDS: tuple[Action, ...] = (
    *models.DEEDS,
    *datasets.DEEDS,
    *tune.DEEDS,
    *campaigns.DEEDS,
    *jobs.DEEDS,
    *serve.DEEDS,
    *backups.DEEDS,
    *audit.DEEDS,
    *access.DEEDS,
)
