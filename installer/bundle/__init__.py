"""The offline bundle: collected, built, signed, verified. Nothing of a medium is believed before its signature is."""
