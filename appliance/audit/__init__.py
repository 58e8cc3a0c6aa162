"""The audit trail: a hash chain with signed checkpoints, and the verifier an auditor runs without us."""
