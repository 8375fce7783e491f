"""Which engines meet in which comparison, found through environment variables."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from peers.process import Contender

MODEL = "SmolLM2-135M-Instruct"
WORKS = ("decode1", "batch64", "prompt512")


@dataclass(frozen=True)
class Places:
    """Where peers' environments and models are."""

    peers: Path
    models: Path

    @classmethod
    def from_environment(cls) -> "Places":
        """Read WEFT_PEERS_DIR and WEFT_BENCH_MODELS; the second defaults to `models` in the first."""
        root = os.environ.get("WEFT_PEERS_DIR")
        if not root:
            raise SystemExit("expected WEFT_PEERS_DIR, the directory that benchmarks/peers/setup.sh filled")
        return cls(Path(root), Path(os.environ.get("WEFT_BENCH_MODELS", f"{root}/models")))

    def contender(self, name: str, environment: str, script: str, model: str) -> Contender:
        """Return a contender that runs in one of the peers' environments."""
        return Contender(name, str(self.peers / environment / "bin/python"), script, str(self.models / model))

    def weft(self, model: str) -> Contender:
        """Return weft in the environment that runs this program."""
        return Contender("weft", sys.executable, "weft_peer.py", str(self.models / model))

    def oracle(self) -> Contender:
        """Return the float32 judge of greedy tokens."""
        return self.contender("oracle", "main", "oracle.py", f"{MODEL}-f32")


def quantized(places: Places) -> list[Contender]:
    """Return weft with the 4-bit file, and the peers with 4-bit or 8-bit weights."""
    return [
        places.weft(f"{MODEL}.Q4_1.gguf"),
        places.contender("llama.cpp Q4_1", "llama", "llama_cpp_peer.py", f"{MODEL}.Q4_1.gguf"),
        places.contender("CTranslate2 int8", "main", "ctranslate2_peer.py", "ct2-int8"),
        places.contender("OpenVINO Q4_1", "main", "openvino_peer.py", f"{MODEL}.Q4_1.gguf"),
        places.contender("OpenVINO int8", "main", "openvino_peer.py", "ov-int8"),
        places.contender("OpenVINO int4", "main", "openvino_peer.py", "ov-int4"),
    ]


def one_scale_a_row(places: Places) -> list[Contender]:
    """Return weft with the same file requantized to int8, and the same peers."""
    return [places.weft(f"{MODEL}.Q4_1.gguf@int8"), *quantized(places)[1:]]


def sixteen_bit(places: Places) -> list[Contender]:
    """Return weft with the bfloat16 folder, and the peers at their best without quantization.

    Where a processor lacks bfloat16 arithmetic the peers run the same weights faster in float32, so they may.
    """
    return [
        places.weft(MODEL),
        places.contender("torch", "main", "torch_peer.py", MODEL),
        places.contender("CTranslate2 float32", "main", "ctranslate2_peer.py", "ct2-float32"),
        places.contender("OpenVINO float32", "main", "openvino_peer.py", "ov-fp32"),
        places.contender("OpenVINO float16", "main", "openvino_peer.py", "ov-fp16"),
    ]


GROUPS = {"quantized": quantized, "int8": one_scale_a_row, "bf16": sixteen_bit}
