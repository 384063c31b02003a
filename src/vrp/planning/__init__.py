"""What a checkpoint will need, from its configuration alone: parameters, FLOPs, memory.

Nothing here imports torch or transformers.
"""
