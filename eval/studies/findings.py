"""Sentences from rows, only what the numbers bear: where an interval holds zero, no difference is seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from scipy.special import ndtri, stdtrit

from jaxmec.evaluation import holm
from jaxmec.evaluation.tables import Row

LEVEL = 0.05  # of all comparisons of a table together
FEWEST_EPISODES = 5  # that a change of cuts has to be seen in
MOST_LISTED = 5  # systems that a sentence names one by one
BUDGETS = {"device_energy": "the devices", "server_energy": "the server"}
STATE_WORDS = {
    "channel": ("worst channels", "best channels"),
    "queue": ("emptiest energy queues", "fullest energy queues"),
    "arrivals": ("fewest arrivals", "most arrivals"),
}


def number(row: Row, name: str) -> float:
    """A row's number; not a number where it has none."""
    return float(row.get(name, math.nan))


def percent(value: float, half: float) -> str:
    """A share without its sign, "1.2 ± 0.3 %"."""
    digits = 0 if abs(value) >= 0.1 and half >= 0.01 else 1 if half >= 0.001 or abs(value) >= 0.1 else 2
    return f"{100 * abs(value):.{digits}f} ± {100 * half:.{digits}f} %"


def direction(value: float, half: float) -> int:
    """-1 or 1 where the interval excludes zero, and 0 where it holds it or there is none."""
    return int(np.sign(value)) if math.isfinite(half) and abs(value) > half else 0


def listed(names: Iterable[str]) -> str:
    """Names as in a sentence: a, b and c."""
    names = list(names)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def compared(
    rows: Sequence[Row], name: str, value: str, half: str, than: str, words: tuple[str, str]
) -> list[str]:
    """Who is less, who is more, and of whom no difference is seen: at most three sentences.

    Args:
      rows: one for each that is compared, with its difference and the half-width of its interval.
      name: column of what is compared.
      value: column of the difference, a share.
      half: column of its half-width.
      than: what all are compared with.
      words: for less and for more, "faster" and "slower".
    """
    sides: dict[int, list[str]] = {-1: [], 1: [], 0: []}
    for row in rows:
        difference, width = number(row, value), number(row, half)
        side = direction(difference, width)
        by = f" by {percent(difference, width)}" if side else ""
        sides[side].append(f"{row[name]}{by}")
    found = [
        f"{word} than {than}: {listed(sides[side])}."
        for side, word in zip((-1, 1), words, strict=True)
        if sides[side]
    ]
    if sides[0]:
        found.append(f"no difference from {than} is seen: {listed(sides[0])}.")
    return [text[0].upper() + text[1:] for text in found]


def budget(row: Row, name: str) -> str:
    """Whether a budget is met in the mean, and by how much: "met with 3.1 ± 0.2 % to spare"."""
    use, half = number(row, name), number(row, f"{name}_ci95")
    side = direction(use - 1.0, half)
    if side == 0:
        return f"used up within the interval ({100 * use:.1f} ± {100 * half:.1f} %)"
    return (
        f"met with {percent(use - 1.0, half)} to spare" if side < 0 else f"exceeded by {percent(use - 1.0, half)}"
    )


def significant(rows: Sequence[Row]) -> list[Row]:
    """The rows, with intervals widened to nothing where Holm's correction over all of them sees no difference."""
    adjusted = holm([number(row, "p_value") for row in rows]) if rows else []
    return [
        row if p < LEVEL else {**row, "over_reference_ci95": math.inf}
        for row, p in zip(rows, adjusted, strict=True)
    ]


def of_policies(rows: Sequence[Row]) -> list[str]:
    """Delay at equal energy against the reference, corrected for the number of comparisons, and budgets."""
    reference = str(rows[0]["reference"])
    others = significant([row for row in rows if row["policy"] != reference])
    found = compared(
        others,
        "policy",
        "over_reference",
        "over_reference_ci95",
        f"{reference} at equal energy",
        ("faster", "slower"),
    )
    for name, whose in BUDGETS.items():
        over = [row for row in rows if direction(number(row, name) - 1.0, number(row, f"{name}_ci95")) > 0]
        if over:
            by = listed(f"{row['policy']} ({budget(row, name)})" for row in over)
            found.append(f"The budget of {whose} is not met in the mean by {by}.")
        else:
            found.append(f"No policy is seen to exceed the budget of {whose} in the mean.")
    return found


def of_learning(rows: Sequence[Row]) -> list[str]:
    """What the learners' runs reach, pooled."""
    found = []
    for row in rows:
        if row["kind"] == "pooled":
            seeds = sum(one["kind"] == "run" and one["learner"] == row["learner"] for one in rows)
            low, high = number(row, "gap_mean_low"), number(row, "gap_mean_high")
            interval = f" (95 % interval {100 * low:.2f} to {100 * high:.2f} %)" if math.isfinite(low) else ""
            found.append(
                f"{row['learner']}, {seeds} seed{'s' * (seeds != 1)}: the mean certified gap of its most probable cuts "
                f"is {100 * number(row, 'gap_mean'):.2f} %{interval}."
            )
    return found


def of_tradeoff(rows: Sequence[Row]) -> list[str]:
    """What V does to delay and queues, of the reference."""
    reference = str(rows[0]["reference"])
    mine = sorted((row for row in rows if row["policy"] == reference), key=lambda row: number(row, "tradeoff"))
    low, high = mine[0], mine[-1]
    span = f"from V = {number(low, 'tradeoff'):g} to {number(high, 'tradeoff'):g}"
    found = [ends(low, high, "delay_s", f"The mean delay of {reference}", span, "s")]
    queues = np.array([number(row, "device_queue") for row in mine])
    if len(mine) >= 3 and (queues > 0).all():
        slope, half = slope_and_interval(np.log([number(row, "tradeoff") for row in mine]), np.log(queues))
        found.append(
            f"Its devices' queues grow as V to the power {slope:.2f} ± {half:.2f} over these values; the theory's "
            "bound is linear in V."
            if direction(slope, half) > 0
            else "Its devices' queues are not seen to grow with V over these values."
        )
    found.append(budgets_over(mine, "tradeoff", "V = {:g}", reference))
    return found


def of_sensitivity(rows: Sequence[Row], learned: str | None) -> list[str]:
    """What each quantity does to the reference's delay, and to the distance of the learner."""
    reference = str(rows[0]["reference"])
    found = []
    for quantity in dict.fromkeys(str(row["quantity"]) for row in rows):
        mine = sorted((row for row in rows if row["quantity"] == quantity), key=lambda row: number(row, "factor"))
        own = [row for row in mine if row["policy"] == reference]
        span = (
            f"from {number(own[0], 'factor'):g} to {number(own[-1], 'factor'):g} times the scenario's {quantity}"
        )
        found.append(ends(own[0], own[-1], "delay_s", f"The mean delay of {reference}", span, "s"))
    if learned:  # the scenario as it is is one system, whatever the quantity
        systems = [row for row in rows if number(row, "factor") != 1.0 or row["quantity"] == rows[0]["quantity"]]
        found += everywhere(systems, learned, reference, _multiple)
    return found


def _multiple(row: Row) -> str:
    """A system of the sensitivity's, in words."""
    factor = number(row, "factor")
    return "the scenario as it is" if factor == 1.0 else f"{row['quantity']} × {factor:g}"


def of_users(rows: Sequence[Row], learned: str | None) -> list[str]:
    """What the number of users does, and where the learner is better than the closed form."""
    found = []
    reference = str(rows[0]["reference"])
    words = {"fixed": "the same band and server", "growing": "a band and a server that grow with them"}
    for mode in dict.fromkeys(str(row["mode"]) for row in rows):
        mine = sorted(
            (row for row in rows if row["mode"] == mode and row["policy"] == reference),
            key=lambda row: number(row, "users"),
        )
        span = f"from {number(mine[0], 'users'):g} to {number(mine[-1], 'users'):g} users with {words[mode]}"
        found.append(ends(mine[0], mine[-1], "delay_s", f"The mean delay of {reference}", span, "s"))
    if learned:
        found += everywhere(rows, learned, reference, lambda row: f"{number(row, 'users'):g} users, {row['mode']}")
    return found


def of_trajectories(rows: Sequence[Row]) -> list[str]:
    """Where the running means of energy end."""
    found = []
    for name, whose in BUDGETS.items():
        last = {str(row["policy"]): row for row in rows}
        ends_at = listed(f"{number(row, name):.3f} ({policy})" for policy, row in last.items())
        slot = number(next(iter(last.values())), "slot")
        found.append(
            f"After {slot:g} slots from empty queues, the energy of {whose} over the budget is {ends_at}."
        )
    return found


def of_cuts(rows: Sequence[Row]) -> list[str]:
    """How far each state moves work to or from the device: the pair of network and device that it moves the most."""
    found = []
    for policy in dict.fromkeys(str(row["policy"]) for row in rows):
        for state, (low_word, high_word) in STATE_WORDS.items():
            mine = [row for row in rows if row["policy"] == policy and row["state"] == state]
            pairs = len({(row["network"], row["device"]) for row in mine})
            moved = [move for first in mine for last in mine if (move := _move(first, last, pairs)) is not None]
            if not moved:
                found.append(f"{policy}: no difference between the {low_word} and the {high_word} is seen.")
                continue
            first, last, change, half = max(moved, key=lambda move: abs(move[2]))
            found.append(
                f"{policy}: between the {low_word} and the {high_word} the share of work on the device changes most "
                f"for {first['network']} on {first['device']}, from {number(first, 'on_device'):.2f} to "
                f"{number(last, 'on_device'):.2f} ({change:+.2f} ± {half:.2f})."
            )
    return found


def _move(first: Row, last: Row, pairs: int) -> tuple[Row, Row, float, float] | None:
    """From a first to a last quarter of the same network and device, where their intervals tell them apart.

    The largest of many changes is told, so the interval is one that all pairs keep together (Bonferroni); changes that
    too few episodes have seen are left out.
    """
    same = (first["network"], first["device"]) == (last["network"], last["device"])
    if not same or first["quarter"] != 1 or last["quarter"] != 4:
        return None
    change = number(last, "on_device") - number(first, "on_device")
    if min(number(first, "episodes"), number(last, "episodes")) < FEWEST_EPISODES:
        return None
    wider = float(ndtri(1.0 - LEVEL / (2 * pairs)) / ndtri(1.0 - LEVEL / 2))
    half = wider * math.hypot(number(first, "on_device_ci95"), number(last, "on_device_ci95"))
    return (first, last, change, half) if direction(change, half) else None


def of_percentiles(rows: Sequence[Row], reference: str) -> list[str]:
    """95th percentiles and deadline misses against the reference."""
    found = []
    base = next(row for row in rows if row["policy"] == reference)
    found.append(
        f"{reference}: half of the requests are served within {number(base, 'p50_s'):.3g} s, 95 % within "
        f"{number(base, 'p95_s'):.3g} s, and {100 * number(base, 'late'):.2f} ± "
        f"{100 * number(base, 'late_half_width'):.2f} % miss their deadline."
    )
    others = [row for row in rows if row["policy"] != reference]
    for name, what, words in (
        ("p95_s", "95th percentile", ("smaller", "larger")),
        ("late", "share of late requests", ("smaller", "larger")),
    ):
        scale = number(base, name)
        if scale > 0:
            shares = [
                {
                    "policy": row["policy"],
                    "over": number(row, f"{name}_over_reference") / scale,
                    "half": number(row, f"{name}_over_reference_half_width") / scale,
                }
                for row in others
            ]
            for text in compared(shares, "policy", "over", "half", reference, words):
                found.append(f"{what[0].upper()}{what[1:]}, {text[0].lower()}{text[1:]}")
    return found


def of_ablations(rows: Sequence[Row]) -> list[str]:
    """What each part is worth at equal energy, and what becomes of the budgets."""
    full, *others = rows
    found = compared(
        others,
        "variant",
        "equal_energy_over_full",
        "equal_energy_over_full_ci95",
        f"the {full['variant']} at equal energy",
        ("faster", "slower"),
    )
    for row in others:
        over = [name for name in BUDGETS if direction(number(row, name) - 1.0, number(row, f"{name}_ci95")) > 0]
        if over:
            by = listed(
                f"{BUDGETS[name]} by {percent(number(row, name) - 1.0, number(row, f'{name}_ci95'))}"
                for name in over
            )
            found.append(f'With "{row["variant"]}" budgets are not met: {by}.')
    return found


def of_generality(rows: Sequence[Row]) -> list[str]:
    """Where a trained policy is better or worse than the closed form."""
    found = []
    for policy in dict.fromkeys(str(row["policy"]) for row in rows):
        mine = [row for row in rows if row["policy"] == policy]
        texts = compared(
            mine,
            "task",
            "delay_over_closed_form",
            "delay_over_closed_form_ci95",
            "the closed form at equal energy",
            ("faster", "slower"),
        )
        found += [f"The policy {policy}, {text[0].lower()}{text[1:]}" for text in texts]
    return found


def ends(low: Row, high: Row, metric: str, subject: str, span: str, unit: str) -> str:
    """What becomes of a metric between two rows.

    A change is one whose paired interval excludes zero, or without one where the two intervals do not overlap.
    """
    a, b = number(low, metric), number(high, metric)
    half_a, half_b = number(low, f"{metric}_ci95"), number(high, f"{metric}_ci95")
    if low is high:
        return f"{subject} is {a:.3g} ± {half_a:.2g} {unit}."
    over, half = number(high, "delay_over_first"), number(high, "delay_over_first_ci95")
    if math.isfinite(over):  # the same episodes at both ends
        values = f"({a:.3g} and {b:.3g} {unit})"
        word = {-1: "falls", 1: "rises", 0: ""}[direction(over, half)]
        if not word:
            return f"{subject} is not seen to change {span} {values}."
        return f"{subject} {word} by {percent(over, half)} {span} {values}."
    if not abs(b - a) > half_a + half_b:
        return f"{subject} is not seen to change {span}: {a:.3g} ± {half_a:.2g} and {b:.3g} ± {half_b:.2g} {unit}."
    word = "falls" if b < a else "rises"
    return f"{subject} {word} from {a:.3g} ± {half_a:.2g} to {b:.3g} ± {half_b:.2g} {unit} {span}."


def budgets_over(rows: Sequence[Row], column: str, form: str, policy: str) -> str:
    """At which values the budgets are exceeded."""
    over = [
        row
        for row in rows
        if any(direction(number(row, name) - 1.0, number(row, f"{name}_ci95")) > 0 for name in BUDGETS)
    ]
    if not over:
        return f"{policy} is not seen to exceed a budget in the mean at any value."
    return f"{policy} exceeds a budget in the mean at {listed(form.format(number(row, column)) for row in over)}."


def everywhere(rows: Sequence[Row], policy: str, reference: str, place: Callable[[Row], str]) -> list[str]:
    """In how many of the systems a policy is faster or slower than the reference at equal energy, and in which."""
    mine = [row for row in rows if row["policy"] == policy]
    told = []

    def at(row: Row) -> str:
        return f"{place(row)} by {percent(*_over(row))}"

    for side, word in ((-1, "faster"), (1, "slower")):
        found = sorted((row for row in mine if direction(*_over(row)) == side), key=lambda row: abs(_over(row)[0]))
        if len(found) > MOST_LISTED:
            where = f" (from {at(found[0])} to {at(found[-1])})"
        else:
            where = f" ({listed(map(at, found))})" if found else ""
        told.append(f"{word} in {len(found)}{where}")
    told.append(f"no difference seen in {sum(direction(*_over(row)) == 0 for row in mine)}")
    systems = f"{len(mine)} systems" if len(mine) > 1 else "one system"
    return [f"{policy} against {reference} at equal energy, of {systems}: {', '.join(told)}."]


def _over(row: Row) -> tuple[float, float]:
    return number(row, "over_reference"), number(row, "over_reference_ci95")


def slope_and_interval(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least-squares slope and the half-width of its 95 % interval (Student's t)."""
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    residual = y - y.mean() - slope * centred
    error = math.sqrt(float(residual @ residual) / (len(x) - 2) / float(centred @ centred))
    return slope, float(stdtrit(len(x) - 2, 0.975)) * error


Facts = Mapping[str, object]


def caption(facts: Facts) -> str:
    """Seeds, episodes, slots, warm-up and the number of comparisons, in words."""
    parts = []
    if seeds := facts.get("seeds"):
        assert isinstance(seeds, Mapping)
        parts.append("seeds: " + ", ".join(f"{name} {count}" for name, count in seeds.items()))
    parts.append(f"{facts['episodes']} episodes of {facts['slots']} slots, the same for all")
    parts.append(str(facts["warm_up"]))
    text = "; ".join(parts) + "."
    text = text[0].upper() + text[1:]
    if comparisons := facts.get("comparisons"):
        text += f" Intervals are 95 % each, of {comparisons} comparisons here."
    return text
