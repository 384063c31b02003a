"""The study's tables: one schema each, and files that appear whole or not at all."""
