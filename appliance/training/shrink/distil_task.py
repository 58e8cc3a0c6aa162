"""The job `train.distil`: a student learns to answer as its teacher does, from answers that are computed once.

in/teacher/, in/base/ (the student, optional), in/dataset/{train,heldout}.jsonl  ->  out/ (the student)

A teacher with a classification head makes a classifier, one that writes makes a writing model.
"""

from __future__ import annotations

import time
from typing import Any

from appliance.jobs.workspace import Workspace
from appliance.kernel.errors import BadInput
from appliance.training.recipes.distil import DistilRecipe
from appliance.training.recipes.registry import recipe_of
from appliance.training.runtime import prepare
from appliance.training.shrink import distil_classifier, distil_writer
from appliance.weights.families import ENCODERS, family_of_folder
from appliance.weights.head import has_head


def run(workspace: Workspace) -> dict[str, Any]:
    """Distil. Raises BadInput, IntegrityFailure, StorageFailure or Interrupted."""
    started = time.monotonic()
    spec = workspace.spec
    recipe = recipe_of(DistilRecipe, spec.parameters)
    teacher = workspace.input("teacher")
    if has_head(teacher):
        distil = distil_classifier.distil
    elif family_of_folder(teacher) in ENCODERS:
        raise BadInput(
            "training.teacher_without_head",
            "The teacher is an encoder without a classification head; it has no answers to learn from.",
            hint="Use the outcome of `train classify` as the teacher.",
        )
    else:
        distil = distil_writer.distil
    prepare(threads=spec.environment.threads, device=spec.environment.device)
    return distil(workspace, recipe) | {"job_seconds": round(time.monotonic() - started, 3)}
