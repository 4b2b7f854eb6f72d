"""The output of scripts/bench: tables of medians, and aims that are met or missed."""

from __future__ import annotations


def table(title: str, medians: dict[str, float], base: str) -> None:
    print(f"\n{title}")
    for name, m in sorted(medians.items(), key=lambda item: item[1]):
        row = f"  {name:<16} {m:>12,.1f} {m / medians[base]:>10.2f} x {base}"
        print(f"{row:<62} {m / medians['persist']:>8.2f} x persist" if "persist" in medians else row)


def aim(aims: list[str], what: str, got: float, bound: float, at_least: bool = False) -> None:
    met = got >= bound if at_least else got <= bound
    aims.append(
        f"  {'PASS' if met else 'MISS'}  {what}: {got:.2f} (aim {'>=' if at_least else '<='} {bound:g})"
    )
