"""The network edge: HTTPS with OpenAI wire types in front, frames to the engine processes behind."""
