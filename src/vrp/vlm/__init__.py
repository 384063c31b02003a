"""One instrument for vision-language models of several families.

It loads a checkpoint, renders its prompt, answers in batches, and reads attention rows, the
residual stream and the logit lens on the way. It knows torch and transformers, never a table.
"""
