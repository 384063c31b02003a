"""The embedded scenes: seeded images, questions about them, and their official-format files."""
