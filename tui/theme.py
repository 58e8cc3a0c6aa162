"""Four themes and what each tone looks like in them. Blue is good, yellow warns, red fails; never green against red.

A state is always a word and a glyph first: `mono` has no colour at all and loses nothing. `dark` and `light` keep a
contrast of 7:1 or more; `console16` uses the sixteen colours that a text console really has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.theme import Theme

DARK = {
    "ink": "#e6e6e6",
    "paper": "#101418",
    "faint": "#a9b1b8",
    "good": "#8ec7ff",
    "warn": "#ffd75f",
    "bad": "#ffa3a3",
    "head": "#ffffff",
}
LIGHT = {
    "ink": "#14181c",
    "paper": "#ffffff",
    "faint": "#4a5157",
    "good": "#0a3f8f",
    "warn": "#5e4300",
    "bad": "#8f0014",
    "head": "#000000",
}
CONSOLE16 = {
    "ink": "ansi_default",
    "paper": "ansi_default",
    "faint": "ansi_default",
    "good": "ansi_bright_cyan",
    "warn": "ansi_bright_yellow",
    "bad": "ansi_bright_red",
    "head": "ansi_default",
}
MONO = dict.fromkeys(CONSOLE16, "ansi_default")
PALETTES = {"dark": DARK, "light": LIGHT, "console16": CONSOLE16, "mono": MONO}


def themes() -> list[Theme]:
    """Build the Textual themes. Textual is imported here, not with the palettes."""
    from textual.theme import BUILTIN_THEMES, Theme

    plain = {
        **BUILTIN_THEMES["ansi-dark"].variables,
        "block-cursor-foreground": "ansi_default",
        "block-cursor-background": "ansi_default",
        "input-cursor-background": "ansi_default",
        "input-cursor-foreground": "ansi_default",
        "input-cursor-text-style": "reverse",
    }
    return [
        Theme(
            name=name,
            primary=colours["good"],
            warning=colours["warn"],
            error=colours["bad"],
            success=colours["good"],
            accent=colours["good"],
            foreground=colours["ink"],
            background=colours["paper"],
            surface=colours["paper"],
            panel=colours["paper"],
            boost=colours["paper"],
            dark=name != "light",
            ansi=name in ("console16", "mono"),
            variables=(plain if colours["ink"] == "ansi_default" else {})
            | {f"tone-{tone}": colour for tone, colour in colours.items()},
        )
        for name, colours in PALETTES.items()
    ]


def contrast(first: str, second: str) -> float:
    """WCAG 2.2 contrast ratio of two `#rrggbb` colours, 1 to 21."""
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
