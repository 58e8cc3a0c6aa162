"""The real program in a pseudo-terminal: what is really sent, and that the terminal is left as it was found."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.console.fake_client import FakeAppliance
from tests.console.terminal import ROOT, Terminal, served

FULL_REPAINT = 8 * 1024
"""Bytes of one change of screen in basic; 9600 baud carry 960 in a second."""


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("run") / "control.sock"
    with served(path, FakeAppliance()):
        yield path


@pytest.mark.parametrize("term", ["linux", "vt100"])
def test_plain_terminals_get_ascii_and_few_bytes(socket: Path, term: str) -> None:
    with Terminal(socket, term=term) as console:
        console.shows("Newest audit events", "deployment.deploy")
        for key, wanted in (
            ("2", "1 of 4"),
            ("\r", "Loss"),
            ("C", "[ Back ]"),
            ("\x1b", "Nothing was"),
            ("4", "1 of 2"),
        ):
            before = len(console.sent)
            console.type(key)
            console.shows(wanted, "Intramuros" if key != "C" else "shell")
            assert len(console.sent) - before <= FULL_REPAINT, key
        assert console.sent.isascii()
        assert b"\x1b[38;2;" not in console.sent
        assert b"\x1b[38;5;" not in console.sent
        assert b"\x1b[?1000h" not in console.sent  # no mouse
        assert b"u\x1b" not in console.sent.replace(b"\x1b[<u", b"")  # no kitty keyboard protocol
        console.type("\x11")
        assert console.ends() == 0


def test_screens_left_at_once_do_not_hold_the_paint(socket: Path) -> None:
    with Terminal(socket, term="vt100") as console:
        console.shows("Newest audit events")
        console.type("124678\r0\r2\r03")
        console.shows("Data sets", "faq@2")
        console.type("\x11")
        assert console.ends() == 0


def test_rich_terminal_gets_signs_and_colours(socket: Path) -> None:
    with Terminal(socket, term="xterm-256color") as console:
        console.shows("✓ OK", "▲ WARN")
        assert console.colours() > 0
        console.type("\x11")
        assert console.ends() == 0


@pytest.mark.parametrize("term", ["xterm-256color", "linux"])
def test_no_color_sends_no_colour_at_all(socket: Path, term: str) -> None:
    with Terminal(socket, term=term, NO_COLOR="1") as console:
        console.shows("OK", "WARN")
        console.type("2")
        console.shows("1 of 4")
        console.type("C")
        console.shows(">[ Back ]<")
        assert console.colours() == 0
        console.type("\x11")
        assert console.ends() == 0


def test_sigterm_restores_the_terminal(socket: Path) -> None:
    with Terminal(socket, term="xterm-256color") as console:
        console.shows("Newest audit events")
        assert console.modes() != console.before
        console.process.send_signal(signal.SIGTERM)
        assert console.ends() == 128 + signal.SIGTERM
        assert console.modes() == console.before
        for code in (b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1000l", b"\x1b[?2004l"):
            assert code in console.sent[-400:], code


def test_tiny_terminal_does_not_crash(socket: Path) -> None:
    with Terminal(socket, "--basic", term="xterm", size=(44, 13)) as console:
        console.shows("Enlarge to 80x24 (now 44x13)")
        console.set_size(20, 5)
        console.type("124")
        console.shows("Enlarge to")
        console.set_size(80, 24)
        console.shows("Health")
        console.type("\x11")
        assert console.ends() == 0


def test_dumb_terminal_gets_the_menu_without_control_codes(socket: Path) -> None:
    with Terminal(socket, term="dumb") as console:
        console.shows("Home>")
        console.type("4\n")
        console.shows("Serve: 2", "Serve>")
        console.type("\x04")
        assert console.ends() == 0
        assert b"\x1b" not in console.sent
        assert console.modes() == console.before


def test_without_a_terminal_standard_input_is_the_menu(socket: Path) -> None:
    command = [sys.executable, "-m", "tui", "--socket", str(socket)]
    done = subprocess.run(command, cwd=ROOT, input=b"4\n1\n", capture_output=True, timeout=60, check=True)
    assert done.stdout.isascii()
    assert b"\x1b" not in done.stdout
    assert b"Served name assistant" in done.stdout
    assert done.stderr == b""


def test_no_appliance_is_told_on_the_screen(tmp_path: Path) -> None:
    with Terminal(tmp_path / "none.sock", term="vt100") as console:
        console.shows("api.not_running", "intramuros up")
        console.type("q")
        console.shows("Leave the console?")
        console.type("\x1b[C\r")
        assert console.ends() == 0
