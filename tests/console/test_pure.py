"""Formatting, plot, tiers, themes: no terminal, no Textual."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from appliance.kernel.errors import BadInput
from tui import format as fmt
from tui.plot import plot
from tui.term import Terminal, Tier, choose
from tui.text import Column, Row, Span, Table, lay_out, plain
from tui.theme import PALETTES, contrast

NOW = datetime(2026, 7, 14, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 << 10, "1.5 MiB"),
        (412 << 30, "412 GiB"),
        (102399, "100 KiB"),
    ],
)
def test_size(amount: int, text: str) -> None:
    assert fmt.size(amount) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (59.4, "59 s"), (60, "1 min"), (3599, "59 min"), (3660, "1 h 01 min"), (90000, "1 d 1 h")],
)
def test_duration(seconds: float, text: str) -> None:
    assert fmt.duration(seconds) == text


def test_instants() -> None:
    assert fmt.moment("2026-07-14T09:30:00.000000Z") == "2026-07-14 09:30"
    assert fmt.brief_moment("2026-07-14T03:00:00.000000Z", NOW) == "03:00"
    assert fmt.brief_moment("2026-07-13T03:00:00.000000Z", NOW) == "07-13 03:00"
    assert fmt.brief_moment("2025-07-13T03:00:00.000000Z", NOW) == "2025-07-13"
    assert fmt.ago("", NOW) == "never"
    assert fmt.ago("2026-07-14T09:24:00.000000Z", NOW) == "6 min ago"
    assert fmt.moment("soon") == "-"


def test_share_never_claims_to_be_complete() -> None:
    assert (fmt.share(0.999), fmt.share(1.0), fmt.share(0.0)) == ("99 %", "100 %", "0 %")


def test_clean_disarms_outside_text() -> None:
    assert fmt.clean("a\x1b[2Jb\u202ec\nd\x9be") == "a?[2Jb?c d?e"


@pytest.mark.parametrize("text", ["état naïf", "→ «x» …", "模型", "✓ ▸ ▲ ✗ ○", "🙂 e\u0301"])
def test_to_ascii_keeps_the_width(text: str) -> None:
    said = fmt.to_ascii(text)
    assert said.isascii()
    assert fmt.cells(said) == fmt.cells(text)


@pytest.mark.parametrize("width", [1, 2, 5, 12])
@pytest.mark.parametrize("text", ["", "short", "a much longer text", "模型模型模型", "e\u0301e\u0301"])
def test_fit_gives_exactly_the_width(text: str, width: int) -> None:
    assert fmt.cells(fmt.fit(text, width)) == width
    assert fmt.cells(fmt.fit(text, width, right=True)) == width


def test_wrap_cuts_fingerprints_and_paths_behind_their_marks() -> None:
    assert fmt.wrap("9F:86:D0:81:88:4C", 8) == ["9F:86:", "D0:81:", "88:4C"]
    assert fmt.wrap("/var/lib/intramuros/wizard", 21) == ["/var/lib/intramuros/", "wizard"]
    assert fmt.wrap("a:bcdefghijkl", 8) == ["a:bcdefg", "hijkl"]


@pytest.mark.parametrize("text", ["one two three four five", "x" * 50, "模型" * 20, "", "a\nb", "ends with a space "])
def test_wrap_loses_nothing_and_never_overflows(text: str) -> None:
    lines = fmt.wrap(text, 11)
    assert all(fmt.cells(line) <= 11 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "").replace("\n", "")


@pytest.mark.parametrize("name", ["ready", "running", "queued", "warn", "failed", "off"])
def test_every_word_has_a_sign_in_ascii_too(name: str) -> None:
    word = fmt.word_of(name)
    assert fmt.glyph(word, ascii=True).isascii()
    assert fmt.to_ascii(fmt.glyph(word, ascii=False)) == fmt.glyph(word, ascii=True)


def test_plot_falls_from_left_to_right() -> None:
    rows = plot([4.0, 3.0, 2.0, 1.0], width=40, height=4, ascii=True)
    assert rows[0].endswith("|#")
    assert rows[-1].endswith("|...#")
    assert rows[0].strip().startswith("4")
    assert rows[-1].strip().startswith("1")


@pytest.mark.parametrize("ascii", [True, False])
def test_plot_fits_and_survives_odd_values(ascii: bool) -> None:
    values = [float("nan"), float("inf"), *[1 / (i + 1) for i in range(5000)]]
    rows = plot(values, width=60, height=7, ascii=ascii)
    assert len(rows) == 7
    assert max(len(row) for row in rows) == 60
    assert all(row.isascii() for row in rows) == ascii
    assert plot([], width=60, height=7, ascii=ascii) == []
    assert len(plot([2.0, 2.0], width=60, height=3, ascii=ascii)) == 3


def test_plot_leaves_no_column_empty() -> None:
    rows = plot([3.0, 1.0, 3.0, 1.0], width=40, height=3, ascii=False)
    assert " " not in rows[-1].split("│")[1]


UTF8 = {"LANG": "en_GB.UTF-8"}


@pytest.mark.parametrize(
    ("environ", "device", "size", "tier"),
    [
        ({"TERM": "xterm-256color", **UTF8}, "/dev/pts/1", (80, 24), Tier.RICH),
        ({"TERM": "xterm-256color", **UTF8}, "/dev/pts/1", (0, 0), Tier.RICH),
        ({"TERM": "xterm-256color", "LANG": "C"}, "/dev/pts/1", (80, 24), Tier.BASIC),
        ({"TERM": "xterm-256color", "LC_ALL": "C", **UTF8}, "/dev/pts/1", (80, 24), Tier.BASIC),
        ({"TERM": "xterm", **UTF8}, "/dev/ttyS0", (80, 24), Tier.BASIC),
        ({"TERM": "xterm", **UTF8}, "/dev/hvc0", (80, 24), Tier.BASIC),
        ({"TERM": "linux", **UTF8}, "/dev/tty1", (128, 48), Tier.BASIC),
        ({"TERM": "vt100", **UTF8}, "/dev/pts/1", (80, 24), Tier.BASIC),
        ({"TERM": "xterm", **UTF8}, "/dev/pts/1", (70, 20), Tier.BASIC),
        ({"TERM": "xterm", **UTF8}, "/dev/pts/1", (39, 24), Tier.LINE),
        ({"TERM": "xterm", **UTF8}, "/dev/pts/1", (80, 11), Tier.LINE),
        ({"TERM": "dumb", **UTF8}, "/dev/pts/1", (80, 24), Tier.LINE),
        ({**UTF8}, "/dev/pts/1", (80, 24), Tier.LINE),
        ({"TERM": "xterm", "NO_COLOR": "1", **UTF8}, "/dev/pts/1", (80, 24), Tier.MONO),
        ({"TERM": "dumb", "NO_COLOR": "1", **UTF8}, "/dev/pts/1", (80, 24), Tier.LINE),
    ],
)
def test_tier(environ: dict[str, str], device: str, size: tuple[int, int], tier: Tier) -> None:
    terminal = Terminal(environ=environ, interactive=True, device=device, columns=size[0], rows=size[1])
    assert choose(terminal).tier is tier


def test_flags_decide_over_the_environment_but_not_over_a_missing_terminal() -> None:
    terminal = Terminal(environ={"TERM": "vt100", "NO_COLOR": "1", **UTF8}, interactive=True)
    assert choose(terminal, asked="rich").tier is Tier.RICH
    assert choose(terminal, asked="basic").ascii
    assert choose(terminal, asked="mono").ascii
    assert choose(terminal, line=True).tier is Tier.LINE
    assert choose(Terminal(environ=terminal.environ, interactive=False), asked="rich").tier is Tier.LINE
    with pytest.raises(BadInput, match="no tier"):
        choose(terminal, asked="pretty")


def test_mono_in_a_capable_terminal_keeps_its_signs() -> None:
    assert not choose(Terminal(environ={"TERM": "xterm", "NO_COLOR": "", **UTF8}, interactive=True)).ascii


@pytest.mark.parametrize("name", ["dark", "light"])
def test_contrast_is_seven_to_one(name: str) -> None:
    colours = PALETTES[name]
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for tone, colour in colours.items():
        if tone != "paper":
            assert contrast(colour, colours["paper"]) >= 7, tone


def test_good_is_blue_and_never_green() -> None:
    for name in ("dark", "light"):
        red, green, blue = (int(PALETTES[name]["good"][i : i + 2], 16) for i in (1, 3, 5))
        assert blue > green > red


@pytest.mark.parametrize("width", [40, 80, 120])
def test_table_columns_line_up(width: int) -> None:
    columns = (
        Column(title="A", width=6),
        Column(title="B"),
        Column(title="C", width=9, right=True),
        Column(title="D", width=5, wide=True),
    )
    rows = (Row(key="1", cells=(Span("x"), Span("long " * 40), Span("1"), Span("y"))),)
    title, (row,) = lay_out(Table(columns=columns, rows=rows), width)
    assert fmt.cells(plain(title)) == fmt.cells(plain(row)) <= width
    assert ("D" in plain(title)) == (width >= 110)
