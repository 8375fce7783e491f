"""Write the results section of docs/performance.md from benchmarks/results/*.json.

With --check nothing is written, and the exit code is 1 when the section is stale.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/performance.md"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"
WORK_NAMES = {
    "decode1": "one request, 128 tokens after 16",
    "batch64": "64 requests, 64 tokens each after 16",
    "prompt512": "a prompt of 512 tokens",
    "full": "full fine-tuning, SmolLM2-135M, 8 × 256 tokens",
    "lora": "LoRA rank 16, SmolLM2-135M, 8 × 256 tokens",
    "gpt2": "GPT-2 from scratch, 6 layers of 384, 8 × 256 tokens",
    "lstm": "LSTM, 16 × 128 tokens",
    "perceptron": "perceptron 64 → 256 → 16, batches of 4,096",
}


def main() -> None:
    """Write or check the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    fresh = head + BEGIN + section() + END + rest.split(END)[1]
    if options.check:
        stale = "expected docs/performance.md as the results say, got an older one; run benchmarks/report.py"
        sys.exit(0 if fresh == page else stale)
    PAGE.write_text(fresh)


def section() -> str:
    """Return the tables of all results."""
    parts = []
    for path in sorted((ROOT / "benchmarks/results").glob("*.json")):
        result = json.loads(path.read_text())
        parts.append(f"\n### {path.stem}\n")
        parts.append(origin(result))
        for group, found in result.get("peers", {}).items():
            parts += [inference_table(group, work, report) for work, report in found["works"].items()]
        parts += [threads_table(name, result[name]) for name in ("scaling", "contended") if name in result]
        if "memory" in result:
            parts.append(memory_table(result["memory"]))
        if result["benchmark"] == "serving":
            parts.append(serving_table(result["servers"]))
        if result["benchmark"] == "training":
            parts += [comparison_table(work, found) for work, found in result["works"].items()]
        if result["benchmark"] == "torch training":
            parts += [training_table(work, found) for work, found in result["works"].items()]
    return "\n".join(parts) + "\n"


def origin(result: dict[str, Any]) -> str:
    """Return where and how a result was measured."""
    lines = [f"`{result['command']}`"]
    if "machine" in result:
        machine = result["machine"]
        lines.append(f"{machine['cpu']}, {machine['cores']} cores, {' '.join(machine['simd'])}.")
    if result.get("tuned") is False:
        lines.append("Each engine with the likeliest settings and all threads, others not tried.")
    return "\n".join([*lines, *([result["note"]] if "note" in result else []), ""])


def serving_table(servers: list[dict[str, Any]]) -> str:
    """Return a table of servers: the rate that each held, and what came of it and of the next one."""
    rows = ["| server | requests/s held | tried | first token, p95 | between tokens, p95 | held |"]
    rows.append("|---|---|---|---|---|---|")
    for server in servers:
        for probe in server["probes"]:
            rows.append(
                f"| {server['server']} | {server['requests_per_s_held']:g} | {probe['rate']:g} "
                f"| {probe['first_token_ms']['p95']:,.0f} ms | {probe['between_tokens_ms']['p95']:,.0f} ms "
                f"| {'yes' if probe['held'] else 'no'} |"
            )
    return "\n".join(rows) + "\n"


def inference_table(group: str, work: str, report: dict[str, Any]) -> str:
    """Return a table of engines."""
    share = report.get("share_of_limit")
    title = f"**{group}: {WORK_NAMES[work]}**"
    if share is not None:
        title += f" (limit {report['limit_tokens_per_second']:,.0f} tokens/s; weft reaches {share:.0%})"
    rows = ["| engine | tokens/s | spread | others' load | weft is | oracle's tokens |"]
    rows.append("|---|---|---|---|---|---|")
    for label, engine in report["engines"].items():
        if "error" in engine:
            rows.append(f"| {label} | failed: {engine['error'][:60]} | | | | |")
            continue
        times = report["times_faster"].get(label)
        found = report["validation"].get(label, {})
        right = f"{found['tokens_right'] / found['tokens']:.1%}" if found.get("tokens") else ""
        load = max(engine["foreign_shares"], default=0.0)
        rows.append(
            f"| {label} | {engine['tokens_per_second']:,.1f} | {engine['spread']:.0%} | {load:.0%} "
            f"| {f'{times:.2f} ×' if times else ''} | {right} |"
        )
    return "\n".join([title, "", *rows, ""])


def threads_table(name: str, works: dict[str, Any]) -> str:
    """Return a table of speeds by threads."""
    rows = [f"**{name}**", "", "| work | threads | tokens/s | speed-up |", "|---|---|---|---|"]
    for work, found in works.items():
        for label, engine in found["series"].items():
            if "error" not in engine:
                speed_up = found["speed_up"][label]
                rate = engine["tokens_per_second"]
                rows.append(f"| {WORK_NAMES[work]} | {label} | {rate:,.1f} | {speed_up:.2f} × |")
    return "\n".join([*rows, ""])


def memory_table(memory: dict[str, Any]) -> str:
    """Return resident memory after each work, and the use of an idle machine."""
    rows = [
        f"**memory**, file {memory['file_bytes'] / 1e6:.1f} MB",
        "",
        "| after | resident MB |",
        "|---|---|",
    ]
    rows += [
        f"| {WORK_NAMES[work]} | {used['rss_bytes'] / 1e6:.0f} |" for work, used in memory["works"].items()
    ]
    idle = [f"\nIdle: {memory['idle_cpu_share']:.1%} of a core."] if "idle_cpu_share" in memory else []
    return "\n".join([*rows, *idle, ""])


def comparison_table(work: str, found: dict[str, Any]) -> str:
    """Return a table of one work of training: torch's configurations, then the turns with weft."""
    title = f"**training: {WORK_NAMES[work]}**"
    if "times_faster" in found:
        title += (
            f" (weft is {found['times_faster']:.2f} × torch {found['best']}, with "
            f"{found['memory_share']:.2f} × its memory; 2 threads {found['speed_up']:.2f} × one)"
        )
    if "share_of_limit" in found:
        title += f", {found['share_of_limit']:.0%} of the limit"
    rows = [
        "| | a second | steps | losses from float32 | peak MB | others' load |",
        "|---|---|---|---|---|---|",
    ]
    tried = {f"torch {name}, alone": answer for name, answer in found["tried"].items()}
    for name, answer in (tried | {f"{name}, in turns": one for name, one in found["turns"].items()}).items():
        if "error" in answer:
            rows.append(f"| {name} | failed | | | | |")
            continue
        losses = found["losses"].get(name.removesuffix(", alone").removesuffix(", in turns"))
        away = f"{losses['largest']:.1e}" if losses else ""
        rows.append(
            f"| {name} | {answer['per_second']:,.1f} | {len(answer['seconds'])} | {away} "
            f"| {answer['peak_bytes'] / 1e6:,.0f} | {answer['foreign_share']:.0%} |"
        )
    return "\n".join([title, "", *rows, ""])


def training_table(work: str, found: dict[str, Any]) -> str:
    """Return a table of torch's configurations."""
    rows = [f"**torch: {WORK_NAMES[work]}**", ""]
    rows += [
        "| configuration | a second | steps | loss | peak MB | others' load |",
        "|---|---|---|---|---|---|",
    ]
    for name, answer in found.items():
        if "error" in answer:
            rows.append(f"| {name} | failed | | | | |")
            continue
        losses, peak = answer["losses"], f"{answer['peak_bytes'] / 1e6:,.0f}"
        load = f"{answer['foreign_share']:.0%}"
        curve = f"{losses[0]:.4f} to {losses[-1]:.4f}"
        rows.append(f"| {name} | {answer['per_second']:,.1f} | {len(losses)} | {curve} | {peak} | {load} |")
    return "\n".join([*rows, ""])


if __name__ == "__main__":
    main()
