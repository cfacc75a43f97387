"""Rows as every part of the study leaves them, made up."""

import numpy as np

POLICIES = ("edge_only", "closed_form", "best_response", "learned")
OVER = {"edge_only": 0.6, "closed_form": 0.03, "best_response": 0.0, "learned": 0.002}


def system_row(policy, **labels):
    over = OVER[policy]
    return {
        **labels,
        "policy": policy,
        "reference": "best_response",
        "delay_s": 0.1 * (1 + over),
        "delay_s_ci95": 0.01,
        "equal_energy": 0.1 * (1 + over),
        "long_run_gap": 0.01 + over,
        "long_run_gap_ci95": 0.003,
        "over_reference": over,
        "over_reference_ci95": 0.005 if over else 0.0,
        "p_value": 1e-6 if over > 0.005 else 0.4 if over else 1.0,
        "device_energy": 1.2 if policy == "edge_only" else 0.97,
        "device_energy_ci95": 0.01,
        "server_energy": 0.9,
        "server_energy_ci95": 0.02,
        "device_queue": 40.0,
        "device_queue_ci95": 2.0,
        "devices_over": 0.05,
        "stable": 0.99,
        "certified_gap_mean": 0.01,
        "certified_gap_p99": 0.05,
        "decision_us": 12.0,
    }


def size(**more):
    facts = {"episodes": 8, "slots": 30, "ascent_slots": 100, "warm_up": "no slot is left out", "comparisons": 3}
    return facts | more


def policies():
    return [system_row(policy) for policy in POLICIES]


def tradeoff():
    rows = []
    for v in (1.0, 10.0, 100.0, 1000.0):
        for policy in POLICIES[1:]:
            row = system_row(policy, tradeoff=v)
            row |= {"delay_s": 0.1 + 0.2 / v, "device_queue": 4.0 * v}
            row |= {"delay_over_first": (0.2 / v - 0.2) / 0.3, "delay_over_first_ci95": 0.05}
            rows.append(row)
    return rows


def sensitivity():
    return [
        {**row, "delay_s": row["delay_s"] / factor}
        for quantity in ("bandwidth", "distance")
        for factor in (0.5, 1.0, 2.0)
        for row in (system_row(policy, quantity=quantity, factor=factor) for policy in POLICIES[1:])
    ]


def users():
    return [
        {**row, "reference": "closed_form", "delay_s": row["delay_s"] * (1 + number / 10)}
        for mode in ("fixed", "growing")
        for number in (4, 10, 50)
        for row in (system_row(policy, users=number, mode=mode) for policy in ("closed_form", "learned"))
    ]


def trajectories():
    return [
        {
            "policy": policy,
            "slot": slot,
            "delay_s": 0.1 + 1.0 / slot,
            "device_queue": 40.0 * (1 - np.exp(-slot / 20)),
            "server_queue": 30.0 * (1 - np.exp(-slot / 20)),
            "device_energy": 1.0 + 2.0 / slot,
            "server_energy": 0.9 + 1.0 / slot,
        }
        for policy in POLICIES[1:]
        for slot in range(5, 200, 5)
    ]


def cuts():
    return [
        {
            "policy": policy,
            "network": network,
            "device": device,
            "state": state,
            "quarter": quarter,
            "low": quarter - 1.0,
            "high": float(quarter),
            "on_device": (0.9 - 0.2 * quarter) if state == "channel" else 0.4,
            "on_device_ci95": 0.02,
            "cut": quarter,
            "cut_share": 0.6,
            "count": 100,
            "episodes": 8,
        }
        for policy in ("best_response", "learned")
        for network in ("resnet18", "alexnet")
        for device in ("raspberry_pi_4", "jetson_nano")
        for state in ("channel", "queue", "arrivals")
        for quarter in (1, 2, 3, 4)
    ]


def percentiles():
    rows = []
    for policy in POLICIES[1:]:
        row = {
            "policy": policy,
            "reference": "best_response",
            "requests": 10_000,
            "settled": "True",
            "warm_up_slots": 20,
        }
        for name, value in {
            "delay_s": 0.1,
            "p50_s": 0.08,
            "p95_s": 0.3,
            "p99_s": 0.9,
            "late": 0.02,
            "backlog_s": 0.2,
        }.items():
            over = value * OVER[policy]
            row |= {name: value + over, f"{name}_half_width": 0.1 * value}
            row |= {f"{name}_over_reference": over, f"{name}_over_reference_half_width": 0.01 * value}
        rows.append(row)
    return rows


def learning():
    curves = [
        {"kind": "curve", "learner": "learned", "seed": seed, "steps": steps, "seconds": steps / 1e4,
         "objective": 1000 + 1e7 / steps * (1 + 0.1 * seed)}
        for seed in (0, 1)
        for steps in np.geomspace(1e3, 1e6, 20)
    ]  # fmt: skip
    runs = [
        {
            "kind": "run",
            "learner": "learned",
            "seed": seed,
            "gap_mean": 0.005,
            "gap_p99": 0.05,
            "steps": 1e6,
            "seconds": 90.0,
        }
        for seed in (0, 1)
    ]
    pooled = {
        "kind": "pooled",
        "learner": "learned",
        "gap_mean": 0.005,
        "gap_mean_low": 0.004,
        "gap_mean_high": 0.006,
    }
    return [*runs, pooled, *curves]


def ablations():
    return [
        {
            "variant": variant,
            "delay_s": 0.1 * (1 + over),
            "delay_s_ci95": 0.01,
            "device_energy": energy,
            "device_energy_ci95": 0.02,
            "server_energy": 0.9,
            "server_energy_ci95": 0.02,
            "devices_over": 0.1,
            "delay_s_over_full": over,
            "delay_s_over_full_ci95": 0.02,
            "equal_energy_over_full": 1.5 * over,
            "equal_energy_over_full_ci95": 0.02,
        }
        for variant, over, energy in (
            ("full system", 0.0, 0.97),
            ("equal shares", 0.3, 0.98),
            ("energy ignored", -0.1, 3.0),
            ("independent queues", 0.01, 0.97),
        )
    ]


def generality():
    return [
        {
            "task": task,
            "policy": "trained here",
            "gap_learned": 0.01,
            "gap_closed_form": 0.02,
            "gap_best_response": 0.002,
            "delay_over_closed_form": over,
            "delay_over_closed_form_ci95": 0.005,
        }
        for task, over in (("coinfer4:3", -0.01), ("mobile", 0.02), ("coinfer10", 0.001))
    ]


PARTS = {
    "policies": policies,
    "learning": learning,
    "tradeoff": tradeoff,
    "sensitivity": sensitivity,
    "users": users,
    "trajectories": trajectories,
    "cuts": cuts,
    "percentiles": percentiles,
    "ablations": ablations,
    "generality": generality,
}
