"""OpenVINO GenAI as a benchmark peer: `--model` is a GGUF file, or a folder that optimum-intel exported."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino
import openvino_genai
from protocol import Settings, Tokens, serve

KV_CACHE_GIGABYTES = 2


class OpenVinoPeer:
    """One pipeline for each combination of settings that is asked for."""

    name = "openvino-genai"
    packages = ("openvino-genai", "openvino")

    def __init__(self, path: str) -> None:
        self.path = path
        self.pipelines: dict[str, Any] = {}

    def candidates(self, work: str, threads: int) -> list[Settings]:
        """Return every pipeline with the defaults, and the likeliest of them with other precisions."""
        first, *others = ("continuous", "stateful", "paged")
        if work != "batch64":
            first, *others = ("stateful", "paged")
        plain: list[Settings] = [{"pipeline": name, "properties": {}} for name in (first, *others)]
        hints = (
            {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"},
            {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"},
            {"INFERENCE_PRECISION_HINT": "bf16"},
        )
        return plain + [{"pipeline": first, "properties": hint} for hint in hints]

    def pipeline(self, threads: int, settings: Settings) -> Any:
        """Return the loaded pipeline: `continuous` batches over a paged cache, `stateful` is plain."""
        key = json.dumps([threads, settings], sort_keys=True)
        if key not in self.pipelines:
            properties = {"INFERENCE_NUM_THREADS": threads} | settings["properties"]
            if settings["pipeline"] == "continuous":
                self.pipelines[key] = openvino_genai.ContinuousBatchingPipeline(
                    self.path, scheduler(settings), "CPU", properties
                )
            elif settings["pipeline"] == "paged":
                self.pipelines[key] = openvino_genai.LLMPipeline(
                    self.path, "CPU", scheduler_config=scheduler(settings), **properties
                )
            else:
                self.pipelines[key] = openvino_genai.LLMPipeline(
                    self.path, "CPU", ATTENTION_BACKEND="SDPA", **properties
                )
        return self.pipelines[key]

    def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, threads: int, settings: Settings
    ) -> Tokens:
        """Generate greedily, all prompts in one call."""
        pipeline = self.pipeline(threads, settings)
        config = openvino_genai.GenerationConfig(max_new_tokens=max_tokens, ignore_eos=True, do_sample=False)
        if settings["pipeline"] == "continuous":
            rows = [openvino.Tensor(np.array([prompt], dtype=np.int64)) for prompt in prompts]
            results = pipeline.generate(rows, [config] * len(prompts))
            return [list(result.m_generation_ids[0]) for result in results]
        ids = np.array(prompts, dtype=np.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        return [list(tokens) for tokens in pipeline.generate(inputs, config).tokens]


def scheduler(settings: Settings) -> openvino_genai.SchedulerConfig:
    """Return the scheduler's configuration: no prefix cache, every prompt in one step unless told."""
    config = openvino_genai.SchedulerConfig()
    config.cache_size = KV_CACHE_GIGABYTES
    config.enable_prefix_caching = False
    config.max_num_batched_tokens = settings.get("batched_tokens", 2048)
    config.max_num_seqs = 64
    config.dynamic_split_fuse = settings.get("split_fuse", True)
    return config


if __name__ == "__main__":
    serve(OpenVinoPeer)
