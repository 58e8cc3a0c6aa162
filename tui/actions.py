"""The one table of what can be done at the console. Key bar, help, palette, line menu and docs come from it.

Navigation is written here, deeds in `tui.deeds`. No key has two meanings in one place, and the letter of a dangerous
key is never a harmless one's in the same place.
"""

from __future__ import annotations

from tui.deed import Action, Target
from tui.deeds.roles import AUDIT_READERS, BUILDERS
from tui.deeds.table import DEEDS

_LISTS = ("models", "jobs", "campaigns", "datasets", "tune", "serve", "backups", "audit", "access", "fleet")
_RECORDS = ("model", "job", "campaign", "dataset", "recipe", "deployment", "backup", "event", "key", "box")

NAVIGATION: tuple[Action, ...] = (
    Action(id="go.home", keys=("0",), label="home", help="Go to Home: health, jobs, what needs attention."),
    Action(id="go.models", keys=("1",), label="models", help="Go to Models: the registry and its lineage."),
    Action(id="go.jobs", keys=("2",), label="jobs", help="Go to Jobs: training, evaluation, imports."),
    Action(id="go.datasets", keys=("3",), label="data", help="Go to Data sets."),
    Action(id="go.serve", keys=("4",), label="serve", help="Go to Serve: which model answers under which name."),
    Action(id="go.tune", keys=("5",), label="tune", help="Go to Tune: fine-tune a model on a data set."),
    Action(id="go.backups", keys=("6",), label="backups", help="Go to Backups."),
    Action(
        id="go.audit",
        keys=("7",),
        label="audit",
        help="Go to Audit: who did what, and proof of it.",
        roles=AUDIT_READERS,
    ),
    Action(id="go.access", keys=("8",), label="access", help="Go to Access: API keys."),
    Action(
        id="go.campaigns",
        keys=("9",),
        label="campaigns",
        help="Go to Campaigns: searches, k-folds, pipelines.",
    ),
    Action(id="go.fleet", keys=("F",), label="fleet", help="Go to Fleet: boxes that train together."),
    Action(
        id="open",
        keys=("enter",),
        label="open",
        help="Open what is under the cursor.",
        places=(*_LISTS, "campaign"),
        bar=True,
    ),
    Action(
        id="filter",
        keys=("/",),
        label="filter",
        help="Keep only rows with this text; Esc ends it.",
        places=_LISTS,
        bar=True,
    ),
    Action(id="sort", keys=("s",), label="sort", help="Sort by the next column.", places=_LISTS),
    Action(id="older", keys=("o",), label="older", help="Load older events.", places=("audit",), bar=True),
    Action(
        id="only",
        keys=("a",),
        label="only this",
        help="Only this action; once more for all.",
        places=("audit",),
        bar=True,
    ),
    Action(
        id="mark",
        keys=(" ",),
        label="mark",
        help="Mark a run, to compare it with others.",
        places=("jobs",),
    ),
    Action(
        id="compare",
        keys=("=",),
        label="compare",
        help="Set the marked runs side by side.",
        places=("jobs",),
        bar=True,
    ),
    Action(
        id="tune.new",
        keys=("n",),
        label="new run",
        help="Fill in a run of this recipe.",
        places=("tune", "recipe"),
        roles=BUILDERS,
        bar=True,
    ),
    Action(
        id="draft.change",
        keys=("enter",),
        label="change",
        help="Change what is under the cursor.",
        places=("draft",),
        bar=True,
    ),
    Action(
        id="draft.plan",
        keys=("p",),
        label="plan",
        help="Show steps and memory; from there it can start.",
        places=("draft",),
        bar=True,
    ),
    Action(
        id="draft.afresh",
        keys=("n",),
        label="afresh",
        help="Begin this run again from the defaults.",
        places=("draft",),
        bar=True,
    ),
    Action(
        id="log",
        keys=("l",),
        label="log",
        help="Switch between the overview and the whole log.",
        places=("job",),
        bar=True,
    ),
    Action(id="inspect", keys=("i",), label="inspect", help="Show the full record.", places=(*_LISTS, *_RECORDS)),
    Action(
        id="show_id", keys=("y",), label="id", help="Show the id or name, for copying.", places=(*_LISTS, *_RECORDS)
    ),
    Action(id="refresh", keys=("r", "f5"), label="refresh", help="Ask the appliance again now.", bar=True),
    Action(id="help", keys=("?", "f1"), label="help", help="What every key does here.", bar=True),
    Action(id="palette", keys=(":", "ctrl+p"), label="find", help="Find an action by its name.", bar=True),
    Action(id="look", keys=("f4",), label="look", help="Switch between the rich and the basic look."),
    Action(id="theme", keys=("f3",), label="theme", help="Switch between dark and light."),
    Action(id="back", keys=("escape", "q"), label="back", help="Go back; q at Home asks to leave.", bar=True),
    Action(id="quit", keys=("ctrl+q",), label="quit", help="Leave the console at once. Nothing is stopped by it."),
    Action(
        id="move",
        keys=("up", "down", "j", "k", "g", "G", "pageup", "pagedown", "home", "end"),
        label="move",
        help="Move: arrows or j k, g first, G last, Page Up, Down.",
    ),
)


TABLE: tuple[Action, ...] = (*NAVIGATION, *DEEDS)
"""Navigation first, then deeds by place."""
BY_ID = {action.id: action for action in TABLE}


def at(place: str) -> tuple[Action, ...]:
    """The actions of one place: its own first, then those of everywhere."""
    own = [action for action in TABLE if place in action.places]
    own.sort(key=lambda action: action.deed is None)
    return (*own, *(action for action in TABLE if not action.places))


def for_key(place: str, key: str) -> Action | None:
    """The action a key means in a place."""
    return next((action for action in at(place) if key in action.keys), None)


def refusal(action: Action, *, roles: frozenset[str], target: Target | None, lost: bool) -> str:
    """Why an action cannot be used now, in words for a person; empty when it can."""
    if action.roles and not roles & action.roles:
        return f"needs the role {' or '.join(sorted(action.roles))}"
    deed = action.deed
    if deed is None:
        return ""
    if lost:
        return "the control service does not answer"
    if target is None:
        return "there is nothing here to do it to" if deed.needs_target else ""
    return deed.ready(target)


def key_name(key: str) -> str:
    """How a key is written for people: `F1`, `Esc`, `Ctrl+P`, `D`."""
    names = {
        "escape": "Esc",
        "enter": "Enter",
        "pageup": "PgUp",
        "pagedown": "PgDn",
        "up": "Up",
        "down": "Down",
        " ": "Space",
    }
    if key in names or len(key) == 1:
        return names.get(key, key)
    return "+".join(part if len(part) == 1 and "+" not in key else part.title() for part in key.split("+"))


def markdown() -> str:
    """The key tables of the operators' manual."""
    parts = []
    for title, chosen in _sections():
        parts.append(f"### {title}\n\n| keys | action | what it does | who | danger |\n| --- | --- | --- | --- | --- |")
        for action in chosen:
            keys = " ".join(f"`{key_name(key)}`" for key in action.keys)
            who = ", ".join(sorted(action.roles)) if action.roles else "everyone"
            parts.append(f"| {keys} | {action.label} | {action.help} | {who} | {action.danger} |")
        parts.append("")
    return "\n".join(parts)


def _sections() -> list[tuple[str, list[Action]]]:
    sections = [("Everywhere", [action for action in TABLE if not action.places])]
    for title, places in (
        ("Every list and record", {*_LISTS, *_RECORDS}),
        ("Models", {"models", "model"}),
        ("Jobs and campaigns", {"jobs", "job", "campaigns", "campaign"}),
        ("Data sets", {"datasets", "dataset"}),
        ("Tune", {"tune", "recipe", "draft", "plan"}),
        ("Serve", {"serve", "deployment"}),
        ("Audit", {"audit", "event"}),
        ("Backups", {"backups", "backup"}),
        ("Access", {"access", "key"}),
        ("Fleet", {"fleet", "box"}),
    ):
        taken = {action.id for _, chosen in sections for action in chosen}
        if title.startswith("Every "):
            chosen = [action for action in TABLE if {"models", "serve"} <= set(action.places)]
        else:
            chosen = [action for action in TABLE if action.id not in taken and places.issuperset(action.places)]
        sections.append((title, chosen))
    return sections
