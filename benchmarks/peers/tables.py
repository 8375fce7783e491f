"""Print the results of a comparison as tables."""

from typing import Any


def print_group(group: str, works: dict[str, Any]) -> None:
    """Print one table a work: rate, spread, and how many times faster weft is."""
    for work, result in works.items():
        share = result["share_of_limit"]
        reached = f", weft reaches {share:.0%}" if share is not None else ""
        print(f"\n{group}, {work}: limit {result['limit_tokens_per_second']:.0f} tokens/s{reached}")
        print(f"{'engine':22}{'tokens/s':>10}{'spread':>8}{'weft is':>9}{'right':>8}{'prefix':>8}")
        for label, engine in result["engines"].items():
            if "error" in engine:
                print(f"{label:22}failed: {engine['error'][:80]}")
                continue
            times = result["times_faster"].get(label)
            found = result["validation"].get(label, {})
            right = f"{found['tokens_right'] / found['tokens']:.1%}" if "tokens_right" in found else ""
            prefix = f"{found['common_prefix_mean']:.1f}" if "common_prefix_mean" in found else ""
            shown = f"{times:.2f} x" if times else ""
            print(
                f"{label:22}{engine['tokens_per_second']:10.1f}{engine['spread']:8.1%}"
                f"{shown:>9}{right:>8}{prefix:>8}"
            )


def print_threads(title: str, works: dict[str, Any]) -> None:
    """Print rates and speed-ups by number of threads."""
    print(f"\n{title}\n{'work':12}{'threads':>8}{'tokens/s':>10}{'spread':>8}{'speed-up':>10}")
    for work, result in works.items():
        for label, engine in result["series"].items():
            if "error" in engine:
                print(f"{work:12}{label:>8} failed: {engine['error'][:80]}")
                continue
            speed_up = result["speed_up"][label]
            print(
                f"{work:12}{label:>8}{engine['tokens_per_second']:10.1f}{engine['spread']:8.1%}"
                f"{speed_up or float('nan'):10.2f}"
            )


def print_memory(result: dict[str, Any]) -> None:
    """Print the resident memory after each work and the idle processor share."""
    print(f"\nmemory: file {result['file_bytes'] / 1e6:.1f} MB")
    for work, used in result["works"].items():
        print(
            f"  after {work}: {used['rss_bytes'] / 1e6:.1f} MB, "
            f"{used['rss_over_file_bytes'] / 1e6:.1f} MB over the file"
        )
    if "idle_cpu_share" in result:
        print(f"  idle: {result['idle_cpu_share']:.1%} of one core")
    if "error" in result:
        print(f"  failed: {result['error'][:80]}")
