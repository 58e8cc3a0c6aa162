"""Passwords, and whether a hardened box takes them: judged by us before there is a box, and by its PAM afterwards."""

from __future__ import annotations

JUDGED = {
    "Correct-Horse-7-Battery": True,
    "Wooden ladders, 3 of them": True,
    "Tr4nsl8-the-river-Öse": True,
    "Correct-Horse-7-B": False,  # 17 characters
    "correct-horse-7-battery": False,
    "CORRECT-HORSE-7-BATTERY": False,
    "Correct-Horse-Battery-": False,
    "CorrectHorse7BatteryStaple": False,
    "Correct-Horrrrse-7-Battery": False,
    "Correct-Horrrse-7-Battery": True,
    "Correct-Horse-1234-Battery": False,
    "Correct-Horse-4321-Battery": False,
    "Correct-Horse-123-Battery": True,
    "Correct-Horse-7-abcd-Batter": False,
}
