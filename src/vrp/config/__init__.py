"""The study's configuration: types, defaults (their only home), validation.

Stages import the sections that they read, one module each; only the command line and the
workflow import the whole (`vrp.config.study`).
"""
