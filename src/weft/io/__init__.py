"""Model files: GGUF, safetensors, tokenizers, chat templates, where models come from, and the packed cache.

Everything here treats its input as hostile: sizes are checked before memory is asked for, nothing in a
file is executed, and each refusal is one `WeftError` that says what was expected, what came, what to do.
Importing this package imports nothing heavy; import the module that is needed.
"""
