"""An evidence as one HTML page: no script, nothing fetched, readable on paper.

For a security team: what was found first, then what is waived and by whom, then every control beside OpenSCAP's rule.
Every text goes through `_e`; the page forbids everything but its own style.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape as _e

from appliance.kernel.terminal import harmless, when
from installer.evidence.catalogue import load_catalogue
from installer.evidence.control import Status
from installer.evidence.document import Evidence, Verdict
from installer.evidence.referees.compare import uncovered
from installer.evidence.referees.openscap import counts
from installer.evidence.summary import changes, headline, with_status

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #14171a; background: #fff; }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1.5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; } p { max-width: 60rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #c9ced3; }
th { border-bottom: 2px solid #14171a; font-weight: 600; }
td, code { overflow-wrap: anywhere; } code { font: .87em/1.4 ui-monospace, monospace; color: #14171a; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; }
dt { font-weight: 600; } dd { margin: 0; }
.s { font-weight: 700; white-space: nowrap; }
.pass { color: #0b4f8a; } .fail, .error { color: #9b1c1c; } .waived { color: #6b4700; } .na { color: #41474d; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; padding: 0; list-style: none; }
.tiles li { border: 1px solid #8a9299; border-radius: 4px; padding: .5rem .9rem; min-width: 6.5rem; }
.tiles b { display: block; font-size: 1.6rem; line-height: 1.2; }
@media print {
  body { margin: 0; max-width: none; font-size: 10pt; } h2 { break-after: avoid; } tr { break-inside: avoid; }
}
"""
_GLYPH = {"pass": "✓ pass", "fail": "✗ fail", "not-applicable": "– n/a", "waived": "! waived", "error": "? error"}


def html_report(evidence: Evidence, before: Evidence | None, digest: str) -> str:
    """Return the page."""
    title = f"Hardening evidence of {evidence.host.name or 'this box'}"
    body = [
        f"<h1>{_t(title)}</h1>",
        f"<p>{_t(headline(evidence))}.</p>",
        _facts(evidence, digest),
        _tiles(evidence),
        _before(evidence, before),
        _failing(evidence),
        _waived(evidence),
        _referees(evidence),
        _controls(evidence),
        _verification(evidence, digest),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{_t(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _t(text: str) -> str:
    return _e(harmless(text))


def _facts(evidence: Evidence, digest: str) -> str:
    host, product = evidence.host, evidence.product
    pairs = {
        "Collected": f"{when(evidence.collected_at)} UTC, number {evidence.sequence} of this box",
        "Profile": evidence.profile,
        "System": f"{host.system}, kernel {host.kernel}, {host.architecture}, virtualisation: {host.virtualization}",
        "Product": f"Intramuros {product.version}" + (f", bundle {product.bundle}" if product.bundle else ""),
        "Evidence": f"{evidence.id}, SHA-256 {digest}",
        "Continues": f"{evidence.previous.id}, SHA-256 {evidence.previous.sha256}" if evidence.previous else "nothing",
        "Signing key": evidence.public_key,
        "Rules from": evidence.rules_source,
    }
    return "<dl>" + "".join(f"<dt>{_t(name)}</dt><dd>{_t(value)}</dd>" for name, value in pairs.items()) + "</dl>"


def _tiles(evidence: Evidence) -> str:
    counted = evidence.counts()
    tiles = [("Score", f"{evidence.score():.1f} %", "")]
    tiles += [(_GLYPH[str(status)], str(counted[str(status)]), _class(str(status))) for status in Status]
    items = "".join(f'<li><b class="{css}">{_t(value)}</b>{_t(name)}</li>' for name, value, css in tiles)
    return f'<h2>Summary</h2><ul class="tiles">{items}</ul>' + (
        "<p>The score is the share of passes among the controls that apply. Waived ones are not passes.</p>"
    )


def _before(evidence: Evidence, before: Evidence | None) -> str:
    if before is None:
        return "<h2>Before and after</h2><p>There is no earlier evidence to compare with.</p>"
    label = f" ({before.label})" if before.label else ""
    was, now = before.counts(), evidence.counts()
    rows = [(_GLYPH[str(status)], str(was[str(status)]), str(now[str(status)])) for status in Status]
    rows.append(("Score", f"{before.score():.1f} %", f"{evidence.score():.1f} %"))
    for first in before.referees.openscap:
        for second in (each for each in evidence.referees.openscap if each.profile == first.profile):
            rows += [
                (f"OpenSCAP {first.profile}: {key}", str(counts(first).get(key, 0)), str(counts(second).get(key, 0)))
                for key in ("pass", "fail", "waived", "notapplicable")
            ]
    if before.referees.lynis and evidence.referees.lynis:
        first_index, second_index = before.referees.lynis.hardening_index, evidence.referees.lynis.hardening_index
        rows.append(("Lynis hardening index", str(first_index), str(second_index)))
    found = changes(before, evidence)
    worse = [each for each in found if each.before in {"pass", "waived"} and each.after in {"fail", "error"}]
    text = f"<h2>Before and after</h2><p>Compared with {_t(before.id + label)}: {len(found)} controls changed"
    text += f", {len(worse)} of them for the worse.</p>"
    text += _table(("", f"Before: {before.id}", f"After: {evidence.id}"), rows)
    if worse:
        text += "<h3>For the worse</h3>" + _table(
            ("Control", "Title", "Before", "Now"), [(c.id, c.title, c.observed_before, c.observed_after) for c in worse]
        )
    return text


def _failing(evidence: Evidence) -> str:
    listed = with_status(evidence, Status.FAIL, Status.ERROR)
    if not listed:
        return "<h2>Not in order</h2><p>Nothing: every control that applies passes or is waived.</p>"
    return "<h2>Not in order</h2>" + _verdicts(listed)


def _waived(evidence: Evidence) -> str:
    rows = [
        (each.id, each.title, each.waiver.reason, each.waiver.owner, each.waiver.expiry)
        for each in evidence.controls
        if each.waiver is not None
    ]
    ours = {rule for each in evidence.controls if each.waiver is not None for rule in each.ssg}
    rows += [
        (result.rule, result.title, result.waiver.reason, result.waiver.owner, result.waiver.expiry)
        for result in {each.rule: each for profile in evidence.referees.openscap for each in profile.results}.values()
        if result.waiver is not None and result.rule not in ours
    ]
    text = "<h2>Waived</h2>"
    text += _table(("Control", "Title", "Reason", "Owner", "Until"), rows) if rows else "<p>Nothing is waived.</p>"
    if evidence.expired_waivers:
        text += f"<p><b>Expired, and counted no longer:</b> {_t(', '.join(evidence.expired_waivers))}.</p>"
    return text


def _referees(evidence: Evidence) -> str:
    referees = evidence.referees
    if not referees.openscap and referees.lynis is None:
        return "<h2>Other scanners</h2><p>None has run on this box yet: <code>intramuros evidence scan</code>.</p>"
    text = "<h2>Other scanners</h2><p>They are not ours. Rules that do not apply are counted apart.</p>"
    for profile in referees.openscap:
        counted = counts(profile)
        text += (
            f"<h3>OpenSCAP, profile {_t(profile.profile)}</h3><p>{_t(profile.scanner)}, content {_t(profile.content)},"
        )
        text += f" {_t(when(profile.scanned_at))}: "
        text += _t(", ".join(f"{count} {result}" for result, count in counted.items() if result != "notselected"))
        text += ".</p>"
        failed = [each for each in profile.results if each.result in {"fail", "error"}]
        missing = set(uncovered(evidence.controls, profile))
        if failed:
            text += _table(
                ("Rule", "Title", "OpenSCAP", "Ours"),
                [
                    (
                        each.rule,
                        each.title,
                        "waived" if each.waiver else each.result,
                        _ours(each.rule, evidence, missing),
                    )
                    for each in failed
                ],
            )
    text += f"<h3>Where we differ from OpenSCAP: {len(referees.disagreements)}</h3>"
    text += (
        _table(
            ("Control", "Ours", "Rule", "OpenSCAP", "Why"),
            [(d.control, d.ours, d.rule, d.theirs, d.explanation) for d in referees.disagreements],
        )
        if referees.disagreements
        else "<p>Nowhere.</p>"
    )
    if referees.lynis is not None:
        second = referees.lynis
        text += (
            f"<h3>Lynis {_t(second.version)}</h3><p>Hardening index {second.hardening_index}, {second.tests} tests, "
        )
        text += f"{len(second.warnings)} warnings, {len(second.suggestions)} suggestions.</p>"
        rows = [("warning", each, "") for each in second.warnings]
        rows += [(each.test, each.text, each.answer) for each in second.suggestions]
        text += _table(("Test", "Lynis suggests", "Our answer"), rows) if rows else ""
    return text


def _ours(rule: str, evidence: Evidence, missing: set[str]) -> str:
    if rule in missing:
        return "no control of ours"
    return ", ".join(f"{each.id} {each.status}" for each in evidence.controls if rule in each.ssg)


def _controls(evidence: Evidence) -> str:
    verdicts = {each.id: each for each in evidence.controls}
    results = {each.rule: each.result for profile in evidence.referees.openscap for each in profile.results}
    text = "<h2>Every control</h2>"
    shown: set[str] = set()
    for topic in load_catalogue().topics:
        listed = [verdicts[each.id] for each in topic.control if each.id in verdicts]
        shown |= {each.id for each in listed}
        text += f"<h3>{_t(topic.topic)}</h3>{_verdicts(listed, results)}" if listed else ""
    rest = [each for each in evidence.controls if each.id not in shown]
    return text + (f"<h3>Of an older catalogue</h3>{_verdicts(rest, results)}" if rest else "")


def _verdicts(listed: Sequence[Verdict], results: dict[str, str] | None = None) -> str:
    rows = []
    for each in listed:
        refs = [*(f"CIS {n}" for n in each.cis), *(f"ANSSI {n}" for n in each.anssi)]
        theirs = [f"{rule}: {results[rule]}" if results and rule in results else rule for rule in each.ssg]
        seen = each.reason if each.status in {Status.NOT_APPLICABLE, Status.ERROR} else each.observed
        rows.append(
            "<tr>"
            f'<td>{_t(each.id)}</td><td class="s {_class(str(each.status))}">{_t(_GLYPH[str(each.status)])}</td>'
            f"<td>{_t(each.title)}<br><small>{_t('; '.join(refs))}</small></td>"
            f"<td>{_t(each.expected)}</td><td>{_t(seen)}</td><td><code>{_t(each.source)}</code></td>"
            f"<td><small>{_t(', '.join(theirs))}</small></td></tr>"
        )
    head = "".join(f"<th>{name}</th>" for name in ("Control", "Status", "What", "Asked for", "Seen", "By", "Rules"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _verification(evidence: Evidence, digest: str) -> str:
    return (
        "<h2>Check this without us</h2>"
        "<p>This page is written from <code>evidence.json</code>, which is signed; the page itself is not. With the "
        "box's public key, which was given to you by another way than this page:</p>"
        f"<p><code>python3 verify_evidence.py {_t(evidence.id)} --public-key evidence.pub "
        f"--expect {_t(digest)}</code></p>"
        f"<p><code>openssl pkeyutl -verify -pubin -inkey evidence.pub -rawin -in {_t(evidence.id)}/evidence.json "
        f"-sigfile {_t(evidence.id)}/evidence.sig</code></p>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{_t(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{_t(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _class(status: str) -> str:
    return "na" if status == "not-applicable" else status
