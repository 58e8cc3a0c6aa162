"""An evidence as OSCAL 1.1.2 assessment results, validated against NIST's JSON schema before anybody gets it.

The vendored schema is the one of OSCAL 1.2.3, which extends 1.1 (docs/decisions/0016); the document keeps to what 1.1.2
has. Identifiers are UUIDs of version 5 over the evidence's digest: the same evidence gives the same document.
"""

from __future__ import annotations

import json
import re
import uuid
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator

from appliance.kernel.errors import InternalError
from installer.evidence.control import Status
from installer.evidence.document import Evidence, Verdict

OSCAL_VERSION = "1.1.2"
_SCHEMA = Path(__file__).parent / "schema" / "oscal_assessment-results_schema.json"
_NAMESPACE = uuid.UUID("6f0c1c52-77f5-5d0c-9b0e-6a1f2f8f2a10")
_OURS = "urn:intramuros:evidence:1"


def oscal_report(evidence: Evidence, before: Evidence | None, digest: str) -> str:
    """Return the document as JSON. `before` has no place in this format. Raises InternalError."""
    document = assessment_results(evidence, digest)
    check(document)
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def check(document: dict[str, Any]) -> None:
    """Validate against the schema. Raises InternalError that names the first places."""
    problems = sorted(_validator().iter_errors(document), key=lambda error: list(map(str, error.absolute_path)))
    if problems:
        said = "; ".join(f"/{'/'.join(map(str, each.absolute_path))}: {each.message[:160]}" for each in problems[:3])
        raise InternalError("evidence.oscal", f"The OSCAL document does not match its schema: {said}.")


@cache
def _validator() -> Draft7Validator:
    schema = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    return Draft7Validator(_portable(schema, top=True))


def _portable(node: Any, *, top: bool = False) -> Any:
    """Make the schema one that Python's `re` and a strict resolver can read, with the same meaning.

    ECMA's `\\p{L}` and `\\p{N}` become what `re` calls letters and digits; inner `$id`s repeat each definition's own
    place and only confuse the resolution of `$ref`.
    """
    if isinstance(node, list):
        return [_portable(each) for each in node]
    if not isinstance(node, dict):
        return node
    found = {key: _portable(value) for key, value in node.items() if top or key != "$id" or not isinstance(value, str)}
    if isinstance(found.get("pattern"), str):
        found["pattern"] = found["pattern"].replace(r"\p{L}", r"[^\W\d_]").replace(r"\p{N}", r"\d")
    return found


def assessment_results(evidence: Evidence, digest: str) -> dict[str, Any]:
    """Build the document."""
    box, plan, party = (_id(digest, name) for name in ("box", "plan", "party"))
    applying = [each for each in evidence.controls if each.status is not Status.NOT_APPLICABLE]
    open_ones = [each for each in applying if each.status in {Status.FAIL, Status.WAIVED, Status.ERROR}]
    result: dict[str, Any] = {
        "uuid": _id(digest, "result"),
        "title": f"Hardening of {evidence.host.name or 'this box'}, profile {evidence.profile}",
        "description": "Live values of the hardening controls, each read from the running system.",
        "start": evidence.collected_at,
        "end": evidence.collected_at,
        "props": _props(
            {
                "evidence-id": evidence.id,
                "evidence-sha256": digest,
                "score-percent": f"{evidence.score():.1f}",
                "catalogue-sha256": evidence.catalogue_sha256,
            }
        ),
        "local-definitions": {
            "components": [
                {
                    "uuid": box,
                    "type": "system",
                    "title": evidence.host.name or "this box",
                    "description": f"{evidence.host.system}, kernel {evidence.host.kernel}",
                    "props": _props({"machine-id-sha256": evidence.host.machine_id, "boot-id": evidence.host.boot}),
                    "status": {"state": "operational"},
                }
            ]
        },
        "reviewed-controls": {
            "control-selections": [{"include-controls": [{"control-id": _token(each.id)} for each in applying]}]
            if applying
            else [{"include-all": {}, "remarks": "No control applies to this machine."}]
        },
        "observations": [_observation(each, evidence, digest, box) for each in evidence.controls],
        "findings": [_finding(each, digest) for each in applying],
    }
    if open_ones:
        result["risks"] = [_risk(each, digest) for each in open_ones]
    result = {key: value for key, value in result.items() if value != []}
    return {
        "assessment-results": {
            "uuid": _id(digest, "document"),
            "metadata": {
                "title": f"Evidence {evidence.id} of {evidence.host.name or 'this box'}",
                "last-modified": evidence.collected_at,
                "version": evidence.product.version,
                "oscal-version": OSCAL_VERSION,
                "parties": [{"uuid": party, "type": "organization", "name": "Intramuros evidence collection"}],
            },
            "import-ap": {"href": f"#{plan}", "remarks": "The catalogue of controls is the plan of this assessment."},
            "results": [result],
            "back-matter": {
                "resources": [
                    {
                        "uuid": plan,
                        "title": "Catalogue of controls",
                        "description": f"SHA-256 {evidence.catalogue_sha256}; rules from {evidence.rules_source}.",
                    },
                    {
                        "uuid": _id(digest, "evidence"),
                        "title": "Signed evidence",
                        "description": f"evidence.json, SHA-256 {digest}, Ed25519 key {evidence.public_key}.",
                    },
                ]
            },
        }
    }


def _observation(verdict: Verdict, evidence: Evidence, digest: str, box: str) -> dict[str, Any]:
    said = {
        "status": str(verdict.status),
        "expected": verdict.expected,
        "observed": verdict.observed,
        "source": verdict.source,
        "cis": " ".join(verdict.cis),
        "anssi": " ".join(verdict.anssi),
        "ssg": " ".join(verdict.ssg),
    }
    return {
        "uuid": _id(digest, f"observation/{verdict.id}"),
        "title": verdict.title,
        "description": verdict.reason or f"Seen: {verdict.observed or 'nothing'}",
        "props": _props(said),
        "methods": ["TEST"],
        "types": ["control-objective"],
        "subjects": [{"subject-uuid": box, "type": "component"}],
        "collected": evidence.collected_at,
    }


def _finding(verdict: Verdict, digest: str) -> dict[str, Any]:
    satisfied = verdict.status is Status.PASS
    reason = {"pass": "pass", "fail": "fail"}.get(str(verdict.status), "other")
    finding: dict[str, Any] = {
        "uuid": _id(digest, f"finding/{verdict.id}"),
        "title": verdict.title,
        "description": verdict.reason or f"Asked for: {verdict.expected or 'see the catalogue'}",
        "target": {
            "type": "objective-id",
            "target-id": _token(verdict.id),
            "status": {"state": "satisfied" if satisfied else "not-satisfied", "reason": reason},
        },
        "related-observations": [{"observation-uuid": _id(digest, f"observation/{verdict.id}")}],
    }
    if not satisfied:
        finding["related-risks"] = [{"risk-uuid": _id(digest, f"risk/{verdict.id}")}]
    return finding


def _risk(verdict: Verdict, digest: str) -> dict[str, Any]:
    risk: dict[str, Any] = {
        "uuid": _id(digest, f"risk/{verdict.id}"),
        "title": verdict.title,
        "description": verdict.reason or f"Asked for {verdict.expected}; seen {verdict.observed or 'nothing'}.",
        "statement": "The control is not met.",
        "status": "open",
    }
    if verdict.waiver is not None:
        risk["statement"] = verdict.waiver.reason
        risk["status"] = "deviation-approved"
        risk["props"] = _props({"waiver-owner": verdict.waiver.owner})
        risk["deadline"] = f"{verdict.waiver.expiry}T23:59:59Z"
    return risk


def _props(values: dict[str, str]) -> list[dict[str, str]]:
    """Return properties; a value may be neither empty nor have space at its ends."""
    kept = {name: re.sub(r"\s+", " ", value).strip() for name, value in values.items()}
    return [{"name": name, "ns": _OURS, "value": value} for name, value in kept.items() if value]


def _id(digest: str, name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{digest}/{name}"))


def _token(identifier: str) -> str:
    return identifier.lower()
