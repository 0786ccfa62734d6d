"""The bill and what it is made of: clocks, ledger, FLOPs, power, prices.

Importing this loads neither torch nor rich; they are imported where they are used.
"""

from frugalrl.cost.bill import make_bill
from frugalrl.cost.doctor import Finding, examine, findings_to_json, render_doctor
from frugalrl.cost.flops import (
    FlopCount,
    bytes_min_adam,
    bytes_min_forward,
    bytes_min_replay_row,
    bytes_min_replay_sample,
    bytes_min_update,
    count_flops,
    count_flops_of,
)
from frugalrl.cost.ledger import Counts, Ledger, Session
from frugalrl.cost.machine import Machine, MachineFacts, detect_machine, usable_cores
from frugalrl.cost.meters import (
    LapTimer,
    NativeThreads,
    ProcessClock,
    ThreadClock,
    Usage,
    thread_ids,
    threads_made_by,
    unclaimed_threads,
)
from frugalrl.cost.money import cost_so_far_eur, eur_per_hour
from frugalrl.cost.power import EnergyCounters
from frugalrl.cost.record import Bill, BillRow, Total, bill_from_json, score_row, to_json
from frugalrl.cost.show import figure, render
from frugalrl.cost.tables import Electricity, MachineProfile, Price, Tables, load_tables
from frugalrl.cost.threads import ThreadPlan, choose_threads, openmp_environment, openmp_trap

__all__ = [
    "Bill",
    "BillRow",
    "Counts",
    "Electricity",
    "EnergyCounters",
    "Finding",
    "FlopCount",
    "LapTimer",
    "Ledger",
    "Machine",
    "MachineFacts",
    "MachineProfile",
    "NativeThreads",
    "Price",
    "ProcessClock",
    "Session",
    "Tables",
    "ThreadClock",
    "ThreadPlan",
    "Total",
    "Usage",
    "bill_from_json",
    "bytes_min_adam",
    "bytes_min_forward",
    "bytes_min_replay_row",
    "bytes_min_replay_sample",
    "bytes_min_update",
    "choose_threads",
    "cost_so_far_eur",
    "count_flops",
    "count_flops_of",
    "detect_machine",
    "eur_per_hour",
    "examine",
    "figure",
    "findings_to_json",
    "load_tables",
    "make_bill",
    "openmp_environment",
    "openmp_trap",
    "render",
    "render_doctor",
    "score_row",
    "thread_ids",
    "threads_made_by",
    "to_json",
    "unclaimed_threads",
    "usable_cores",
]
