"""Measures how a model is served fastest on this box: number formats, threads, batches, and the roofline above them."""
