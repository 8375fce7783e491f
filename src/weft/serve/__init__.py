"""Continuous batching: sequences, KV blocks, scheduler, sampler, and the engine that steps them."""
