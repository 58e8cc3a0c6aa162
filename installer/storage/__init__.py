"""The encrypted data volume: LUKS2, its keyslots, their proofs and rotations, its header's backup, and unlocking."""
