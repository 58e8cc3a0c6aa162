"""The engine: one process per loaded model, and the frames it speaks."""
