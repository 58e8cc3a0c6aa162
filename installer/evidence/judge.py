"""From a control to a verdict: applicability, the live value, the waiver. Pure but for what the machine answers."""

from __future__ import annotations

from installer.evidence.applicability import reason_against
from installer.evidence.checks.finding import Finding, shorten
from installer.evidence.control import Control, Profile, Status
from installer.evidence.document import Verdict, WaiverNote
from installer.evidence.examine import examine
from installer.evidence.machine import CannotTell, DoesNotApply, Machine
from installer.evidence.waivers import Waiver, Waivers


def judge(control: Control, machine: Machine, *, profile: Profile, waivers: Waivers) -> Verdict:
    """Return the verdict on one control. What cannot be told is an error, never a pass."""
    if profile not in control.profiles:
        return _verdict(control, Status.NOT_APPLICABLE, reason=f"the profile {profile} does not ask for it")
    try:
        reason = reason_against(control.unless, machine)
        if reason:
            return _verdict(control, Status.NOT_APPLICABLE, reason=reason)
        found = examine(control.check_for(profile), machine)
    except DoesNotApply as stop:
        return _verdict(control, Status.NOT_APPLICABLE, reason=str(stop))
    except CannotTell as stop:
        return _verdict(control, Status.ERROR, reason=str(stop))
    if found.ok:
        return _verdict(control, Status.PASS, found=found)
    waiver = waivers.covering(control.id, control.refs.ssg)
    if waiver is None:
        return _verdict(control, Status.FAIL, found=found)
    return _verdict(control, Status.WAIVED, found=found, waiver=waiver)


def _verdict(
    control: Control, status: Status, *, found: Finding | None = None, reason: str = "", waiver: Waiver | None = None
) -> Verdict:
    return Verdict(
        id=control.id,
        title=control.title,
        role=control.role,
        cis=control.refs.cis,
        anssi=control.refs.anssi,
        ssg=control.refs.ssg,
        status=status,
        expected=found.expected if found else "",
        observed=found.observed if found else "",
        source=found.source if found else "",
        reason=shorten(reason),
        waiver=note(waiver) if waiver else None,
    )


def note(waiver: Waiver) -> WaiverNote:
    """Return what the evidence keeps of a waiver."""
    return WaiverNote(reason=waiver.reason, owner=waiver.owner, expiry=waiver.expiry.isoformat())
