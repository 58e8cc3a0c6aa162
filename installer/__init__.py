"""From a signed bundle to a hardened, serving box; runs on a bare machine."""
